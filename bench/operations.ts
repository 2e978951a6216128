import { messageAgainstCap, sendAgainstCap } from './against-cap';
import { messageAgainstStream, sendAgainstStream } from './against-fs';
import { batchEvent } from './batch-event';
import { forAwait, stream } from './iterate';
import { capInstalled, comparing } from './lib/cap';
import type { Operation } from './lib/operation';
import { messageEvent } from './message-event';
import { openConfigure } from './open-configure';
import { packetRecvmmsg, recvmmsg } from './recvmmsg';
import { recvmsg } from './recvmsg';
import { roundTrip } from './round-trip';
import { sendBursts } from './send-bursts';
import { packetSendmmsg, sendmmsg } from './sendmmsg';
import { sendmsg } from './sendmsg';

/** In the order of the table. */
export const operations: readonly Operation[] = [
  recvmmsg,
  batchEvent,
  messageEvent,
  recvmsg,
  forAwait,
  stream,
  sendmmsg,
  sendmsg,
  sendBursts,
  roundTrip,
  openConfigure,
  packetRecvmmsg,
  packetSendmmsg,
  ...(comparing ? [messageAgainstStream, sendAgainstStream] : []),
  ...(capInstalled ? [messageAgainstCap, sendAgainstCap] : []),
];
