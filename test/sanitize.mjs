// Runs the tests with the addon under sanitizers: `npm run test:asan` or `npm run test:tsan`, `[-- core | FILE...]`. Without an argument all of
// them; 'core' are those that CI runs. Not those in test/native, which have sanitizers of their own in every run.
//
// All is done in a copy of this folder, build/asan or build/tsan, so that neither the addon there nor its tests are mixed up with the plain ones.
//
// Node itself has no sanitizer: a copy of it is told, with patchelf(1), that it needs the runtime's library, so that all Nodes of the tests have
// it and no other program has. What that means to test:tsan: of Node's own locks those are seen that are pthread's, which order what one thread
// frees and another allocates; and of its memory nothing is, so that races between the addon and itself are found, which are those between
// Workers.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildAddon, copyParts } from './build-addon.cjs';

const top = join(dirname(fileURLToPath(import.meta.url)), '..');
const folder = mkdtempSync(join(tmpdir(), 'tunsock-sanitizer-'));
// Who has dropped root reports too.
chmodSync(folder, 0o1777);
const log = join(folder, 'report');
const suppressed = join(folder, 'suppressions');

const SANITIZERS = {
  asan: {
    flags: '-fsanitize=address,undefined -fno-sanitize-recover=undefined',
    library: 'libasan.so',
    core: [
      ...['semantics', 'buffers', 'events', 'offload-held', 'offload-order'].map(
        (name) => `test/netns/${name}.test.ts`,
      ),
      'test/lifecycle/api-fuzz.test.ts',
    ],
    all: ['test/unit', 'test/netns', 'test/lifecycle'],
    command: [],
    env: {
      // Every process writes its own report, those too whose output a test reads. Leaks do not change how Node ends, for it never frees all
      // that it has. A test may put a library of its own before the sanitizer's, or have no memory left.
      ASAN_OPTIONS: `detect_leaks=1:abort_on_error=1:allocator_may_return_null=1:verify_asan_link_order=0:log_path=${log}`,
      LSAN_OPTIONS: 'exitcode=0',
      UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
    },
    ours: leaksOfOurs,
  },
  tsan: {
    // Fences are those of vhost's rings, whose other side is the kernel.
    flags: '-fsanitize=thread -Wno-tsan',
    library: 'libtsan.so',
    // Where the kernel puts what nobody reads.
    suppressions: ['race:g_spill'],
    preloaded: 'test/helpers/seen_close.cc',
    core: ['test/lifecycle/threads.test.ts'],
    // Those that have threads.
    all: [
      ...['threads', 'queues', 'process', 'limits'].map((name) => `test/lifecycle/${name}.test.ts`),
      ...['netns', 'netns-sockets', 'link-monitor'].map((name) => `test/netns/${name}.test.ts`),
    ],
    // The sanitizer wants the address space to be where it always is.
    command: ['setarch', '-R'],
    env: { TSAN_OPTIONS: `log_path=${log}:exitcode=0:suppressions=${suppressed}` },
    ours: racesOfOurs,
  },
};

const [kind, ...args] = process.argv.slice(2);
const { flags, library, suppressions = [], preloaded, core, all, command, env, ours } = SANITIZERS[kind];
const copy = join(top, 'build', kind);

if (spawnSync('patchelf', ['--version']).error !== undefined) {
  console.error('patchelf(1) is not here: apt install patchelf');
  process.exit(1);
}

copyParts(copy, [
  ...['test', 'dist', 'examples', 'docs', 'bench'],
  ...['tsconfig.json', 'vitest.config.mts', 'README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'],
]);
buildAddon(copy, `${flags} -O1 -fno-omit-frame-pointer -g1`, flags);

writeFileSync(suppressed, `${suppressions.join('\n')}\n`);
const programs = join(folder, 'bin');
const node = join(programs, 'node');
mkdirSync(programs);
copyFileSync(process.execPath, node);
const needed = [execFileSync('c++', [`-print-file-name=${library}`], { encoding: 'utf8' }).trim()];
if (preloaded !== undefined) {
  const shared = join(folder, 'preloaded.so');
  execFileSync('c++', ['-shared', '-fPIC', '-O1', '-o', shared, join(top, preloaded)], { stdio: 'inherit' });
  needed.push(shared);
}
execFileSync('patchelf', [...needed.flatMap((name) => ['--add-needed', name]), node], { stdio: 'inherit' });

/** Runs something with the addon of the copy; how it ended, and the reports that are ours. */
function run(...words) {
  const [program, ...rest] = [...command, node, ...words];
  const { status } = spawnSync(program, rest, {
    cwd: copy,
    stdio: 'inherit',
    env: { ...process.env, PATH: `${programs}:${process.env.PATH}`, TUNSOCK_SANITIZERS: flags, ...env },
  });
  const reports = readdirSync(folder)
    .filter((name) => name.startsWith('report'))
    .map((name) => {
      const text = readFileSync(join(folder, name), 'utf8');
      rmSync(join(folder, name));
      return ours(text);
    })
    .filter((text) => text !== '');
  return { status, reports };
}

const given = args.flatMap((name) => (name === 'core' ? core : [name]));
const { status, reports } = run(
  'test/run.mjs',
  node,
  join(top, 'node_modules/vitest/vitest.mjs'),
  'run',
  // All takes longer, and a busy machine is no fault.
  '--testTimeout=300000',
  '--hookTimeout=300000',
  ...(given.length > 0 ? given : all),
);
for (const text of reports) console.error(text);
console.log(`${reports.length} reports of the sanitizers`);
let blind = false;
if (kind === 'tsan') {
  blind = run('test/run.mjs', node, 'test/helpers/race.cjs').reports.length === 0;
  if (blind) console.error('A race that is there (test/helpers/race.cjs) was not seen.');
}
rmSync(folder, { recursive: true, force: true });
process.exit(reports.length > 0 || blind ? 1 : (status ?? 1));

/** Of a report of leaks, those of memory that the addon itself allocated; any other report is whole, unless there was no memory left. */
function leaksOfOurs(report) {
  const text = report.replaceAll(/^==\d+==WARNING: AddressSanitizer failed to allocate .*\n/gm, '');
  if (!text.includes('LeakSanitizer: detected memory leaks')) {
    // A process that is traced, or has dropped what it takes to look at its own threads, can't be searched.
    return /LeakSanitizer has encountered a fatal error/.test(text) ? '' : text.trim();
  }
  // Leaks stand between empty lines, their frames from the innermost on.
  return text
    .split('\n\n')
    .filter((leak) => /^(Direct|Indirect) leak of/m.test(leak))
    .filter((leak) => {
      const frames = leak.split('\n').filter((line) => /^\s*#\d/.test(line));
      // Past malloc(3), new, and what of the C++ library calls them.
      const caller = frames.find((line) => !/libsanitizer|operator new|\/c\+\+\//.test(line));
      return /\/src\/native\/|\/napi-inl\.h|tunsock\.node/.test(caller ?? '');
    })
    .join('\n\n');
}

/** Races that the addon has a part in: what Node's threads do with each other is not seen whole, for Node is not instrumented. */
function racesOfOurs(text) {
  const addon = join(copy, 'build/Release/tunsock.node');
  const lineOf = (at) => execFileSync('addr2line', ['-e', addon, at], { encoding: 'utf8' }).trim();
  return (
    text
      .split(/^=+$/m)
      .filter((race) => {
        // The two accesses stand before all else, between empty lines, their frames from the innermost on.
        const accesses = race
          .slice(0, race.search(/^ *(Location|Thread|Mutex) /m))
          .split('\n\n')
          .filter((part) => /^\s*#0/m.test(part));
        return accesses.some((access) => {
          const frames = access.split('\n').filter((line) => /^\s*#\d/.test(line));
          // Past the functions of libc that the sanitizer has its own of.
          return (
            frames.find((line) => !/libtsan\.so|libc\.so/.test(line))?.includes('tunsock.node+') ?? false
          );
        });
      })
      .join('\n')
      // The sanitizer doesn't always know the lines of what was loaded late.
      .replace(/<null> <null> \(tunsock\.node\+(0x[0-9a-f]+)\)/g, (_, at) => lineOf(at))
  );
}
