import type { PacketSettings } from '../../native';
import { type BpfInstruction, bpfProgram, wholePackets } from '../../packet/bpf';
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

/** How the members of a fanout group share packets, by the number of PACKET_FANOUT_* (linux/if_packet.h). */
const fanoutModes = ['hash', 'lb', 'cpu', 'rollover', 'random', 'queue-mapping'] as const;
const FANOUT_ROLLOVER = 0x1000;
const FANOUT_DEFRAG = 0x8000;

/** A group of packet sockets that share the packets of an interface: each goes to one of them. */
export interface FanoutOptions {
  /** The group's number in its network namespace: 0 to 65535. All its sockets have the same interface, type, protocol and mode. */
  group: number;
  /**
   * Who gets a packet. 'hash': one for all packets of a flow; 'lb': each in turn; 'cpu': by the CPU that it came in on;
   * 'rollover': the first until its queue is full; 'random'; 'queue-mapping': by the queue of the interface.
   */
  mode: (typeof fanoutModes)[number];
  /** A packet goes to another member when the queue of its own is full. Default false. */
  rollover?: boolean;
  /** Fragments of IP packets are put together first, so that 'hash' keeps them with their flow. Default false. */
  defrag?: boolean;
}

const protocols = { all: ETH_P_ALL, ip: ETH_P_IP, ipv6: ETH_P_IPV6, arp: ETH_P_ARP } as const;

/** How PacketSocket.open() opens a socket. Each option has its kernel's default where none is named. packet(7). */
export interface PacketSocketOptions extends SocketOptions {
  /** The interface's name, or an alternative one. */
  interface: string;
  /** 'raw': frames with their link header; 'dgram': packets without it, which the kernel makes and takes off. Default 'raw'. */
  type?: 'raw' | 'dgram';
  /**
   * What is received: packets of one EtherType (0 to 65535, or by name), of 'all', or with 0 none. Only 'all' also sees
   * packets that this host sends. Default 'all'.
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
   * `tcpdump -ddd` prints it (for `type: 'dgram'`, `tcpdump -y RAW -ddd`). It is run on what the interface has, which may be
   * superpackets; so with `offload: 'split'` it lets a packet through whole or not at all: it returns 0 or at least 262144.
   */
  filter?: readonly BpfInstruction[] | string;
  /**
   * Segmentation offload (PACKET_VNET_HDR), with `type: 'raw'`. 'none': frames as the interface has them, which may be superpackets
   * without their checksums. 'split': frames no longer than the mtu with finished checksums, cut and made here, those in tunnels (IP in IP,
   * GRE, UDP) too; what can't be cut is dropped and counted as an error. 'raw': with what is still to be done to each (`info.offload`). Default 'none'.
   */
  offload?: OffloadMode;
  /** Say in `info` when each packet came (SO_TIMESTAMPNS). Default false. */
  timestamps?: boolean;
  /** Say in `info` the VLAN tag, which the kernel takes out of the frame, and the status (PACKET_AUXDATA). Default false. */
  auxdata?: boolean;
  /** Bytes for packets that wait to be received, without CAP_NET_ADMIN up to net.core.rmem_max. The kernel doubles it. */
  receiveBuffer?: number;
  /** Bytes for packets that wait to be sent, without CAP_NET_ADMIN up to net.core.wmem_max. The kernel doubles it. */
  sendBuffer?: number;
  /** Send past the interface's queueing discipline: faster, and dropped sooner (PACKET_QDISC_BYPASS). Default false. */
  qdiscBypass?: boolean;
  /** Where packets of a 'dgram' socket go, unless sendmsg() is told another. */
  destination?: PacketDestination;
}

/** PacketSocketOptions, validated and with defaults. */
export interface PacketConfig extends SocketConfig {
  interface: string;
  offload: OffloadMode;
  settings: Omit<PacketSettings, 'interfaceIndex'>;
}

const KNOWN = [
  ...SOCKET_OPTIONS,
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
  'receiveBuffer',
  'sendBuffer',
  'qdiscBypass',
  'destination',
] as const satisfies readonly (keyof PacketSocketOptions)[];

/** SO_RCVBUF doubles what it is given, which is an int. */
const MAX_BUFFER = 0x3fffffff;

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
  const offload = optional('offload', offloadMode) ?? 'none';
  if (offload !== 'none' && datagram) {
    throw invalidArgValue(
      'options.offload',
      "'none' with type 'dgram': the kernel has it for whole frames only",
      offload,
    );
  }
  const qdiscBypass = optional('qdiscBypass', boolean) ?? false;
  if (offload === 'split' && qdiscBypass) {
    throw invalidArgValue(
      'options.qdiscBypass',
      "false with offload 'split': past the queueing discipline the kernel cuts no superpackets",
      qdiscBypass,
    );
  }
  return {
    ...socketConfig(optional),
    offload,
    interface: anyInterfaceName('options.interface', given.interface),
    settings: {
      datagram,
      protocol: optional('protocol', protocolNumber) ?? ETH_P_ALL,
      promiscuous: optional('promiscuous', boolean) ?? false,
      ignoreOutgoing: optional('ignoreOutgoing', boolean) ?? false,
      fanout: optional('fanout', fanoutArgument),
      filter:
        optional('filter', (name, value) =>
          offload === 'split' ? wholePackets(name, bpfProgram(name, value)) : bpfProgram(name, value),
        ) ?? new Uint32Array(),
      timestamps: optional('timestamps', boolean) ?? false,
      auxdata: optional('auxdata', boolean) ?? false,
      receiveBuffer: optional('receiveBuffer', wholeNumber(1, MAX_BUFFER)) ?? 0,
      sendBuffer: optional('sendBuffer', wholeNumber(1, MAX_BUFFER)) ?? 0,
      qdiscBypass,
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

function fanoutArgument(name: string, value: unknown): number {
  const given = optionsObject(name, value);
  knownOptions(name, given, ['group', 'mode', 'rollover', 'defrag']);
  const group = integer(`${name}.group`, given.group, 0, 0xffff);
  const mode = fanoutModes.indexOf(oneOf(`${name}.mode`, given.mode, fanoutModes));
  const flag = (key: 'rollover' | 'defrag', bit: number) =>
    given[key] !== undefined && boolean(`${name}.${key}`, given[key]) ? bit : 0;
  const kind = mode | flag('rollover', FANOUT_ROLLOVER) | flag('defrag', FANOUT_DEFRAG);
  return ((kind << 16) | group) >>> 0;
}
