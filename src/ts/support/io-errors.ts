import * as constants from './constants';
import { systemError } from './errors';

/** Native results that sockets act on (errno(3), negative). */
export const EPERM = -1;
export const EIO = -5;
export const ENXIO = -6;
export const EAGAIN = -11;
export const ENOMEM = -12;
export const EINVAL = -22;
export const EBADFD = -77;
export const EMSGSIZE = -90;
export const EOPNOTSUPP = -95;
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
  [ENETDOWN, 'the interface is down: bring it up with Link.get(name).up(); the socket goes on then'],
  [
    ENOBUFS,
    'the send queue is full, or the interface drops what it has no room for: wait for callbacks before sending more, or raise sendQueueLimit or the txQueueLength of the interface',
  ],
]);

/** The error of a packet operation on interface `name`, '' for none; `hint` where it is another than for all sockets. */
export function ioError(errno: number, syscall: string, name: string, hint?: string): Error {
  return systemError(errno, syscall, {
    interface: name === '' ? undefined : name,
    hint: hint ?? hints.get(errno),
  });
}

/** Says which of `flags` a call doesn't take; `undefined` where it takes all of them. */
export function unknownFlags(flags: number, known: number): string | undefined {
  const unknown = flags & ~known;
  if (unknown === 0) return undefined;
  const names = Object.entries(constants)
    .filter(([name, value]) => name.startsWith('MSG_') && (unknown & (value as number)) !== 0)
    .map(([name]) => name);
  const named = names.length > 0 ? names.join(', ') : `0x${unknown.toString(16)}`;
  return `${named} is not a flag of this call`;
}
