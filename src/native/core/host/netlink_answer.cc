#include "core/host/netlink_answer.h"

#include <linux/netlink.h>

#include <cerrno>

namespace tunsock {
namespace {

/// What is no negative errno must not be taken for a count of success.
SysResult Errno(int error) {
  constexpr int kLastErrno = 4095;
  return error < 0 && error >= -kLastErrno ? error : -EBADMSG;
}

}  // namespace

SysResult NetlinkAnswer::Take(Bytes datagram, const Visitor& visit) {
  nlmsghdr header;
  while (datagram.Read(&header)) {
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > datagram.size) return -EBADMSG;
    const Bytes payload{datagram.data + sizeof header, header.nlmsg_len - sizeof header};
    datagram = datagram.Skip(NLMSG_ALIGN(header.nlmsg_len));
    if (header.nlmsg_seq != sequence_) continue;
    if ((header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted_ = true;
    if (header.nlmsg_type == NLMSG_ERROR) return TakeError(header, payload);
    if (header.nlmsg_type == NLMSG_DONE) {
      int error = 0;
      return payload.Read(&error) && error < 0 ? Errno(error) : 1;
    }
    if (header.nlmsg_type >= NLMSG_MIN_TYPE) visit(header.nlmsg_type, payload);
  }
  return 0;
}

/// An nlmsgerr: the errno (0 acknowledges), the request or, capped, only its header, and then attributes.
SysResult NetlinkAnswer::TakeError(const nlmsghdr& header, Bytes payload) {
  nlmsgerr error;
  if (!payload.Read(&error)) return -EBADMSG;
  if (error.error == 0) return 1;
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
    const bool capped = (header.nlmsg_flags & NLM_F_CAPPED) != 0 || error.msg.nlmsg_len < sizeof error.msg;
    const size_t echoed = capped ? 0 : NLMSG_ALIGN(error.msg.nlmsg_len - sizeof error.msg);
    kernel_text_ =
        AttributeTable<NLMSGERR_ATTR_MSG>(payload.Skip(sizeof error + echoed)).String(NLMSGERR_ATTR_MSG);
  }
  return Errno(error.error);
}

}  // namespace tunsock
