import type { SystemError } from '../support/errors';
import { PacketSocket } from './packet-socket';
import { TunSocket } from './tun-socket';
import { UdpSocket } from './udp-socket';

/**
 * The right socket for a descriptor that something else opened: a TunSocket for a tun descriptor, a PacketSocket for a packet
 * socket, a UdpSocket for a UDP socket. It owns the descriptor from then on.
 *
 * @throws SystemError ENOTSOCK (none of them), EBADFD (its interface is gone, or it was never attached to one), EBADF (none at
 * all); the descriptor is then still the caller's.
 */
export function socketFromFd(fd: number): TunSocket | PacketSocket | UdpSocket {
  for (const kind of [PacketSocket, UdpSocket]) {
    try {
      return kind.fromFd(fd);
    } catch (error) {
      if ((error as SystemError).code !== 'ENOTSOCK') throw error;
    }
  }
  return TunSocket.fromFd(fd);
}
