#include "core/host/control_message.h"

#include <sys/socket.h>

#include <algorithm>

namespace tunsock {
namespace {

/// linux/socket.h since 6.5; the C library's headers may be older.
constexpr int kPidfd = 4;

void TakeDescriptors(Bytes data, std::vector<int>* descriptors) {
  for (int fd = -1; data.Read(&fd); data = data.Skip(sizeof fd)) descriptors->push_back(fd);
}

}  // namespace

ControlInfo ParseControl(Bytes control) {
  ControlInfo info;
  cmsghdr header{};
  while (control.Read(&header) && header.cmsg_len >= CMSG_LEN(0)) {
    const size_t length = std::min<size_t>(header.cmsg_len, control.size);
    const Bytes data = Bytes{control.data, length}.Skip(CMSG_LEN(0));
    if (header.cmsg_level == SOL_SOCKET) {
      if (header.cmsg_type == SCM_RIGHTS) TakeDescriptors(data, &info.descriptors);
      if (header.cmsg_type == kPidfd) TakeDescriptors(data, &info.added);
      if (header.cmsg_type == SCM_CREDENTIALS) info.credentials = true;
    }
    control = control.Skip(CMSG_ALIGN(length));
  }
  return info;
}

}  // namespace tunsock
