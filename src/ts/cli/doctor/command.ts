import { type Arguments, type Command, wrap } from '../command';
import { Terminal } from '../terminal';
import { examine, type Finding } from './checks';
import { thisSystem } from './system-view';

const COLOURS = { ok: 'green', warn: 'yellow', fail: 'red' } as const;
const LABEL_WIDTH = 6;

export const command: Command = {
  synopsis: 'doctor [options]',
  details:
    "Looks at the kernel, the device file, privileges, namespaces and vhost, then opens a device in a namespace of its own. Nothing is changed. The exit status is 1 where a device can't be opened.",
  options: { json: { type: 'boolean', help: 'print the findings as JSON' } },
  arguments: [0, 0],
  run,
};

async function run(args: Arguments): Promise<number> {
  const findings = examine(thisSystem());
  const sound = findings.every(({ status }) => status !== 'fail');
  if (args.flag('json')) process.stdout.write(`${JSON.stringify({ ok: sound, findings }, null, 2)}\n`);
  else print(findings, new Terminal(process.stdout));
  return sound ? 0 : 1;
}

function print(findings: readonly Finding[], terminal: Terminal): void {
  const indent = ' '.repeat(LABEL_WIDTH);
  for (const { check, status, detail, fix } of findings) {
    const [first = '', ...rest] = wrap(`${check}: ${detail}`, terminal.columns - LABEL_WIDTH - 1);
    terminal.line(`${terminal.colour(COLOURS[status], status.padEnd(LABEL_WIDTH))}${first}`);
    for (const line of rest) terminal.line(indent + line);
    // A command is not broken: it is there to be copied.
    if (fix !== undefined) terminal.line(`${indent}${terminal.colour('bold', fix)}`);
  }
}
