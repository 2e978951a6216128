// Runs the tests with the addon under address and undefined-behaviour sanitizers: `npm run test:asan [-- core | files]`. Without an
// argument all of them; 'core' are those that CI runs. Not those in test/native, which have sanitizers of their own in every run.
//
// All is done in a copy of this folder, build/asan, so that neither the addon there nor its tests are mixed up with the plain ones.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CORE = [
  ...['semantics', 'buffers', 'events', 'offload-held', 'offload-order'].map(
    (name) => `test/netns/${name}.test.ts`,
  ),
  'test/lifecycle/api-fuzz.test.ts',
];

const top = join(dirname(fileURLToPath(import.meta.url)), '..');
const copy = join(top, 'build/asan');

mkdirSync(copy, { recursive: true });
for (const name of ['src', 'test', 'dist', 'examples', 'docs', 'bench'])
  rmSync(join(copy, name), { recursive: true, force: true });
// Times are kept, so that only what changed is compiled again.
for (const name of [
  ...['src', 'test', 'dist', 'examples', 'docs', 'bench', 'binding.gyp', 'package.json'],
  ...['tsconfig.json', 'vitest.config.mts', 'README.md', 'CHANGELOG.md', 'CONTRIBUTING.md'],
]) {
  cpSync(join(top, name), join(copy, name), { recursive: true, preserveTimestamps: true });
}
rmSync(join(copy, 'node_modules'), { force: true });
symlinkSync(join(top, 'node_modules'), join(copy, 'node_modules'));

const flags = '-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1';
const gyp = join(top, 'node_modules/.bin/node-gyp');
for (const step of ['configure', 'build']) {
  execFileSync(gyp, ['--loglevel', 'error', step], {
    cwd: copy,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, CXXFLAGS: flags, LDFLAGS: '-fsanitize=address,undefined' },
  });
}

const folder = mkdtempSync(join(tmpdir(), 'tunsock-asan-'));
const library = (name) => execFileSync('c++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
const given = process.argv.slice(2).flatMap((name) => (name === 'core' ? CORE : [name]));
const chosen = given.length > 0 ? given : ['test/unit', 'test/netns', 'test/lifecycle'];
const { status } = spawnSync(
  process.execPath,
  ['test/run.mjs', join(top, 'node_modules/.bin/vitest'), 'run', ...chosen],
  {
    cwd: copy,
    stdio: 'inherit',
    env: {
      ...process.env,
      LD_PRELOAD: library('libasan.so'),
      // Every process writes its own report, those too whose output a test reads. Leaks are not looked for: Node ends without freeing what
      // it has, and compilers and shells that tests start have the library too.
      ASAN_OPTIONS: `detect_leaks=0:abort_on_error=1:log_path=${folder}/report`,
      UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
    },
  },
);
const reports = readdirSync(folder);
for (const name of reports) console.error(readFileSync(join(folder, name), 'utf8'));
rmSync(folder, { recursive: true, force: true });
console.log(`${reports.length} reports of the sanitizers`);
process.exit(reports.length > 0 ? 1 : (status ?? 1));
