import type { SocketHandle } from '../native';
import { datagramErrno, datagramInfo } from '../packet/datagram-meta';
import { MSG_DONTWAIT, MSG_ERRQUEUE } from '../support/constants';
import { systemError } from '../support/errors';

/** What the network may have said of a datagram (icmp_err_convert of net/ipv4/icmp.c), as core/io/udp_io.cc has it. */
const NETWORK_ERRORS: ReadonlySet<number> = new Set([
  -13, // EACCES
  -64, // ENONET
  -71, // EPROTO
  -90, // EMSGSIZE
  -92, // ENOPROTOOPT
  -95, // EOPNOTSUPP
  -101, // ENETUNREACH
  -110, // ETIMEDOUT
  -111, // ECONNREFUSED
  -112, // EHOSTDOWN
  -113, // EHOSTUNREACH
]);

/** The words before the metadata of what was received last. */
const DETAILS_BYTES = 16;
/** More than core/io/udp_io.cc keeps. */
const MAX_ERRORS = 32;

/** Takes the messages of a socket's error queue, each as an error with `address`, `port` and `offender`; `errno` where there is none. */
export function networkErrors(handle: SocketHandle): (errno: number, syscall: string) => Error[] | undefined {
  return (errno, syscall) => {
    if (!NETWORK_ERRORS.has(errno)) return undefined;
    const meta = new DataView(handle.details, DETAILS_BYTES);
    const errors: Error[] = [];
    while (errors.length < MAX_ERRORS) {
      if (handle.receive([], MSG_ERRQUEUE | MSG_DONTWAIT, 0) < 0) break;
      const { from, to, error } = datagramInfo(0, 0, 0, 0, meta, 0);
      if (error === undefined) continue;
      const number = datagramErrno(meta, 0);
      errors.push(
        Object.assign(
          systemError(number, syscall, { hint: `${from.address} port ${from.port}, told by ${to}` }),
          {
            address: from.address,
            port: from.port,
            offender: to,
          },
        ),
      );
    }
    return errors.length > 0 ? errors : [systemError(errno, syscall)];
  };
}
