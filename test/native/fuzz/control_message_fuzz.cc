#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "check.h"
#include "core/host/control_message.h"
#include "fuzz_target.h"

// Input: the control data of a message as recvmsg(2) gives it. Well-formed data is what a message of an AF_UNIX socket can have; the rest are
// lengths that lie, and data that is cut.

namespace tunsock::test {

namespace {

constexpr int kPidfd = 4;  // SCM_PIDFD in linux/socket.h

void Put(Bytes* input, int type, size_t words, int level = SOL_SOCKET) {
  cmsghdr header{};
  header.cmsg_level = level;
  header.cmsg_type = type;
  header.cmsg_len = CMSG_LEN(words * sizeof(int));
  const size_t start = input->size();
  input->resize(start + CMSG_SPACE(words * sizeof(int)));
  std::memcpy(input->data() + start, &header, sizeof header);
  for (size_t i = 0; i < words; ++i) {
    const int word = static_cast<int>(i) + 3;
    std::memcpy(input->data() + start + CMSG_LEN(i * sizeof(int)), &word, sizeof word);
  }
}

/// The words of all messages of a type, read by the C library's macros (cmsg(3)): the slow reference.
std::vector<int> Words(Bytes* control, int type) {
  std::vector<int> words;
  msghdr message{};
  message.msg_control = control->data();
  message.msg_controllen = control->size();
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_len < CMSG_LEN(0)) break;
    const auto start = static_cast<size_t>(reinterpret_cast<uint8_t*>(header) - control->data());
    const size_t length = std::min<size_t>(header->cmsg_len, control->size() - start);
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == type) {
      for (size_t at = CMSG_LEN(0); at + sizeof(int) <= length; at += sizeof(int)) {
        int word = 0;
        std::memcpy(&word, control->data() + start + at, sizeof word);
        words.push_back(word);
      }
    }
    if (header->cmsg_len >= control->size() - start) break;
  }
  return words;
}

}  // namespace

std::vector<Bytes> SeedInputs() {
  std::vector<Bytes> inputs(6);
  Put(&inputs[0], SCM_RIGHTS, 1);
  Put(&inputs[1], SCM_RIGHTS, 253);
  Put(&inputs[2], SCM_CREDENTIALS, 3);
  Put(&inputs[2], SCM_RIGHTS, 3);
  Put(&inputs[3], SCM_CREDENTIALS, 3);
  Put(&inputs[3], SCM_RIGHTS, 2);
  Put(&inputs[3], kPidfd, 1);
  // Two of a kind, one that is empty, another level.
  Put(&inputs[4], SCM_RIGHTS, 2);
  Put(&inputs[4], SCM_RIGHTS, 0);
  Put(&inputs[4], SCM_RIGHTS, 5, 41);
  Put(&inputs[4], SCM_RIGHTS, 1);
  // A length beyond the data.
  Put(&inputs[5], SCM_CREDENTIALS, 3);
  Put(&inputs[5], SCM_RIGHTS, 4);
  inputs[5].resize(inputs[5].size() - 6);
  return inputs;
}

}  // namespace tunsock::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunsock;
  // Exactly as long as it is, so that nothing behind it can be read.
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[size]);
  std::copy(data, data + size, exact.get());
  const ControlInfo info = ParseControl({exact.get(), size});
  CHECK((info.descriptors.size() + info.added.size()) * sizeof(int) <= size, "no more descriptors than there are bytes");
  test::Bytes control(data, data + size);
  CHECK(info.descriptors == test::Words(&control, SCM_RIGHTS), "the descriptors that the C library finds");
  CHECK(info.added == test::Words(&control, test::kPidfd), "the pidfds that the C library finds");
  return 0;
}
