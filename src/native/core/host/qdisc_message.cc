#include "core/host/qdisc_message.h"

#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cmath>

namespace tunsock {
namespace {

tcmsg QdiscHeader(uint32_t index, uint32_t parent, uint32_t handle) {
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = static_cast<int>(index);
  header.tcm_parent = parent;
  header.tcm_handle = handle;
  return header;
}

/// Probabilities are parts of 2^32 - 1.
uint32_t Probability(double part) {
  return static_cast<uint32_t>(std::llround(part * UINT32_MAX));
}

}  // namespace

bool ParseQdisc(Bytes payload, QdiscInfo* qdisc) {
  tcmsg header;
  if (!payload.Read(&header)) return false;
  *qdisc = {};
  qdisc->index = static_cast<uint32_t>(header.tcm_ifindex);
  qdisc->kind = AttributeTable<TCA_KIND>(payload.Skip(NLMSG_ALIGN(sizeof header))).String(TCA_KIND);
  qdisc->parent = header.tcm_parent;
  qdisc->handle = header.tcm_handle;
  return true;
}

NetlinkMessage NetemRequest(uint16_t flags, uint32_t index, uint32_t handle, const Impairment& impairment) {
  NetlinkMessage message(RTM_NEWQDISC, flags, QdiscHeader(index, TC_H_ROOT, handle));
  message.PutString(TCA_KIND, "netem");
  const size_t options = message.Begin(TCA_OPTIONS);
  tc_netem_qopt fixed{};
  fixed.limit = impairment.limit;
  fixed.loss = Probability(impairment.loss);
  fixed.duplicate = Probability(impairment.duplicate);
  fixed.gap = impairment.reorder > 0 ? 1 : 0;
  message.PutFixed(fixed);
  // Times are given exactly here, instead of in the ticks of the structure. All are given, since netem keeps
  // from an earlier request what is not.
  message.Put(TCA_NETEM_LATENCY64, &impairment.delay_ns, sizeof impairment.delay_ns);
  message.Put(TCA_NETEM_JITTER64, &impairment.jitter_ns, sizeof impairment.jitter_ns);
  tc_netem_reorder reorder{};
  reorder.probability = Probability(impairment.reorder);
  message.Put(TCA_NETEM_REORDER, &reorder, sizeof reorder);
  tc_netem_rate rate{};
  rate.rate = static_cast<uint32_t>(std::min<uint64_t>(impairment.rate_bytes, UINT32_MAX));
  message.Put(TCA_NETEM_RATE, &rate, sizeof rate);
  if (impairment.rate_bytes > UINT32_MAX) {
    message.Put(TCA_NETEM_RATE64, &impairment.rate_bytes, sizeof impairment.rate_bytes);
  }
  message.End(options);
  return message;
}

NetlinkMessage RemoveQdiscRequest(uint32_t index, uint32_t handle) {
  return {RTM_DELQDISC, 0, QdiscHeader(index, TC_H_ROOT, handle)};
}

NetlinkMessage ListQdiscsRequest(uint32_t index) {
  return {RTM_GETQDISC, NLM_F_DUMP, QdiscHeader(index, 0, 0)};
}

}  // namespace tunsock
