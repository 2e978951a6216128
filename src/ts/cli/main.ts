#!/usr/bin/env node
import { join } from 'node:path';
import { type Command, CommandError, helpText, readArguments, table, UsageError } from './command';
import { endWithOutput, Terminal } from './terminal';

/** The subcommands; each is loaded when it is asked for. */
const commands: { readonly [name: string]: () => Promise<{ command: Command }> } = {
  doctor: () => import('./doctor/command.js'),
  open: () => import('./open.js'),
  run: () => import('./run.js'),
  monitor: () => import('./monitor/command.js'),
  capture: () => import('./capture.js'),
  replay: () => import('./replay.js'),
  bench: () => import('./bench.js'),
  demo: () => import('./demo.js'),
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
    const text = await overview(columns);
    (name === undefined ? process.stderr : process.stdout).write(text);
    return name === undefined ? STATUS_USAGE : 0;
  }
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (load === undefined) throw new UsageError(`there is no subcommand '${name}': see tunsock --help`);
  const { command } = await load();
  const read = readArguments(command, args);
  if (read !== undefined) return command.run(read);
  process.stdout.write(helpText(command, columns));
  return 0;
}

async function overview(columns: number): Promise<string> {
  const rows: [string, string][] = [];
  for (const [name, load] of Object.entries(commands)) rows.push([name, (await load()).command.summary]);
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
