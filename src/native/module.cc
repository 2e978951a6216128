#include <napi.h>

#include "binding/channel_binding.h"
#include "binding/checksum_binding.h"
#include "binding/device_binding.h"
#include "binding/link_binding.h"
#include "binding/monitor_binding.h"
#include "binding/netns_binding.h"
#include "binding/poller.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  tunsock::RegisterChecksumBinding(env, exports);
  tunsock::RegisterChannelBinding(env, exports);
  tunsock::RegisterDeviceBinding(env, exports);
  tunsock::RegisterLinkBinding(env, exports);
  tunsock::RegisterMonitorBinding(env, exports);
  tunsock::RegisterNetnsBinding(env, exports);
  tunsock::RegisterPoller(env, exports);
  return exports;
}

NODE_API_MODULE(tunsock, Init)
