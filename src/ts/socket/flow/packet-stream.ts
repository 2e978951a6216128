import type { Duplex } from 'node:stream';
import { stream } from '../../support/builtins';
import type { MessageInfo, PacketData } from '../../support/types';
import type { OwnedPacket } from './inbox';
import type { SendCallback } from './send-queue';

/** What a stream needs of its socket. */
export interface PacketStreamSocket {
  /** The next packet, if one is there already. */
  take(): OwnedPacket | undefined;
  next(): Promise<OwnedPacket>;
  send(packet: PacketData, callback: SendCallback): void;
  dispose(): void;
}

/** A chunk of a stream with `info`. */
export interface PacketWithInfo<Info extends MessageInfo = MessageInfo> {
  packet: Buffer;
  info: Info;
}

/** A Duplex over a socket: each chunk is one packet, or with `info` one { packet, info }. It ends when the socket closes. */
export function packetStream(socket: PacketStreamSocket, info: boolean): Duplex {
  const chunk = (owned: OwnedPacket) => (info ? owned : owned.packet);
  const packetOf = (given: PacketData | PacketWithInfo) =>
    info && !ArrayBuffer.isView(given) && 'packet' in given ? given.packet : (given as PacketData);
  // The reader asks for more while a packet is pushed, and after that: neither may be lost.
  let wanted = false;
  let pumping = false;
  const pump = async () => {
    pumping = true;
    try {
      while (wanted) {
        const owned = socket.take() ?? (await socket.next());
        wanted = false;
        if (duplex.push(chunk(owned))) wanted = true;
      }
    } catch (error) {
      if ((error as { code?: string }).code === 'ERR_SOCKET_CLOSED') duplex.push(null);
      else duplex.destroy(error as Error);
    } finally {
      pumping = false;
    }
  };
  const duplex = new (stream().Duplex)({
    objectMode: true,
    read() {
      wanted = true;
      if (!pumping) void pump();
    },
    write(given, _encoding, callback) {
      try {
        socket.send(packetOf(given), callback);
      } catch (error) {
        callback(error as Error);
      }
    },
    /** Several chunks at once: they cross into the kernel together, and the last one's end is that of all. */
    writev(chunks, callback) {
      let left = chunks.length;
      let failed: Error | null = null;
      const settled = (error: Error | null) => {
        failed ??= error;
        left -= 1;
        if (left === 0) callback(failed);
      };
      for (const { chunk: given } of chunks) {
        try {
          socket.send(packetOf(given), settled);
        } catch (error) {
          process.nextTick(settled, error as Error);
        }
      }
    },
    destroy(error, callback) {
      socket.dispose();
      callback(error);
    },
  });
  return duplex;
}
