#!/usr/bin/env node
import { join } from 'node:path';
import { type Command, CommandError, helpText, readArguments, table, UsageError } from './command';
import { endWithOutput, Terminal } from './terminal';

/** A subcommand: what it does, and where it is, to be loaded when it is asked for. */
interface Subcommand {
  summary: string;
  load(): Promise<{ command: Command }>;
}

const subcommands: { readonly [name: string]: Subcommand } = {
  doctor: {
    summary: "find out why a device can't be opened, and say which command mends it",
    load: () => import('./doctor/command.js'),
  },
  open: {
    summary: 'make and configure a device, and run a command that gets its descriptor',
    load: () => import('./open.js'),
  },
  run: {
    summary:
      'run a command in fresh user and network namespaces, where it may open devices without privilege',
    load: () => import('./run.js'),
  },
  monitor: {
    summary: 'show what goes through an interface: rate, packet sizes, protocols, largest flows, drops',
    load: () => import('./monitor/command.js'),
  },
  capture: {
    summary: 'write what goes through an interface to a pcapng file',
    load: () => import('./capture.js'),
  },
  replay: {
    summary:
      'send the packets of a pcap or pcapng file out of an interface, when they were recorded or faster',
    load: () => import('./replay.js'),
  },
  bench: {
    summary: 'measure how fast this machine moves packets, in a network namespace of its own',
    load: () => import('./bench.js'),
  },
  demo: {
    summary: 'answer pings and inject a datagram, in a network namespace of its own',
    load: () => import('./demo.js'),
  },
};

const STATUS_FAILED = 1;
const STATUS_USAGE = 2;

async function main([name, ...args]: string[]): Promise<number> {
  const columns = new Terminal(process.stdout).columns;
  if (name === '--version' || name === '-V') {
    process.stdout.write(`${require(join(__dirname, '..', '..', 'package.json')).version}\n`);
    return 0;
  }
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const text = overview(columns);
    (name === undefined ? process.stderr : process.stdout).write(text);
    return name === undefined ? STATUS_USAGE : 0;
  }
  const subcommand = Object.hasOwn(subcommands, name) ? subcommands[name] : undefined;
  if (subcommand === undefined) throw new UsageError(`there is no subcommand '${name}': see tunsock --help`);
  const { command } = await subcommand.load();
  const read = readArguments(command, args);
  if (read !== undefined) return command.run(read);
  process.stdout.write(helpText(command, subcommand.summary, columns));
  return 0;
}

function overview(columns: number): string {
  const rows = Object.entries(subcommands).map(([name, { summary }]): [string, string] => [name, summary]);
  return `Usage: tunsock <subcommand> [options]\n\n${table(rows, columns)}\n'tunsock <subcommand> --help' says more.\n`;
}

/** What users can mend is one line; a fault of ours shows where it is. */
function failure(error: unknown): number {
  const { name, code, message, stack } = error as NodeJS.ErrnoException;
  const usage =
    error instanceof UsageError || code?.startsWith('ERR_INVALID_ARG') || code === 'ERR_OUT_OF_RANGE';
  const known = usage || error instanceof CommandError || code !== undefined || name === 'AbortError';
  process.stderr.write(`tunsock: ${known ? message : stack}\n`);
  return usage ? STATUS_USAGE : STATUS_FAILED;
}

endWithOutput();
main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error) => {
    process.exitCode = failure(error);
  },
);
