import { Duplex } from 'node:stream';
import type { MessageSocket } from '../message-socket';

/** A Duplex over a socket: each chunk is one packet. It ends when the socket closes. */
export function packetStream(socket: MessageSocket): Duplex {
  let reading = false;
  const stream = new Duplex({
    objectMode: true,
    async read() {
      if (reading) return;
      reading = true;
      try {
        while (stream.push(await socket.receive()));
      } catch (error) {
        if ((error as { code?: string }).code === 'ERR_SOCKET_CLOSED') stream.push(null);
        else stream.destroy(error as Error);
      } finally {
        reading = false;
      }
    },
    write(packet, _encoding, callback) {
      try {
        socket.send(packet, callback);
      } catch (error) {
        callback(error as Error);
      }
    },
    destroy(error, callback) {
      socket[Symbol.dispose]();
      callback(error);
    },
  });
  return stream;
}
