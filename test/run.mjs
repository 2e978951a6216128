// Runs a command in a network namespace of its own: as root with unshare -n, otherwise with unshare -Urn, which needs
// no privilege. What the command does can so never touch the host's network. It is ended when this process ends.
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

const [command, ...args] = process.argv.slice(2);
const flags = process.getuid() === 0 ? '-n' : '-Urn';

/** Why no test of a device could pass here, said once and not by each of them. */
function obstacle() {
  const { status, error, stderr } = spawnSync('unshare', [flags, 'true'], { encoding: 'utf8' });
  if (error !== undefined) return `unshare(1), of util-linux, could not be started: ${error.message}`;
  if (status !== 0) return `${stderr.trim()}: namespaces are not to be had here; run this as root`;
  try {
    closeSync(openSync('/dev/net/tun', 'r+'));
  } catch (cause) {
    const advice = cause.code === 'EACCES' ? 'sudo chmod 0666 /dev/net/tun, or run this as root' : '';
    return `${cause.message}${advice && `: ${advice}`} ('node dist/cli/main.js doctor' says more)`;
  }
  return undefined;
}

const problem = obstacle();
if (problem !== undefined) {
  console.error(problem);
  process.exit(1);
}
const whole = [flags, 'setpriv', '--pdeathsig', 'TERM', '--', command, ...args];
const { status, signal, error } = spawnSync('unshare', whole, { stdio: 'inherit' });
if (status !== 0) {
  console.error(`unshare ${flags} ${command}: ${error?.message ?? signal ?? `exit status ${status}`}`);
}
process.exit(status ?? 1);
