import { close, createReadStream, createWriteStream, open, write } from 'node:fs';
import type { MessageSocket } from 'tunsock';
import type { Operation, Work } from './lib/operation';
import { messageEvent } from './message-event';
import { BURST, sendBursts } from './send-bursts';

/**
 * What a program does that only has the descriptor: streams of node:fs over it, on the thread pool. The npm package tuntap2 does so, with
 * the streams' defaults.
 */
const BASELINE_NAME = 'fs stream, as tuntap2';

/** Buffers that the listener owns, as events: 'data' of a ReadStream, and 'message'. */
export const messageAgainstStream: Operation = {
  ...messageEvent,
  name: "'message' against fs",
  baseline: receiveByStream,
  baselineName: BASELINE_NAME,
  traffic: ['queued'],
  target: undefined,
};

/** Bursts of write() of a WriteStream, and of send(). */
export const sendAgainstStream: Operation = {
  ...sendBursts,
  name: 'send() against fs',
  baseline: sendByStream,
  baselineName: BASELINE_NAME,
  target: undefined,
};

function receiveByStream({ fd }: MessageSocket): Work {
  return (packets) =>
    new Promise((resolve, reject) => {
      let left = packets;
      const stream = createReadStream('', { fd, autoClose: false });
      stream.on('data', () => {
        left -= 1;
      });
      // The read behind the last packet: the descriptor is O_NONBLOCK.
      stream.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'EAGAIN' && left <= 0) resolve(undefined);
        else reject(new Error(`${left} packets are missing`, { cause: error }));
      });
    });
}

function sendByStream({ fd }: MessageSocket, packet: Buffer): Work {
  // Without its writev, which would gather what waits into one packet.
  const stream = createWriteStream('', { fd, autoClose: false, fs: { open, write, close } });
  return async (packets) => {
    for (let left = packets; left > 0; left -= BURST) {
      await new Promise<void>((resolve) => {
        for (let count = 1; count < BURST; count++) stream.write(packet);
        stream.write(packet, () => resolve());
      });
    }
    return undefined;
  };
}
