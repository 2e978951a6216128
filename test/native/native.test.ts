import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const here = __dirname;
const native = join(here, '../../src/native');
const offload = join(native, 'core/offload');
const host = join(native, 'core/host');
const vhost = join(native, 'core/vhost');
const compiler = process.env.CXX ?? 'c++';
const flags = [
  '-std=c++17',
  '-O1',
  '-g1',
  '-pthread',
  '-Wall',
  '-Wextra',
  '-Wshadow',
  '-Werror',
  `-I${native}`,
  `-I${here}`,
];
const sanitize = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
const fuzzTargets = [
  'packet_view_fuzz',
  'checksum_fuzz',
  'gso_split_fuzz',
  'gro_table_fuzz',
  'netlink_fuzz',
  'control_message_fuzz',
  'vring_fuzz',
];
const buildTimeout = 300_000;

function sourcesIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.cc'))
    .map((name) => join(folder, name));
}

/** What is only bytes: messages of netlink, and what they are made of. */
const netlinkSources = sourcesIn(host).filter((path) => /_(message|answer|address)\.cc$/.test(path));
const unitSources = [
  ...sourcesIn(here),
  ...sourcesIn(offload),
  ...netlinkSources,
  ...sourcesIn(vhost),
  join(native, 'core/io/offload_io.cc'),
  join(native, 'core/io/held_io.cc'),
  join(native, 'core/io/datagram_offload_io.cc'),
  join(native, 'core/io/segment_fallback_io.cc'),
];
const sharedByFuzzers = [
  join(here, 'packet_spec.cc'),
  join(here, 'flush.cc'),
  join(here, 'ring_device.cc'),
  join(here, 'fuzz/seed_specs.cc'),
  ...sourcesIn(offload),
  ...netlinkSources,
  ...sourcesIn(vhost),
];

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tunsock-native-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Compiles sources, as many at once as there are cores, and returns the objects; what is there stays. */
async function compile(sources: string[], cxx = compiler, options = sanitize): Promise<string[]> {
  const into = join(folder, options.join(''));
  mkdirSync(into, { recursive: true });
  const there = new Set(readdirSync(into));
  const left = sources.filter((source) => !there.has(`${basename(source)}.o`));
  const worker = async (): Promise<void> => {
    for (let source = left.pop(); source !== undefined; source = left.pop()) {
      await run(cxx, [...flags, ...options, '-c', source, '-o', join(into, `${basename(source)}.o`)]);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return sources.map((source) => join(into, `${basename(source)}.o`));
}

async function link(name: string, objects: string[], cxx = compiler, options = sanitize): Promise<string> {
  const program = join(folder, `${name}-${options.length}`);
  await run(cxx, [...options, ...objects, '-o', program]);
  return program;
}

async function build(name: string, sources: string[], cxx = compiler, options = sanitize): Promise<string> {
  return link(name, await compile(sources, cxx, options), cxx, options);
}

async function expectChecks(program: string): Promise<void> {
  const { stdout } = await run(program); // rejects on any exit code but 0
  expect(Number(/^(\d+) checks passed$/m.exec(stdout)?.[1])).toBeGreaterThan(0);
}

async function findClang(): Promise<string | undefined> {
  for (const name of [
    'clang++',
    'clang++-19',
    'clang++-18',
    'clang++-17',
    'clang++-16',
    'clang++-15',
    'clang++-14',
  ]) {
    const found = await run(name, ['--version']).then(
      () => true,
      () => false,
    );
    if (found) return name;
  }
  return undefined;
}

describe('core/offload, core/io, core/vhost and the messages of core/host under AddressSanitizer and UndefinedBehaviorSanitizer', () => {
  it(
    'passes its tables, its comparisons with the slow reference, and its round trips',
    async () => {
      await expectChecks(await build('offload', unitSources));
    },
    buildTimeout,
  );

  it(
    'passes them with the sum for processors without AVX2 too',
    async () => {
      const sum = join(offload, 'checksum.cc');
      const others = await compile(unitSources.filter((source) => source !== sum));
      const portable = await compile([sum], compiler, [...sanitize, '-DTUNSOCK_PORTABLE_SUM']);
      await expectChecks(await link('portable', [...others, ...portable]));
    },
    buildTimeout,
  );

  it.each(fuzzTargets)(
    '%s holds on its corpus: each seed, cut everywhere, and mutated',
    async (target) => {
      const sources = [
        join(here, `fuzz/${target}.cc`),
        join(here, 'fuzz/replay_main.cc'),
        ...sharedByFuzzers,
      ];
      await expectChecks(await build(target, sources));
    },
    buildTimeout,
  );
});

describe('core/offload, core/vhost and core/host under libFuzzer', async () => {
  const clang = await findClang();
  const seconds = Number(process.env.TUNSOCK_FUZZ_SECONDS ?? 15);
  const missing =
    process.env.CI !== 'true' ? 'CI is not true' : clang === undefined ? 'there is no clang++' : undefined;

  it.skipIf(missing !== undefined).each(fuzzTargets)(
    missing === undefined ? `%s holds for ${seconds} seconds` : `%s is skipped, because ${missing}`,
    async (target) => {
      const seeds = join(folder, `${target}-seeds`);
      mkdirSync(seeds);
      const fuzzer = join(here, `fuzz/${target}.cc`);
      const replay = [fuzzer, join(here, 'fuzz/replay_main.cc'), ...sharedByFuzzers];
      await run(await build(target, replay), [seeds]);
      const options = ['-fsanitize=fuzzer', ...sanitize];
      const program = await build(target, [fuzzer, ...sharedByFuzzers], clang, options);
      const { stderr } = await run(program, [
        `-max_total_time=${seconds}`,
        '-max_len=4096',
        `-artifact_prefix=${folder}/`,
        seeds,
      ]);
      expect(Number(/^Done (\d+) runs/m.exec(stderr)?.[1])).toBeGreaterThan(0);
    },
    buildTimeout + seconds * 1000,
  );
});
