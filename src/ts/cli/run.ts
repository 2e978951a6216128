import { join } from 'node:path';
import { runCommand } from './child';
import type { Arguments, Command } from './command';

export const command: Command = {
  synopsis: 'run [options] -- <command> [arguments]',
  details:
    'In there the command is root, has a loopback interface that is up and no other, and can make devices, links and further namespaces; nothing of it touches the network of the machine. The exit status is that of the command.',
  options: {
    'net-only': {
      type: 'boolean',
      help: 'only a fresh network namespace: for root, whose rights to files stay as they are',
    },
  },
  arguments: [1, Number.POSITIVE_INFINITY],
  run,
};

/** A process with several threads, as Node always is, can't enter a new user namespace: unshare(1) does, and starts Node again. */
function run(args: Arguments): Promise<number> {
  const flags = args.flag('net-only') ? '-n' : '-Urn';
  return runCommand(
    'unshare',
    [flags, '--', process.execPath, join(__dirname, 'inside.js'), ...args.positionals],
    {},
  );
}
