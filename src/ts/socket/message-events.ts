import type { PacketBatch } from '../packet/packet-batch';
import type { MessageInfo } from '../support/types';

/** Events of a MessageSocket, with what their listeners get. */
export interface MessageSocketEvents {
  /** On the tick after the socket was opened. */
  listening: [];
  /** A packet; the Buffer is the listener's to keep. */
  message: [packet: Buffer, info: MessageInfo];
  /** All packets of one wake-up; valid only during the call, since no copy is made. */
  batch: [batch: PacketBatch];
  /**
   * ENETDOWN: the interface was brought down; the socket lives on, and works again when it is up. EBADFD and all others:
   * the device is gone or unusable; 'close' follows. Also what failed in a send() without a callback.
   */
  error: [error: Error];
  close: [];
}
