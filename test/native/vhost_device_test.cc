#include "core/vhost/vhost_device.h"

#include <cerrno>
#include <cstring>

#include "check.h"
#include "suites.h"

namespace tunsock::test {

namespace {

void CheckRefused(const char* path, SysResult error, const char* step) {
  VhostDevice device;
  const Failure failure = VhostDevice::Open(path, true, &device);
  CHECK(failure.error == error && std::strcmp(failure.syscall, step) == 0, std::string("refused: ") + path);
  CHECK(device.fd() == -1, "and nothing is left of it");
}

}  // namespace

/// What needs no kernel with vhost-net; the rest is in test/vm/guest.
void TestVhostDevice() {
  CheckRefused("/nonexistent/vhost-net", -ENOENT, "open");
  CheckRefused("/dev/null", -ENOTTY, "VHOST_SET_OWNER");
  VhostDevice closed;
  closed.RemoveBackend();
  closed.Close();
}

}  // namespace tunsock::test
