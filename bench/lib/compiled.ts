import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { basename, extname, join } from 'node:path';

const ROOT = join(__dirname, '..', '..', '..');
const BUILT = join(ROOT, 'build', 'bench', 'baseline');

/** Set in a guest, which has no compiler: programs lie where they would be built. */
export const PREBUILT = 'TUNSOCK_BENCH_PREBUILT';

/** Paths of what was compiled, by name. */
const programs = new Map<string, string>();

/** Compiles a program of bench/baseline, once; returns its path. */
export function compiled(name: string): string {
  const compiler = process.env.CC ?? 'cc';
  return compile(
    compiler,
    ['-O2', '-Wall', '-Wextra', '-pthread'],
    [join(ROOT, 'bench', 'baseline', `${name}.c`)],
  );
}

/** Compiles a program of bench/ with the core of the addon that needs no Node, as the addon is compiled. */
export function compiledWithOffload(name: string): string {
  const native = join(ROOT, 'src', 'native');
  const offload = join(native, 'core', 'offload');
  const sources = readdirSync(offload).filter((file) => file.endsWith('.cc'));
  return compile(
    process.env.CXX ?? 'c++',
    ['-std=c++17', '-O3', `-I${native}`],
    [join(ROOT, 'bench', `${name}.cc`), ...sources.map((file) => join(offload, file))],
  );
}

function compile(
  compiler: string,
  flags: readonly string[],
  sources: readonly [string, ...string[]],
): string {
  const name = basename(sources[0], extname(sources[0]));
  const known = programs.get(name);
  if (known !== undefined) return known;
  const program = join(BUILT, name);
  if (process.env[PREBUILT] !== undefined) return program;
  mkdirSync(BUILT, { recursive: true });
  execFileSync(compiler, [...flags, '-o', program, ...sources], { stdio: 'inherit' });
  programs.set(name, program);
  return program;
}
