import { getSystemErrorMap } from 'node:util';

/** What a system error is about; each part that is given becomes a property of the error. */
export interface SystemErrorContext {
  /** The file that the call was about. */
  path?: string | undefined;
  /** The network interface that the call was about. */
  interface?: string | undefined;
  /** What the user can do about it, or what the kernel said beyond the number; ends the message. */
  hint?: string | undefined;
}

/** An error of the operating system, with the properties that Node gives its own. */
export interface SystemError extends Error {
  /** The error's name, such as `EPERM` (errno(3)). */
  code: string;
  /** The error's number, negative as Node has it. */
  errno: number;
  /** The system call, ioctl or netlink request that failed. */
  syscall: string;
  path?: string;
  interface?: string;
}

/** Names and texts that libuv lacks, or gives another name than errno(3) does. */
const overrides = new Map<number, readonly [name: string, message: string]>([
  [-77, ['EBADFD', 'file descriptor in bad state']],
  [-95, ['EOPNOTSUPP', 'operation not supported']],
  [-100, ['ENETDOWN', 'network is down']],
  [-105, ['ENOBUFS', 'no buffer space available']],
]);

const defaultHints = new Map<string, string>([
  ['EPERM', 'this needs CAP_NET_ADMIN: run as root, grant it with setcap, or start under unshare -Urn'],
  [
    'poll ENOSYS',
    "this runtime's event loop can't watch descriptors: events and asynchronous calls need Node or Deno; sendmsg(), recvmsg(), sendmmsg() and recvmmsg() work",
  ],
]);

/** The name of a negative errno, such as `'EPERM'`. */
export function errorName(errno: number): string {
  return (overrides.get(errno) ?? getSystemErrorMap().get(errno))?.[0] ?? `E${-errno}`;
}

/** Makes the error for a native result, which is a negative errno. */
export function systemError(errno: number, syscall: string, context: SystemErrorContext = {}): SystemError {
  const [code, text] = overrides.get(errno) ??
    getSystemErrorMap().get(errno) ?? [`E${-errno}`, `unknown error ${-errno}`];
  const subject = context.path ?? context.interface;
  const hint = context.hint ?? defaultHints.get(`${syscall} ${code}`) ?? defaultHints.get(code);
  const message = `${syscall} ${code}: ${text}${subject === undefined ? '' : `, ${subject}`}${hint === undefined ? '' : ` (${hint})`}`;
  const error = Object.assign(new Error(message), { code, errno, syscall }) as SystemError;
  if (context.path !== undefined) error.path = context.path;
  if (context.interface !== undefined) error.interface = context.interface;
  return error;
}

/** Returns a native result that is a count; throws the error for one that is a negative errno. */
export function check(result: number, syscall: string, context?: SystemErrorContext): number {
  if (result < 0) throw systemError(result, syscall, context);
  return result;
}

function withCode<E extends Error>(error: E, code: string): E & { code: string } {
  return Object.assign(error, { code });
}

/** A value of the wrong type: TypeError `ERR_INVALID_ARG_TYPE`. */
export function invalidArgType(name: string, expected: string, value: unknown): TypeError {
  return withCode(
    new TypeError(`${name} must be ${expected}; received ${describe(value)}`),
    'ERR_INVALID_ARG_TYPE',
  );
}

/** A value of the right type that makes no sense: TypeError `ERR_INVALID_ARG_VALUE`. */
export function invalidArgValue(name: string, expected: string, value: unknown): TypeError {
  return withCode(
    new TypeError(`${name} must be ${expected}; received ${describe(value)}`),
    'ERR_INVALID_ARG_VALUE',
  );
}

/** A number outside its range: RangeError `ERR_OUT_OF_RANGE`. */
export function outOfRange(name: string, range: string, value: unknown): RangeError {
  return withCode(
    new RangeError(`${name} must be ${range}; received ${describe(value)}`),
    'ERR_OUT_OF_RANGE',
  );
}

/** A call that makes no sense now, whatever its arguments: Error `ERR_INVALID_STATE`. */
export function invalidState(message: string): Error {
  return withCode(new Error(message), 'ERR_INVALID_STATE');
}

/** Use after close: Error `ERR_SOCKET_CLOSED`. */
export function closedError(what: string): Error {
  return withCode(new Error(`${what} is closed`), 'ERR_SOCKET_CLOSED');
}

/** What an aborted operation throws: named and coded as Node's own, with the signal's reason as its cause. */
export function abortError(signal: AbortSignal): Error {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  error.name = 'AbortError';
  return withCode(error, 'ABORT_ERR');
}

function describe(value: unknown): string {
  if (typeof value === 'string') return value.length > 80 ? `'${value.slice(0, 77)}...'` : `'${value}'`;
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'object' && value !== null) {
    const name: unknown = value.constructor?.name;
    return typeof name === 'string' ? `an instance of ${name}` : 'an object without a class';
  }
  return String(value);
}
