import type { MessageSocket } from 'tunsock';
import type { DeviceKind } from './device';

/** What one side did in one round. */
export interface Round {
  packets: number;
  nanoseconds: number;
  /** User and system time of the process, in nanoseconds. */
  cpu: number;
}

/**
 * Where packets come from. 'queued': they are in the device's queue before the clock starts, so that only the reader is
 * measured. 'flood': a sender on the other core that is faster than the reader. 'ping': one packet at a time goes there
 * and back, and the sender's clock counts. 'none': nothing comes in.
 */
export type Traffic = 'queued' | 'flood' | 'ping' | 'none';

/** Moves so many packets; what it returns is called when the clock has stopped. */
export interface Work {
  (packets: number): undefined | (() => void) | Promise<undefined>;
  /** Called before the clock starts. */
  ready?(): void;
}

/** Makes ready, in a process of its own; `packet` is what to send. */
export type Prepare = (socket: MessageSocket, packet: Buffer) => Work;

/** One thing that tunsock does, and who else does it: a C program with the same system calls, or another package. */
export interface Operation {
  name: string;
  device: DeviceKind;
  /** A file of bench/baseline, without its ending; or what another package does. */
  baseline: string | Prepare;
  /** What the table calls it. */
  baselineName: string;
  /** A row for each kind of traffic and each size. */
  traffic: readonly Traffic[];
  /** Bytes of the packets: of IP packets on a tun device, of frames with their header on a veth pair. */
  sizes: readonly number[];
  /**
   * 'cpu': user and system time of the whole process, for work that never waits: other programs on the machine don't blur
   * it, and helper threads count. 'wall': time that went by; a flood's always.
   */
  clock: 'cpu' | 'wall';
  /** Packets in a round. */
  packets: number;
  /** Packets that are queued beyond those of a round, for a side that reads ahead: it takes some of the other's. */
  spare?: number;
  rounds: number;
  /** The least speed, or the most time, as a multiple of the baseline's (design, section 4). */
  target: { speedAtLeast: number } | { timeAtMost: number } | undefined;
  prepare: Prepare;
}
