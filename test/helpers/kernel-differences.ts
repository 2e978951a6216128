/** What a test finds otherwise on a kernel that is older than the ones it was written for, so that it fails there, and how. */
export interface KernelDifference {
  /** The first version with which it fails; without, all before `since`. */
  from?: [major: number, minor: number];
  /** The first version with which the test passes. */
  since: [major: number, minor: number];
  because: string;
  file: string;
  /** Matches the full names of the tests. */
  tests: RegExp;
  /** Matches the message of each that fails. */
  failure: RegExp;
}

const NO_USO = {
  since: [6, 2],
  because: 'no VIRTIO_NET_HDR_GSO_UDP_L4: no superpackets of UDP are handed over, and sending one is EINVAL',
} satisfies Partial<KernelDifference>;

/** Table of expectations; the tests that run in the guests of test/vm are held to it, each row and each test. */
export const KERNEL_DIFFERENCES: KernelDifference[] = [
  {
    ...NO_USO,
    file: 'offload-batch.test.ts',
    tests: /sends superpackets by send\(\) and sendmsg\(\) too$/,
    failure: /sendmsg EINVAL: invalid argument/,
  },
  {
    ...NO_USO,
    file: 'offload-batch.test.ts',
    tests: /sends superpackets and whole packets of one batch in order$|when one packet of several has one$/,
    failure: /expected 1 to be [34]/,
  },
  {
    ...NO_USO,
    file: 'offload-fallback.test.ts',
    tests: /^a kernel that refuses a merged write of (UDP|TCP with EMSGSIZE gets)/,
    failure: /expected \[ \+0, \+0, \+0 \] to deeply equal \[ \+0, \+0, 1 \]/,
  },
  {
    ...NO_USO,
    file: 'offload-fallback.test.ts',
    tests: /of two kinds says so once for each$/,
    failure: /expected \[ 'tso4' \] to deeply equal \[ 'tso4', 'uso4', 'uso6' \]/,
  },
  {
    ...NO_USO,
    file: 'offload-headers.test.ts',
    tests: /UDP that the receiver has merged is cut again$/,
    failure: /sendmsg EINVAL: invalid argument/,
  },
  {
    since: [6, 3],
    because: 'no BIG TCP over IPv4',
    file: 'offload-headers.test.ts',
    tests: /^BIG TCP over IPv4/,
    failure: /expected 65\d\d\d to be greater than 65549/,
  },
  {
    from: [6, 12],
    since: [6, 18],
    because:
      "the kernel drops its own superpackets on such a route before a device sees them (SKB_BAD_GSO in kfree_skb's trace)",
    file: 'offload-headers.test.ts',
    tests: /with an IPv6 routing header put in by segment routing$/,
    failure: /the sender failed: 1[\s\S]*TimeoutError/,
  },
  {
    ...NO_USO,
    file: 'offload-merge.test.ts',
    tests: /UDP datagrams without a checksum, which have one afterwards$/,
    failure: /expected { received: \+0, sent: \+0, refused: \[\] } to deeply equal/,
  },
  {
    ...NO_USO,
    file: 'offload-order.test.ts',
    tests: /is sent by a loop that skips what fails: each packet once, and in order; seed/,
    failure: /expected 0 to be greater than 0/,
  },
  {
    ...NO_USO,
    file: 'offload-packet.test.ts',
    tests:
      /sends superpackets that are longer than the mtu$|works whatever protocol|peeks at the next segment|takes a segment into 0 bytes|forward it untouched$|cuts packets that have no link header$|status of a frame that was cut/,
    failure: /sendmsg EINVAL: invalid argument/,
  },
  {
    ...NO_USO,
    file: 'offload-packet.test.ts',
    tests: /makes superpackets of a batch and of what send\(\) queued$/,
    failure: /expected { received: \+0, sent: \+0, …\(1\) } to deeply equal/,
  },
  {
    ...NO_USO,
    file: 'offload-raw.test.ts',
    tests: /^what one builds a UDP superpacket by sendmsg\(\)/,
    failure: /sendmsg EINVAL: invalid argument/,
  },
  {
    ...NO_USO,
    file: 'offload-raw.test.ts',
    tests: /^what one builds (a UDP superpacket by (send\(\)|a batch)|send\(\) gives the callback)/,
    failure: /AssertionError: expected/,
  },
  {
    ...NO_USO,
    file: 'offload-transfer.test.ts',
    tests: /'(tun|tap)', '(raw|split)' to '\w+' UDP over IPv[46], UDP_SEGMENT true/,
    failure: /expected (\+0 to be 5|false to be true)/,
  },
  {
    since: [6, 11],
    because:
      'UDP_SEGMENT over an interface that finishes no checksums is EIO for the sender (udp_send_skb())',
    file: 'offload-transfer.test.ts',
    tests: /'none' to '\w+' UDP over IPv[46], UDP_SEGMENT true/,
    failure: /expected \[\] to deeply equal \[ (1400, 1400|Array)/,
  },
  {
    ...NO_USO,
    file: 'packet-options.test.ts',
    tests: /holds for superpackets with offload 'split'$/,
    failure: /sendmsg EINVAL: invalid argument/,
  },
  {
    ...NO_USO,
    file: 'offload-vlan.test.ts',
    tests: /^UDP frames with a VLAN tag/,
    failure: /expected \+0 to be 1/,
  },
];
