#include "packet_spec.h"

#include <algorithm>

namespace tunsock::test {

namespace {

void Put8(Bytes& out, unsigned value) {
  out.push_back(static_cast<uint8_t>(value));
}
void Put16(Bytes& out, unsigned value) {
  Put8(out, value >> 8);
  Put8(out, value);
}
void Put32(Bytes& out, uint32_t value) {
  Put16(out, value >> 16);
  Put16(out, value);
}
void PutAll(Bytes& out, const Bytes& bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void Patch16(Bytes& out, size_t at, unsigned value) {
  out[at] = static_cast<uint8_t>(value >> 8);
  out[at + 1] = static_cast<uint8_t>(value);
}

Bytes Address(const PacketSpec& spec, uint8_t last) {
  Bytes address =
      spec.version == 4 ? Bytes{10, 1, 2} : Bytes{0xfd, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
  address.push_back(last);
  return address;
}

void PutLinkHeader(Bytes& out, const PacketSpec& spec) {
  if (spec.vlan_tags < 0) return;
  PutAll(out, {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2});
  for (int tag = 0; tag < spec.vlan_tags; tag++) {
    Put16(out, spec.vlan_tags == 2 && tag == 0 ? 0x88a8 : 0x8100);
    Put16(out, 40 + static_cast<unsigned>(tag));
  }
  Put16(out, spec.version == 4 ? 0x0800 : 0x86dd);
}

void PutIpHeader(Bytes& out, const PacketSpec& spec, size_t l4_size) {
  const size_t start = out.size();
  const unsigned protocol = spec.tcp ? 6 : 17;
  if (spec.version == 4) {
    Put8(out, 0x40 + static_cast<unsigned>(5 + spec.ip_options.size() / 4));
    Put8(out, spec.tos);
    Put16(out, spec.big ? 0 : static_cast<unsigned>(20 + spec.ip_options.size() + l4_size));
    Put16(out, spec.id);
    Put16(out, spec.fragment);
    Put8(out, spec.hop_limit);
    Put8(out, protocol);
    Put16(out, 0);
    PutAll(out, Address(spec, spec.host));
    PutAll(out, Address(spec, 200));
    PutAll(out, spec.ip_options);
    Patch16(out, start + 10, 0xffffU ^ SlowSum(out.data() + start, out.size() - start));
  } else {
    Put32(out, 0x60000000 | static_cast<uint32_t>(spec.tos) << 20 | spec.flow_label);
    Put16(out, spec.big ? 0 : static_cast<unsigned>(spec.extension_headers.size() + l4_size));
    Put8(out, spec.extension_headers.empty() ? protocol : spec.first_extension);
    Put8(out, spec.hop_limit);
    PutAll(out, Address(spec, spec.host));
    PutAll(out, Address(spec, 200));
    PutAll(out, spec.extension_headers);
  }
}

void PutL4Header(Bytes& out, const PacketSpec& spec, size_t l4_size) {
  Put16(out, spec.source_port);
  Put16(out, spec.target_port);
  if (!spec.tcp) {
    Put16(out, static_cast<unsigned>(l4_size));
    Put16(out, 0);
    return;
  }
  Put32(out, spec.sequence);
  Put32(out, spec.acknowledged);
  Put8(out, static_cast<unsigned>(5 + spec.tcp_options.size() / 4) << 4);
  Put8(out, spec.flags);
  Put16(out, spec.window);
  Put16(out, 0);
  Put16(out, spec.urgent);
  PutAll(out, spec.tcp_options);
}

size_t L4HeaderSize(const PacketSpec& spec) {
  return spec.tcp ? 20 + spec.tcp_options.size() : 8;
}

uint16_t SlowPseudoSum(const PacketSpec& spec, size_t l4_size) {
  Bytes pseudo = Address(spec, spec.host);
  PutAll(pseudo, spec.final_destination.empty() ? Address(spec, 200) : spec.final_destination);
  Put32(pseudo, static_cast<uint32_t>(l4_size));
  Put32(pseudo, spec.tcp ? 6 : 17);
  return SlowSum(pseudo.data(), pseudo.size());
}

}  // namespace

uint16_t SlowSum(const uint8_t* bytes, size_t size, uint16_t sum) {
  uint32_t total = sum;
  for (size_t i = 0; i < size; i += 2) {
    total += static_cast<uint32_t>(bytes[i] << 8) + (i + 1 < size ? bytes[i + 1] : 0U);
    if (total > 0xffff) total -= 0xffff;
  }
  return static_cast<uint16_t>(total);
}

Bytes Pattern(size_t size, uint32_t seed) {
  Bytes bytes(size);
  uint32_t state = seed * 2654435761U + 1;
  for (uint8_t& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<uint8_t>(state >> 24);
  }
  return bytes;
}

void MakeChecksumZero(PacketSpec& spec) {
  spec.payload[0] = spec.payload[1] = 0;
  const Bytes built = spec.Build();
  const size_t at = spec.l4_at() + (spec.tcp ? 16 : 6);
  spec.payload[0] = built[at];
  spec.payload[1] = built[at + 1];
}

size_t PacketSpec::l4_at() const {
  return link_size() + (version == 4 ? 20 + ip_options.size() : 40 + extension_headers.size());
}

size_t PacketSpec::header_size() const {
  return l4_at() + L4HeaderSize(*this);
}

std::string PacketSpec::Name() const {
  return std::string(tcp ? "TCP" : "UDP") + "v" + std::to_string(version) + " tags " +
         std::to_string(vlan_tags) + " options " +
         std::to_string(ip_options.size() + extension_headers.size()) + "+" +
         std::to_string(tcp_options.size()) + " flags " + std::to_string(flags) + " payload " +
         std::to_string(payload.size());
}

Bytes PacketSpec::BuildPartial() const {
  const size_t l4_size = L4HeaderSize(*this) + payload.size();
  Bytes out;
  PutLinkHeader(out, *this);
  PutIpHeader(out, *this, l4_size);
  PutL4Header(out, *this, l4_size);
  PutAll(out, payload);
  Patch16(out, l4_at() + (tcp ? 16 : 6), SlowPseudoSum(*this, l4_size));
  return out;
}

Bytes PacketSpec::Build() const {
  Bytes out = BuildPartial();
  const size_t field = l4_at() + (tcp ? 16 : 6);
  Patch16(out, field, 0);
  if (!tcp && no_udp_checksum) return out;
  const size_t l4_size = out.size() - l4_at();
  unsigned checksum = 0xffffU ^ SlowSum(out.data() + l4_at(), l4_size, SlowPseudoSum(*this, l4_size));
  if (!tcp && checksum == 0) checksum = 0xffff;
  Patch16(out, field, checksum);
  return out;
}

VirtioNetHdr PacketSpec::Header(uint16_t gso_size) const {
  VirtioNetHdr header;
  header.flags = kVnetNeedsChecksum;
  header.csum_start = static_cast<uint16_t>(l4_at());
  header.csum_offset = tcp ? 16 : 6;
  if (gso_size > 0) {
    header.gso_type = !tcp ? kVnetGsoUdpL4 : version == 4 ? kVnetGsoTcp4 : kVnetGsoTcp6;
    header.gso_size = gso_size;
    header.hdr_len = static_cast<uint16_t>(header_size());
  }
  return header;
}

std::vector<PacketSpec> PacketSpec::Cut(size_t gso_size) const {
  std::vector<PacketSpec> segments;
  for (size_t at = 0; at < payload.size(); at += gso_size) {
    const size_t end = std::min(at + gso_size, payload.size());
    PacketSpec segment = *this;
    segment.payload.assign(payload.begin() + static_cast<long>(at), payload.begin() + static_cast<long>(end));
    if (big) segment.extension_headers.clear();
    segment.big = false;
    segment.id = static_cast<uint16_t>(id + segments.size());
    segment.sequence = sequence + static_cast<uint32_t>(at);
    if (at > 0) segment.flags &= 0x7f;                // CWR
    if (end < payload.size()) segment.flags &= 0xf6;  // FIN, PSH
    segments.push_back(segment);
  }
  return segments;
}

}  // namespace tunsock::test
