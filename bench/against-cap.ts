import { Link, type MessageSocket } from 'tunsock';
import { type Cap, newCap } from './lib/cap';
import type { Operation, Work } from './lib/operation';
import { messageEvent } from './message-event';
import { packetSendmmsg } from './sendmmsg';

/** As many bytes as the packet socket's queue has. */
const RING_BYTES = 16 * 1024 * 1024;
const LONGEST_FRAME = 65_535;

/** Frames that the listener owns, as events: cap's 'packet', with the copy that its documentation asks for, and 'message'. */
export const messageAgainstCap: Operation = {
  ...messageEvent,
  name: "'message' against cap",
  device: 'veth',
  baseline: receiveByCap,
  baselineName: "cap 'packet'",
  traffic: ['flood'],
  target: undefined,
};

/** The same frame again and again: cap's send() for each, and sendmmsg() of 64. */
export const sendAgainstCap: Operation = {
  ...packetSendmmsg,
  name: 'sendmmsg against cap',
  baseline: sendByCap,
  baselineName: 'cap send()',
  target: undefined,
};

// A Cap is opened for its round only: it can't be paused, and would cost tunsock's rounds.

function receiveByCap(socket: MessageSocket): Work {
  const captures = new Captures(socket);
  let left = 0;
  let done: (value: undefined) => void;
  const listen = () => {
    const cap = captures.open();
    cap.on('packet', (bytes) => {
      Buffer.from(captures.buffer.subarray(0, bytes));
      left -= 1;
      if (left > 0) return;
      cap.close(); // takes effect after this event, when the clock has stopped
      done(undefined);
    });
  };
  const receive = (packets: number) =>
    new Promise<undefined>((resolve) => {
      left = packets;
      done = resolve;
    });
  return Object.assign(receive, { ready: listen });
}

function sendByCap(socket: MessageSocket, packet: Buffer): Work {
  const captures = new Captures(socket);
  let cap: Cap;
  const ready = () => {
    cap = captures.open();
  };
  const send = (packets: number) => {
    for (let left = packets; left > 0; left--) cap.send(packet, packet.length);
    return () => void cap.close();
  };
  return Object.assign(send, { ready });
}

/** Opens Caps, one after another. All are kept, and their buffer: neither cap nor libuv knows when it is collected. */
class Captures {
  readonly buffer = Buffer.alloc(LONGEST_FRAME);
  readonly #device: string;
  readonly #opened: Cap[] = [];

  constructor({ name }: MessageSocket) {
    this.#device = name;
    const link = Link.get(name);
    // Without an address of IPv4 each open() prints a warning.
    if (link.addresses().length === 0) link.addAddress('10.7.1.1/24');
  }

  open(): Cap {
    const cap = newCap();
    cap.open(this.#device, '', RING_BYTES, this.buffer);
    this.#opened.push(cap);
    return cap;
  }
}
