import { spawnSync } from 'node:child_process';

/** Whether setpriv(1), of util-linux, is there for {@link POWERLESS}. */
export const HAS_SETPRIV = spawnSync('setpriv', ['--version']).error === undefined;
if (!HAS_SETPRIV) console.log('skipped: what needs setpriv(1), of util-linux');

/** Starts a program with no capability but CAP_SETFCAP, which lets unshare(1) map a user id of 0 (user_namespaces(7)). */
export const POWERLESS = ['setpriv', '--bounding-set=-all,+setfcap', '--inh-caps=-all'];
