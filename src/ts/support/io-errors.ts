import { systemError } from './errors';

/** Native results that sockets act on (errno(3), negative). */
export const EIO = -5;
export const EAGAIN = -11;
export const EINVAL = -22;
export const EBADFD = -77;
export const EMSGSIZE = -90;
const EOPNOTSUPP = -95;
export const ENETDOWN = -100;
export const ENOBUFS = -105;

const hints = new Map<number, string>([
  [EAGAIN, 'nothing is queued, or there is no room, and the call was not to wait longer'],
  [EIO, 'the interface is down: bring it up with Link.get(name).up()'],
  [
    EMSGSIZE,
    'a packet has at most 65535 bytes, and on a packet socket the mtu of the interface, beside its link header',
  ],
  [EBADFD, 'the device was deleted'],
  [
    EOPNOTSUPP,
    "the packet is to be cut or lacks its checksum (info.offload), and this socket has no virtio headers: open it with offload 'raw' or 'split'",
  ],
  [ENETDOWN, 'the interface was brought down; the socket goes on when it is up again'],
  [
    ENOBUFS,
    'the send queue is full, or the interface drops what it has no room for: wait for callbacks before sending more, or raise sendQueueLimit or the txQueueLength of the interface',
  ],
]);

/** The error of a packet operation on interface `name`. */
export function ioError(errno: number, syscall: string, name: string): Error {
  return systemError(errno, syscall, { interface: name, hint: hints.get(errno) });
}
