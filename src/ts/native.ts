import { join } from 'node:path';
import load from 'node-gyp-build';

/**
 * The typed face of the addon (src/native/binding). Its functions return a count or a negative errno, or the
 * data named here; they never make errors themselves. Arguments are validated before they get here.
 */
export interface NativeBinding {
  // biome-ignore lint/suspicious/noExplicitAny: filled in by each binding
  [name: string]: any;
}

let binding: NativeBinding | undefined;

/**
 * The addon, loaded when it is first needed, so that importing the package works wherever Node does.
 *
 * @throws Error `ERR_TUNSOCK_PLATFORM` where the system is not Linux; `ERR_TUNSOCK_ADDON` where the addon is missing
 * or can't be loaded.
 */
export function native(): NativeBinding {
  binding ??= loadBinding();
  return binding;
}

function loadBinding(): NativeBinding {
  if (process.platform !== 'linux') {
    throw Object.assign(
      new Error(`tunsock needs Linux: TUN/TAP devices and packet sockets as it uses them don't exist on ${process.platform}`),
      { code: 'ERR_TUNSOCK_PLATFORM' },
    );
  }
  try {
    return load(join(__dirname, '..')) as NativeBinding;
  } catch (cause) {
    throw Object.assign(
      new Error('tunsock: the native addon is missing or can\'t be loaded; build it with "npm rebuild tunsock" (this needs python3, make and g++)', { cause }),
      { code: 'ERR_TUNSOCK_ADDON' },
    );
  }
}
