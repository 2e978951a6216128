#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "core/host/control_message.h"
#include "suites.h"

namespace tunsock::test {

namespace {

using Raw = std::vector<uint8_t>;
constexpr int kPidfd = 4;  // SCM_PIDFD in linux/socket.h

/// A control message that says it is `said` bytes long, with padding after it unless it is `cut`.
Raw Control(int type, const std::vector<int>& words, size_t said = 0, bool cut = false, int level = SOL_SOCKET) {
  const size_t length = CMSG_LEN(words.size() * sizeof(int));
  Raw raw(cut ? length : CMSG_ALIGN(length));
  cmsghdr header{};
  header.cmsg_level = level;
  header.cmsg_type = type;
  header.cmsg_len = said == 0 ? length : said;
  std::memcpy(raw.data(), &header, sizeof header);
  if (!words.empty()) std::memcpy(raw.data() + CMSG_LEN(0), words.data(), words.size() * sizeof(int));
  return raw;
}

Raw operator+(Raw one, const Raw& other) {
  one.insert(one.end(), other.begin(), other.end());
  return one;
}

struct Case {
  std::string what;
  Raw raw;
  std::vector<int> descriptors;
  std::vector<int> added;
  bool credentials;
};

}  // namespace

void TestControlMessages() {
  const Raw credentials = Control(SCM_CREDENTIALS, {1, 2, 3});
  const Raw rights = Control(SCM_RIGHTS, {7, 8, 9});
  const Case cases[] = {
      {"nothing: the end of a connection", {}, {}, {}, false},
      {"a message without descriptors", credentials, {}, {}, true},
      {"credentials, then descriptors", credentials + rights, {7, 8, 9}, {}, true},
      {"descriptors in two messages", rights + Control(SCM_RIGHTS, {4}), {7, 8, 9, 4}, {}, false},
      {"a pidfd that nobody sent", rights + Control(kPidfd, {5}), {7, 8, 9}, {5}, false},
      {"the last one without padding", Control(SCM_RIGHTS, {7}, 0, true), {7}, {}, false},
      {"half a descriptor", Control(SCM_RIGHTS, {7, 8}, CMSG_LEN(6)), {7}, {}, false},
      {"a length beyond the data", Control(SCM_RIGHTS, {7, 8}, 4096), {7, 8}, {}, false},
      {"the longest length", Control(SCM_RIGHTS, {7, 8}, SIZE_MAX), {7, 8}, {}, false},
      {"a length below that of a header", Control(SCM_RIGHTS, {7}, 4) + rights, {}, {}, false},
      {"an empty one before another", Control(SCM_RIGHTS, {}) + rights, {7, 8, 9}, {}, false},
      {"another level", Control(SCM_RIGHTS, {7}, 0, false, 41) + credentials, {}, {}, true},
      {"half a header", Raw(sizeof(cmsghdr) - 1, 1), {}, {}, false},
  };
  for (const Case& c : cases) {
    const ControlInfo info = ParseControl({c.raw.data(), c.raw.size()});
    CHECK(info.descriptors == c.descriptors, c.what + ": descriptors");
    CHECK(info.added == c.added, c.what + ": added");
    CHECK(info.credentials == c.credentials, c.what + ": credentials");
  }
  // Cut anywhere, under AddressSanitizer: nothing behind the end is read.
  const Raw whole = credentials + rights;
  for (size_t size = 0; size <= whole.size(); ++size) {
    const Raw part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    const size_t fit = size < credentials.size() + CMSG_LEN(0)
                           ? 0
                           : std::min<size_t>((size - credentials.size() - CMSG_LEN(0)) / sizeof(int), 3);
    CHECK(ParseControl({part.data(), part.size()}).descriptors.size() == fit, "cut at " + std::to_string(size));
  }
}

}  // namespace tunsock::test
