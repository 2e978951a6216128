#include "core/host/netlink_message.h"

#include <algorithm>

namespace tunsock {

void NetlinkMessage::Append(const void* data, size_t size) {
  const auto* const bytes = static_cast<const uint8_t*>(data);
  buffer_.insert(buffer_.end(), bytes, bytes + size);
  buffer_.resize(NLMSG_ALIGN(buffer_.size()));
}

void NetlinkMessage::Put(uint16_t type, const void* data, size_t size) {
  const nlattr header{static_cast<uint16_t>(NLA_HDRLEN + size), type};
  Append(&header, sizeof header);
  Append(data, size);
}

size_t NetlinkMessage::Begin(uint16_t type) {
  const size_t nest = buffer_.size();
  const nlattr header{0, type};
  Append(&header, sizeof header);
  return nest;
}

void NetlinkMessage::End(size_t nest) {
  const auto length = static_cast<uint16_t>(buffer_.size() - nest);
  std::memcpy(buffer_.data() + nest + offsetof(nlattr, nla_len), &length, sizeof length);
}

const std::vector<uint8_t>& NetlinkMessage::Finish(uint32_t sequence) {
  header_.nlmsg_seq = sequence;
  header_.nlmsg_len = static_cast<uint32_t>(buffer_.size());
  if (!is_dump()) header_.nlmsg_flags |= NLM_F_ACK;
  std::memcpy(buffer_.data(), &header_, sizeof header_);
  return buffer_;
}

SysResult NextMessage(Bytes* rest, nlmsghdr* header, Bytes* payload) {
  if (!rest->Read(header)) return 0;
  if (header->nlmsg_len < sizeof *header || header->nlmsg_len > rest->size) return -EBADMSG;
  *payload = {rest->data + sizeof *header, header->nlmsg_len - sizeof *header};
  *rest = rest->Skip(NLMSG_ALIGN(header->nlmsg_len));
  return 1;
}

bool NextAttribute(Bytes* rest, uint16_t* type, Bytes* value) {
  nlattr header;
  if (!rest->Read(&header) || header.nla_len < sizeof header || header.nla_len > rest->size) return false;
  *type = header.nla_type & NLA_TYPE_MASK;
  *value = {rest->data + sizeof header, header.nla_len - sizeof header};
  *rest = rest->Skip(NLA_ALIGN(header.nla_len));
  return true;
}

}  // namespace tunsock
