import { messageAgainstCap, sendAgainstCap } from './against-cap';
import { batchEvent } from './batch-event';
import { capInstalled } from './lib/cap';
import type { Operation } from './lib/operation';
import { messageEvent } from './message-event';
import { openConfigure } from './open-configure';
import { packetRecvmmsg, recvmmsg } from './recvmmsg';
import { roundTrip } from './round-trip';
import { sendBursts } from './send-bursts';
import { packetSendmmsg, sendmmsg } from './sendmmsg';

/** In the order of the table. */
export const operations: readonly Operation[] = [
  recvmmsg,
  batchEvent,
  messageEvent,
  sendmmsg,
  sendBursts,
  roundTrip,
  openConfigure,
  packetRecvmmsg,
  packetSendmmsg,
  ...(capInstalled ? [messageAgainstCap, sendAgainstCap] : []),
];
