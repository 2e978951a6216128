import { spawnSync } from 'node:child_process';

/** What comes before a program: the package as `tunsock`, in a namespace of its own. */
export const PRELUDE = `const tunsock = require(process.argv[1]);
const { TunSocket, Netns, Link } = tunsock;
Netns.create().enter();
const descriptors = () => require('fs').readdirSync('/proc/self/fd').length;
`;

/** What a program that ended well leaves beside its output. */
export const ENDED = { status: 0, signal: null, stderr: '' };

/** Runs a program in a process of its own. */
export function run(program: string, ...flags: string[]) {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [...flags, '-e', PRELUDE + program, process.cwd()],
    { encoding: 'utf8', timeout: 60_000 },
  );
  return { status, signal, output: stdout.trim(), stderr };
}
