// Runs a command in a network namespace of its own: as root with unshare -n, otherwise with unshare -Urn, which needs
// no privilege. What the command does can so never touch the host's network.
import { spawnSync } from 'node:child_process';

const [command, ...args] = process.argv.slice(2);
const flags = process.getuid() === 0 ? '-n' : '-Urn';
const { status, signal, error } = spawnSync('unshare', [flags, command, ...args], { stdio: 'inherit' });
if (error !== undefined) {
  console.error(`unshare(1), of util-linux, could not be started: ${error.message}`);
} else if (status !== 0) {
  console.error(`unshare ${flags} ${command}: ${signal ?? `exit status ${status}`}`);
  if (flags === '-Urn') {
    console.error(
      'Where unprivileged user namespaces are switched off, or /dev/net/tun may not be opened, run this as root.',
    );
  }
}
process.exit(status ?? 1);
