/** Each side tells the other what it has lost, and that one sends superpackets where nothing is. */
import type { Session } from './session';

export type Mode = 'packet' | 'superpacket';

/** Fewer say nothing. */
const MIN_MESSAGES = 20;
const REPORT_BYTES = 8;
/** Of a hundred superpackets. One datagram of forty takes its superpacket with it. */
const MAX_LOSS_PERCENT = 2;
/** A mode that lost is left alone twice as long each time, up to sixteen times. */
const MAX_DOUBLINGS = 4;

/** How many of the peer's messages have come, of how many that were sent, since the last time; undefined where those are too few. */
export function lossReport(sessions: Iterable<Session>): Buffer | undefined {
  let sent = 0;
  let came = 0;
  // The peer may use other keys than this side does.
  const all = [...sessions];
  for (const { window, opened, told } of all) {
    sent += window.highest - told.highest;
    came += opened - told.opened;
  }
  if (sent < MIN_MESSAGES) return undefined;
  for (const session of all) session.told = { highest: session.window.highest, opened: session.opened };
  const report = Buffer.alloc(REPORT_BYTES);
  report.writeUInt32LE(sent, 0);
  report.writeUInt32LE(Math.min(came, sent), 4);
  return report;
}

/** Which mode to send in, as the peer's reports have it. */
export class ModeChoice {
  mode: Mode = 'superpacket';
  readonly #backOff: number;
  #blockedUntil = 0;
  #times = 0;

  /** @param backOff - milliseconds that superpackets are left alone for when they are first lost. */
  constructor(backOff: number) {
    this.#backOff = backOff;
  }

  heard(report: Buffer): Mode {
    if (report.length !== REPORT_BYTES) return this.mode;
    const sent = report.readUInt32LE(0);
    const lost = sent - report.readUInt32LE(4);
    const now = performance.now();
    if (this.mode === 'superpacket') {
      if (lost * 100 <= sent * MAX_LOSS_PERCENT) return this.mode;
      this.#blockedUntil = now + this.#backOff * 2 ** Math.min(this.#times, MAX_DOUBLINGS);
      this.#times += 1;
      this.mode = 'packet';
    } else if (now > this.#blockedUntil && lost * 2000 <= sent) {
      this.mode = 'superpacket';
    }
    return this.mode;
  }
}
