import type { FanoutSettings, PacketSettings } from '../../native';
import { type BpfInstruction, bpfProgram, returnsWhole, wholePackets } from '../../packet/bpf';
import { hardwareDestination } from '../../packet/send-meta';
import { ETH_P_ALL, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6 } from '../../support/constants';
import { invalidArgType, invalidArgValue } from '../../support/errors';
import {
  anyInterfaceName,
  boolean,
  integer,
  knownOptions,
  oneOf,
  optionsObject,
} from '../../support/options';
import type { OffloadMode, PacketDestination } from '../../support/types';
import {
  offloadMode,
  optionReader,
  SOCKET_OPTIONS,
  type SocketConfig,
  type SocketOptions,
  socketConfig,
  wholeNumber,
} from './socket-options';
import {
  VHOST_OPTIONS,
  type VhostConfig,
  type VhostOptions,
  vhostConfig,
  withoutVhost,
} from './vhost-options';

/**
 * Which member of a fanout group gets a packet. 'hash': one for all packets of a flow; 'lb': each in turn; 'cpu': by the CPU that it came in
 * on; 'rollover': the first until its queue is full; 'random'; 'queue-mapping': by the queue of the interface.
 */
export type FanoutMode = 'hash' | 'lb' | 'cpu' | 'rollover' | 'random' | 'queue-mapping';

/** By the number of PACKET_FANOUT_* (linux/if_packet.h). */
const fanoutModes: readonly FanoutMode[] = ['hash', 'lb', 'cpu', 'rollover', 'random', 'queue-mapping'];
const FANOUT_CBPF = 6;
const FANOUT_EBPF = 7;
const FANOUT_ROLLOVER = 0x1000;
const FANOUT_UNIQUE = 0x2000;
const FANOUT_IGNORE_OUTGOING = 0x4000;
const FANOUT_DEFRAG = 0x8000;
/** PACKET_FANOUT_MAX. */
const MAX_MEMBERS = 65536;

/** What the groups of packet sockets have in common, however they share. */
export interface FanoutGroupOptions {
  /**
   * The group's number in its network namespace: 0 to 65535. All its sockets have the same interface, protocol, mode, `rollover`, `defrag` and `ignoreOutgoing`. 'unique':
   * one that no other group has (Linux 4.12); `fanoutGroup` of the socket says which, for the others to join.
   */
  group: number | 'unique';
  /** A packet goes to another member when the queue of its own is full. Default false. */
  rollover?: boolean;
  /** Fragments of IP packets are put together first, so that 'hash' keeps them with their flow. Default false. */
  defrag?: boolean;
  /** How many sockets the group may have: 1 to 65536, said by the first of them (Linux 5.11). Default 256. */
  maxMembers?: number;
}

/** A group of packet sockets that share the packets of an interface: each goes to one of them. */
export type FanoutOptions = FanoutGroupOptions &
  (
    | {
        /** Who gets a packet. */
        mode: FanoutMode;
        program?: undefined;
      }
    | {
        mode?: undefined;
        /**
         * A program says who gets a packet: what it returns, modulo the number of members. Classic BPF as for `filter`, or the descriptor of an
         * eBPF program of type BPF_PROG_TYPE_SOCKET_FILTER; it sees a packet from its IP header on. The group has the one that was set last.
         */
        program: readonly BpfInstruction[] | string | number;
      }
  );

const protocols = { all: ETH_P_ALL, ip: ETH_P_IP, ipv6: ETH_P_IPV6, arp: ETH_P_ARP } as const;

/** What packet sockets of both types have. */
export interface CommonPacketSocketOptions extends SocketOptions, VhostOptions {
  /**
   * The interface's name or an alternative one, or 'any' for all of them: then each packet that is sent says where it goes (`interface` of a destination), and
   * `offload` can't be 'split'.
   */
  interface: string;
  /**
   * What is received: packets of one EtherType (0 to 65535, or by name), of 'all', or with 0 none. Only 'all' also sees
   * packets that this host sends, and only there frames have their VLAN tag: for who asks for one EtherType the kernel throws it away
   * before. Default 'all'.
   */
  protocol?: keyof typeof protocols | number;
  /** Also receive frames for other hosts. Default false. */
  promiscuous?: boolean;
  /** Don't receive what this host sends. Default false. */
  ignoreOutgoing?: boolean;
  /** Share packets with other sockets, such as those of Workers. */
  fanout?: FanoutOptions;
  /**
   * A classic BPF program that says how many bytes of a packet are received, 0 for none of it: instructions, or text as
   * `tcpdump -ddd` prints it (for `type: 'dgram'`, `tcpdump -y RAW -ddd`). It sees frames without their VLAN tag, which is beside them, and as
   * the interface has them, which may be superpackets; so with `offload: 'split'` it lets a packet through whole or not at all: it returns 0
   * or at least 262144.
   */
  filter?: readonly BpfInstruction[] | string;
  /** Say in `info` when each packet came (SO_TIMESTAMPNS). Default false. */
  timestamps?: boolean;
  /** Say in `info` the VLAN tag, which the kernel takes out of the frame, and the status (PACKET_AUXDATA). Default true. */
  auxdata?: boolean;
  /** Say in `info.interface` which interface a packet came in on, rather than the one above it, as a bond or bridge, that passed it on (PACKET_ORIGDEV). Default false. */
  originalDevice?: boolean;
  /**
   * The kernel puts each sent packet into the error queue, with the time when it went to the device: `recvmsg(data, MSG_ERRQUEUE)` gives the
   * packet, and `info.timestamp` (SO_TIMESTAMPING; the hardware's time where the device is set up to take it). Default false.
   */
  transmitTimestamps?: boolean;
  /** The mark of what is sent, for policy routing and filters: 0 to 4294967295 (SO_MARK; needs CAP_NET_ADMIN). Default 0. */
  mark?: number;
  /** The priority of what is sent, for queueing disciplines: 0 to 6, with CAP_NET_ADMIN up to 2147483647 (SO_PRIORITY). Default 0. */
  priority?: number;
  /** Bytes for packets that wait to be received, without CAP_NET_ADMIN up to net.core.rmem_max. The kernel doubles it. */
  receiveBuffer?: number;
  /** Bytes for packets that wait to be sent, without CAP_NET_ADMIN up to net.core.wmem_max. The kernel doubles it. */
  sendBuffer?: number;
  /** Send past the interface's queueing discipline: faster, and dropped sooner (PACKET_QDISC_BYPASS). Default false. */
  qdiscBypass?: boolean;
}

/** A packet socket of whole frames. */
export interface RawPacketSocketOptions extends CommonPacketSocketOptions {
  /** 'raw': frames with their link header; 'dgram': packets without it, which the kernel makes and takes off. Default 'raw'. */
  type?: 'raw';
  /**
   * Segmentation offload (PACKET_VNET_HDR). 'none': frames as the interface has them, which may be superpackets
   * without their checksums (`info.status` has TP_STATUS_CSUMNOTREADY). 'split': frames no longer than the mtu with finished checksums, cut
   * and made here, those in tunnels (IP in IP, GRE, UDP) too; what can't be cut is dropped and counted as an error. 'raw': with what is still
   * to be done to each (`info.offload`). Default 'split'; 'none' with `interface: 'any'`, with a filter that cuts packets,
   * and on links whose header tunsock can't look behind. With `qdiscBypass`, 'split' makes no superpackets of what is sent.
   */
  offload?: OffloadMode;
  /**
   * Where a frame's VLAN tag is. 'inline': in its bytes, as it was on the cable; 'metadata': only in `info.vlan`, as the
   * kernel has it. Default 'inline'.
   */
  vlan?: 'inline' | 'metadata';
  destination?: undefined;
}

/** A packet socket whose packets have no link header. */
export interface DatagramPacketSocketOptions extends CommonPacketSocketOptions {
  type: 'dgram';
  /** Where packets go, unless sendmsg() is told another. */
  destination?: PacketDestination;
  offload?: 'none';
  vlan?: 'metadata';
  vhost?: false | 'prefer';
}

/** How PacketSocket.open() opens a socket. Each option has its kernel's default where none is named. packet(7). */
export type PacketSocketOptions = RawPacketSocketOptions | DatagramPacketSocketOptions;

/** PacketSocketOptions, validated and with defaults. */
export interface PacketConfig extends SocketConfig {
  vhost: VhostConfig | undefined;
  /** Empty: all of them. */
  interface: string;
  /** `undefined`: 'split' where that can be had. */
  offload: OffloadMode | undefined;
  settings: Omit<PacketSettings, 'interfaceIndex'>;
}

const KNOWN = [
  ...SOCKET_OPTIONS,
  ...VHOST_OPTIONS,
  'interface',
  'type',
  'protocol',
  'promiscuous',
  'ignoreOutgoing',
  'fanout',
  'filter',
  'offload',
  'timestamps',
  'auxdata',
  'vlan',
  'originalDevice',
  'transmitTimestamps',
  'mark',
  'priority',
  'receiveBuffer',
  'sendBuffer',
  'qdiscBypass',
  'destination',
] as const satisfies readonly (keyof PacketSocketOptions)[];

/** SO_RCVBUF doubles what it is given, which is an int. */
export const MAX_BUFFER = 0x3fffffff;

/** Checks all options before anything is opened. */
export function packetConfig(options: PacketSocketOptions): PacketConfig {
  const given = optionsObject('options', options);
  knownOptions('options', given, KNOWN);
  const optional = optionReader<(typeof KNOWN)[number]>(given);

  const datagram = optional('type', (name, value) => oneOf(name, value, ['raw', 'dgram'])) === 'dgram';
  const to = optional('destination', hardwareDestination);
  if (to !== undefined && !datagram) {
    throw invalidArgValue(
      'options.destination',
      "given only with type 'dgram': a frame has it in its header",
      options.destination,
    );
  }
  const any = given.interface === 'any';
  const program = optional('filter', bpfProgram) ?? new Uint32Array();
  const offload =
    optional('offload', offloadMode) ?? (datagram || any || !returnsWhole(program) ? 'none' : undefined);
  // By default it may be 'split' too.
  const filter =
    offload === undefined || offload === 'split' ? wholePackets('options.filter', program) : program;
  if (offload !== undefined && offload !== 'none' && datagram) {
    throw invalidArgValue(
      'options.offload',
      "'none' with type 'dgram': the kernel has it for whole frames only",
      offload,
    );
  }
  if (offload === 'split' && any) {
    throw invalidArgValue(
      'options.offload',
      "'none' or 'raw' with interface 'any': what a frame starts with differs from link to link",
      offload,
    );
  }
  const vlan = optional('vlan', (name, value) => oneOf(name, value, ['inline', 'metadata']));
  if (vlan === 'inline' && datagram) {
    throw invalidArgValue(
      'options.vlan',
      "'metadata' with type 'dgram': what stands before the packet is not received",
      vlan,
    );
  }
  const ignoreOutgoing = optional('ignoreOutgoing', boolean) ?? false;
  let vhost = vhostConfig(optional);
  if (datagram) vhost = withoutVhost(vhost, "type 'dgram'", 'the kernel has it for whole frames only');
  return {
    ...socketConfig(optional),
    vhost,
    offload,
    interface: any ? '' : anyInterfaceName('options.interface', given.interface),
    settings: {
      datagram,
      protocol: optional('protocol', protocolNumber) ?? ETH_P_ALL,
      promiscuous: optional('promiscuous', boolean) ?? false,
      ignoreOutgoing,
      fanout: optional('fanout', (name, value) => fanoutSettings(name, value, ignoreOutgoing)),
      filter,
      timestamps: optional('timestamps', boolean) ?? false,
      auxdata: optional('auxdata', boolean) ?? true,
      tagsInline: !datagram && vlan !== 'metadata',
      originalDevice: optional('originalDevice', boolean) ?? false,
      transmitTimestamps: optional('transmitTimestamps', boolean) ?? false,
      mark: optional('mark', packetMark),
      priority: optional('priority', packetPriority),
      receiveBuffer: optional('receiveBuffer', wholeNumber(1, MAX_BUFFER)) ?? 0,
      sendBuffer: optional('sendBuffer', wholeNumber(1, MAX_BUFFER)) ?? 0,
      qdiscBypass: optional('qdiscBypass', boolean) ?? false,
      address: to?.address,
      addressProtocol: to?.protocol ?? 0,
    },
  };
}

function protocolNumber(name: string, value: unknown): number {
  if (typeof value === 'number') return integer(name, value, 0, 0xffff);
  if (typeof value !== 'string') throw invalidArgType(name, 'a number or a name', value);
  return protocols[oneOf(name, value, ['all', 'ip', 'ipv6', 'arp'])];
}

/** A mark of packets: 32 bits. */
export function packetMark(name: string, value: unknown): number {
  return integer(name, value, 0, 0xffffffff);
}

export function packetPriority(name: string, value: unknown): number {
  return integer(name, value, 0, 0x7fffffff);
}

function fanoutSettings(name: string, value: unknown, ignoreOutgoing: boolean): FanoutSettings {
  const given = optionsObject(name, value);
  knownOptions(name, given, ['group', 'mode', 'program', 'rollover', 'defrag', 'maxMembers']);
  const unique = given.group === 'unique';
  const group = unique ? 0 : integer(`${name}.group`, given.group, 0, 0xffff);
  const { mode, program, programFd } = fanoutMode(name, given);
  const flag = (key: 'rollover' | 'defrag', bit: number) =>
    given[key] !== undefined && boolean(`${name}.${key}`, given[key]) ? bit : 0;
  const rollover = flag('rollover', FANOUT_ROLLOVER);
  if (rollover !== 0 && fanoutModes[mode] === 'rollover') {
    throw invalidArgValue(
      `${name}.rollover`,
      "left out with mode 'rollover', which rolls over by itself",
      true,
    );
  }
  const kind =
    mode |
    rollover |
    flag('defrag', FANOUT_DEFRAG) |
    (unique ? FANOUT_UNIQUE : 0) |
    (ignoreOutgoing ? FANOUT_IGNORE_OUTGOING : 0);
  return {
    argument: ((kind << 16) | group) >>> 0,
    members:
      given.maxMembers === undefined ? 0 : integer(`${name}.maxMembers`, given.maxMembers, 1, MAX_MEMBERS),
    program,
    programFd,
  };
}

/** Who gets a packet: by a rule of the kernel's, or by a program. */
function fanoutMode(
  name: string,
  { mode, program }: Record<string, unknown>,
): { mode: number; program: Uint32Array; programFd: number } {
  const none = new Uint32Array();
  if (program === undefined) {
    return {
      mode: fanoutModes.indexOf(oneOf(`${name}.mode`, mode, fanoutModes)),
      program: none,
      programFd: -1,
    };
  }
  if (mode !== undefined) {
    throw invalidArgValue(`${name}.mode`, 'left out beside a program, which says who gets a packet', mode);
  }
  if (typeof program === 'number') {
    return {
      mode: FANOUT_EBPF,
      program: none,
      programFd: integer(`${name}.program`, program, 0, 0x7fffffff),
    };
  }
  return { mode: FANOUT_CBPF, program: bpfProgram(`${name}.program`, program), programFd: -1 };
}
