import { spawnSync } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { Netns } from 'tunsock';

/** What opening a device came to: the error, or what the device has. */
export interface OpenAttempt {
  error?: { code: string; message: string };
  /** Kinds of offload that the kernel granted. */
  offloads?: string[];
}

/** The system as the checks see it: what they ask is all here, so that tests can show them any other. */
export interface SystemView {
  platform: string;
  /** Of the kernel: '6.1.0-13-amd64'. */
  release: string;
  /** The program to grant capabilities to. */
  execPath: string;
  uid: number;
  /** Why the addon can't be loaded; undefined where it can. */
  addonError(): string | undefined;
  /** The text of a file; undefined where it can't be read. */
  read(path: string): string | undefined;
  /** What a path is; undefined where there is nothing. */
  stat(path: string): { characterDevice: boolean; mode: number } | undefined;
  /** The code of the error that opening a file for reading and writing gives; undefined where it works. */
  openError(path: string): string | undefined;
  /** Opens a device in a fresh network namespace, which takes CAP_SYS_ADMIN, or with `rootless` under unshare -Urn. */
  tryOpen(rootless: boolean): OpenAttempt;
}

/** The system that this runs on. */
export function thisSystem(): SystemView {
  return {
    platform: process.platform,
    release: release(),
    execPath: process.execPath,
    uid: process.getuid?.() ?? 0,
    addonError: () => {
      try {
        Netns.current().close();
        return undefined;
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        return code === 'ERR_TUNSOCK_PLATFORM' || code === 'ERR_TUNSOCK_ADDON' ? message : undefined;
      }
    },
    read: (path) => {
      try {
        return readFileSync(path, 'utf8');
      } catch {
        return undefined;
      }
    },
    stat: (path) => {
      try {
        const stats = statSync(path);
        return { characterDevice: stats.isCharacterDevice(), mode: stats.mode & 0o777 };
      } catch {
        return undefined;
      }
    },
    openError: (path) => {
      try {
        closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
        return undefined;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    },
    tryOpen: (rootless) => {
      // Beside the bundle of the command, or above this file where it is by itself.
      const probe = [join(__dirname, 'probe.js'), join(__dirname, '..', 'probe.js')].find(
        existsSync,
      ) as string;
      const [command, args] = rootless
        ? ['unshare', ['-Urn', '--', process.execPath, probe]]
        : [process.execPath, [probe]];
      const { stdout, stderr, error } = spawnSync(command as string, args as string[], {
        encoding: 'utf8',
        timeout: 20_000,
      });
      if (error !== undefined) {
        return {
          error: { code: (error as NodeJS.ErrnoException).code ?? 'EIO', message: `${error.message}` },
        };
      }
      try {
        return JSON.parse(stdout) as OpenAttempt;
      } catch {
        return { error: { code: 'EPERM', message: stderr.trim() || 'the program ended early' } };
      }
    },
  };
}
