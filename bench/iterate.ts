import type { MessageSocket } from 'tunsock';
import type { Operation } from './lib/operation';
import { messageEvent } from './message-event';

/** Takes so many packets one by one. */
type Take = (socket: MessageSocket) => AsyncIterator<unknown>;

/** Against the 'message' event of the same packets. */
function againstMessages(name: string, take: Take): Operation {
  return {
    ...messageEvent,
    name,
    baseline: messageEvent.prepare,
    baselineName: "'message'",
    target: { speedAtLeast: 0.6 },
    prepare(socket) {
      const iterator = take(socket);
      return async (packets) => {
        for (let left = packets; left > 0; left--) await iterator.next();
        return undefined;
      };
    },
  };
}

/** `for await`. */
export const forAwait = againstMessages('for await', (socket) => socket[Symbol.asyncIterator]());

/** stream(), read by `for await`. It reads ahead, in each process that has one: up to its high water mark, and a batch before that. */
export const stream: Operation = {
  ...againstMessages('stream()', (socket) => socket.stream()[Symbol.asyncIterator]()),
  spare: 256,
};
