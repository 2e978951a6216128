import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildAddon, copyParts } from '../build-addon.cjs';
import { compiled } from '../helpers/compiled';
import type { Report } from '../helpers/fault-program';
import { SCENARIOS } from '../helpers/fault-scenarios';
import { FaultControl } from '../helpers/faults';

/**
 * Each system call that the addon makes is made to fail, in turn: what comes of it is a typed error or a success, never a crash, a wait
 * without end, something left behind, or a packet lost that nobody counts. Every fault has its turn, one a call; with
 * TUNSOCK_FAULTS_ALL=1 each call has all of them.
 */
const every = process.env.TUNSOCK_FAULTS_ALL === undefined ? '9' : '1';
const top = join(__dirname, '../..');
const source = join(top, 'test/helpers/faults.cc');
const run = promisify(execFile);

/** Sanitizers that the tests run under are those of this addon too (test/sanitize.mjs). */
const sanitizers = process.env.TUNSOCK_SANITIZERS ?? '';
/** Each call with a line of its source, and none that is left to the caller's return. */
const FLAGS = `-O1 -g1 -fno-optimize-sibling-calls ${sanitizers}`;
const folder = join(top, 'build/faults');
const addon = join(folder, 'build/Release/tunsock.node');

/** Imports that make no system call, or none that can fail. */
const HARMLESS =
  /^(mem\w+|str\w+|malloc|free|abort|v?s?n?f?printf|stderr|__(cxa_\w+|errno_location|gmon_start__|isoc\w+|stack_chk_fail|[a-z]*san_\w+)|_ITM_\w+|inet_[np]to[pn]|llround|pthread_mutex_\w+|pthread_join|clock_gettime|napi_\w+|uv_\w+|_ZN4node\w+|_Unwind_\w+)$/;

/** Lines that no scenario here comes to, and why. */
const ELSEWHERE: [RegExp, string][] = [
  [/core\/vhost\/|vhost_io|core\/sys\/mapping/, 'vhost wants a device that this kernel may not have'],
];

/** Where the addon calls functions of libc: what is called and by which line, by the address behind the call. */
function callSites(): Map<number, { name: string; line: string }> {
  const options = { encoding: 'utf8', maxBuffer: 1 << 28 } as const;
  const text = execFileSync('objdump', ['-d', '--no-show-raw-insn', addon], options);
  const calls: { name: string; at: string; behind: number }[] = [];
  let call: { name: string; at: string } | undefined;
  for (const line of text.split('\n')) {
    const address = /^\s*([0-9a-f]+):/.exec(line)?.[1];
    if (address === undefined) continue;
    if (call !== undefined) calls.push({ ...call, behind: Number.parseInt(address, 16) });
    const name = /\s(?:call|callq|bl)\s.*<([a-z_0-9]+)@plt>/.exec(line)?.[1];
    call = name !== undefined && wrapped.has(name) ? { name, at: address } : undefined;
  }
  const lines = execFileSync('addr2line', ['-e', addon], {
    ...options,
    input: calls.map(({ at }) => at).join('\n'),
  });
  const names = lines.split('\n').map((line) => line.replace(/^.*\/src\/native\//, '').replace(/ .*$/, ''));
  return new Map(calls.map(({ name, behind }, index) => [behind, { name, line: names[index] as string }]));
}

const wrapped = new Set(
  Array.from(readFileSync(source, 'utf8').matchAll(/X\((\w+), k/g), ([, name]) => name),
);
const missing = ['c++', 'objdump', 'addr2line', 'nm'].filter(
  (name) => spawnSync(name, ['--version']).error !== undefined,
);
if (missing.length > 0) console.log(`skipped: what needs ${missing.join(', ')}`);

describe.runIf(missing.length === 0)('each system call of the addon fails in turn', () => {
  let scratch = '';
  let library = '';
  const program = join(folder, 'build/test/fault-program.js');
  const reached = new Set<number>();

  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), 'tunsock-faults-'));
    const flags = ['-std=c++17', '-O1', '-fno-exceptions', '-fPIC', '-shared', '-Wall', '-Wextra', '-Werror'];
    library = join(scratch, 'faults.so');
    execFileSync('c++', [...flags, source, '-o', library, '-ldl']);
    buildAddon(folder, FLAGS, sanitizers);
    copyParts(folder, ['dist']);
    cpSync(compiled('fault-program'), program);
  }, 600_000);
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  it('the list of functions that are made to fail is whole', () => {
    const imports = execFileSync('nm', ['-D', '--undefined-only', addon], { encoding: 'utf8' });
    const names = Array.from(imports.matchAll(/ [Uw] (\w+)/g), ([, name]) => name as string);
    expect(names).toContain('ioctl');
    expect(names.filter((name) => !HARMLESS.test(name) && !wrapped.has(name))).toEqual([]);
  });

  it.concurrent.each(Object.keys(SCENARIOS))(
    '%s',
    async (name) => {
      const control = join(scratch, name.replaceAll(/\W/g, '-'));
      FaultControl.make(control);
      // A /run of its own has the names of namespaces.
      const inside = 'mount -t tmpfs none /run && LD_PRELOAD=$0 exec "$@"';
      const { stdout } = await run(
        'unshare',
        ['-m', 'sh', '-c', inside, library, process.execPath, program, control, name, every],
        { env: { ...process.env, TUNSOCK_FAULTS: control }, timeout: 1_000_000, killSignal: 'SIGKILL' },
      );
      const { calls, runs, told, violations, sites } = JSON.parse(stdout) as Report;
      expect(violations).toEqual([]);
      expect(runs).toBeGreaterThanOrEqual(calls);
      for (const site of sites) reached.add(site);
      expect(calls).toBeGreaterThan(10);
      if (!/offload/.test(name)) expect(told).toBeGreaterThan(0);
    },
    1_100_000,
  );

  it('no line that makes a system call is left out', () => {
    const sites = callSites();
    const lines = new Set([...sites.values()].map(({ name, line }) => `${line} ${name}`));
    const failed = new Set(
      [...reached].map((address) => sites.get(address)).map((site) => site && `${site.line} ${site.name}`),
    );
    const left = [...lines].filter((line) => !failed.has(line));
    console.log(
      `${lines.size} lines of the addon make system calls; ${lines.size - left.length} were made to fail`,
    );
    expect(left.filter((line) => !ELSEWHERE.some(([pattern]) => pattern.test(line)))).toEqual([]);
    // What is no longer left out is no longer to be excused.
    for (const [pattern] of ELSEWHERE) expect(left.join('\n')).toMatch(pattern);
  });
});
