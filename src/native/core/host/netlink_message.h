#pragma once

#include <linux/netlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/sys/sys_result.h"

namespace tunsock {

/// Bytes of a message that something else owns. Nothing of them is read but by copies that are checked for
/// length.
struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;

  /// False when there are fewer bytes than `value` has; more are allowed, since kernel structures grow.
  template <typename T>
  [[nodiscard]] bool Read(T* value) const {
    if (size < sizeof *value) return false;
    std::memcpy(value, data, sizeof *value);
    return true;
  }
  [[nodiscard]] Bytes Skip(size_t count) const {
    return count < size ? Bytes{data + count, size - count} : Bytes{};
  }
};

/// Builds one netlink message: a fixed structure, then attributes, which can nest. netlink(7).
class NetlinkMessage {
 public:
  template <typename Fixed>
  NetlinkMessage(uint16_t type, uint16_t flags, const Fixed& fixed) : buffer_(sizeof(nlmsghdr)) {
    header_.nlmsg_type = type;
    header_.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    PutFixed(fixed);
  }

  /// A structure without attribute header: the message's own, or one that a nest begins with.
  template <typename Fixed>
  void PutFixed(const Fixed& fixed) {
    Append(&fixed, sizeof fixed);
  }
  void Put(uint16_t type, const void* data, size_t size);
  void PutU8(uint16_t type, uint8_t value) { Put(type, &value, sizeof value); }
  void PutU16(uint16_t type, uint16_t value) { Put(type, &value, sizeof value); }
  void PutU32(uint16_t type, uint32_t value) { Put(type, &value, sizeof value); }
  /// With its NUL, as interface names and kinds are.
  void PutString(uint16_t type, const std::string& text) { Put(type, text.c_str(), text.size() + 1); }

  /// Attributes put between these two are inside one of `type`; End takes what Begin returned.
  size_t Begin(uint16_t type);
  void End(size_t nest);

  /// The same for a struct that begins with its length as two bytes, as rtnexthop does, and has attributes
  /// behind it.
  template <typename Fixed>
  size_t BeginNextHop(const Fixed& fixed) {
    const size_t nest = buffer_.size();
    PutFixed(fixed);
    return nest;
  }
  void EndNextHop(size_t nest) { End(nest); }

  /// What follows the message's header, so far.
  [[nodiscard]] Bytes payload() const {
    return {buffer_.data() + sizeof(nlmsghdr), buffer_.size() - sizeof(nlmsghdr)};
  }
  [[nodiscard]] bool is_dump() const { return (header_.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP; }
  /// The whole message, under the number that its answers will bear.
  const std::vector<uint8_t>& Finish(uint32_t sequence);

 private:
  void Append(const void* data, size_t size);

  nlmsghdr header_{};
  std::vector<uint8_t> buffer_;
};

/// Takes the next message off `rest`: 1, 0 at the end, or -EBADMSG at one whose length makes no sense.
SysResult NextMessage(Bytes* rest, nlmsghdr* header, Bytes* payload);

/// Takes the next attribute off `rest`: false at the end, and at one whose length makes no sense.
bool NextAttribute(Bytes* rest, uint16_t* type, Bytes* value);

/// The attributes of one message by type, up to `kMax`; what is absent is empty. Of two of a type the last
/// counts.
template <uint16_t kMax>
class AttributeTable {
 public:
  explicit AttributeTable(Bytes bytes) {
    uint16_t type = 0;
    Bytes value;
    while (NextAttribute(&bytes, &type, &value)) {
      if (type <= kMax) values_[type] = value;
    }
  }

  [[nodiscard]] bool Has(uint16_t type) const { return Get(type).data != nullptr; }
  [[nodiscard]] Bytes Get(uint16_t type) const { return type <= kMax ? values_[type] : Bytes{}; }
  [[nodiscard]] uint32_t U32(uint16_t type, uint32_t otherwise = 0) const {
    uint32_t value = 0;
    return Get(type).Read(&value) ? value : otherwise;
  }
  [[nodiscard]] uint8_t U8(uint16_t type, uint8_t otherwise = 0) const {
    uint8_t value = 0;
    return Get(type).Read(&value) ? value : otherwise;
  }
  [[nodiscard]] std::string String(uint16_t type) const {
    const Bytes bytes = Get(type);
    if (bytes.data == nullptr) return {};
    const char* const text = reinterpret_cast<const char*>(bytes.data);
    return {text, ::strnlen(text, bytes.size)};
  }

 private:
  std::array<Bytes, kMax + 1> values_{};
};

}  // namespace tunsock
