// The package as users get it: packs it, installs the tarball in empty folders, and uses it there in each of the ways that there are.
// Programs that make devices run in a network namespace of their own; packing and installing do not, for npm may need the network.
import assert from 'node:assert';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brokenLinks } from '../helpers/links.cjs';
import {
  arm64Node,
  bareMachine,
  check,
  emptyFolder,
  has,
  loadWithMusl,
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
    paths.filter((path) => /^(test|bench|examples|build|docs\/site)\//.test(path)),
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

await check('Its documents link to what is in the tarball, or absolutely', () => {
  const documents = paths.filter((path) => path.endsWith('.md') && !path.startsWith('dist/'));
  assert(documents.includes('README.md') && documents.includes('docs/guides/getting-started.md'));
  assert.deepEqual(
    brokenLinks(join(users, 'node_modules/tunsock'), documents, (path) => paths.includes(path)),
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
  const [emulator, ...node] = arm64Node(22);
  return inFolder(emulator, [...node, 'current.cjs']);
});

for (const arch of ['x64', 'arm64']) {
  await check(`${arch} with musl, in a process of its own C library`, () =>
    loadWithMusl(arch, join(users, `node_modules/tunsock/prebuilds/linux-${arch}/tunsock.musl.node`)),
  );
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
