import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const reporter = fileURLToPath(new URL('./test/reporter.mts', import.meta.url));
const results = process.env.TUNSOCK_TEST_RESULTS;

/** Files that take minutes: whatever starts one of them last waits for it alone. */
const LONG = ['vm/kernels', 'native/native', 'lifecycle/faults', 'vm/qemu'];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => LONG.some((name) => moduleId.endsWith(`/${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  // Examples import the package by its name, as users do.
  resolve: {
    alias: {
      'tunsock/packets': fileURLToPath(new URL('./dist/packets/index.js', import.meta.url)),
      tunsock: fileURLToPath(new URL('./dist/index.js', import.meta.url)),
    },
  },
  test: {
    include: ['test/**/*.test.ts'],
    // What runs in a virtual machine; test/vm/kernels.test.ts brings the results.
    exclude: ['test/vm/guest/**'],
    // A process for each file: its threads can change their namespace.
    pool: 'forks',
    // Two cores are what CI has.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: results === undefined ? [reporter] : [reporter, ['json', { outputFile: results }]],
  },
});
