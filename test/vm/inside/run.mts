import { writeFileSync } from 'node:fs';
import { startTests, type VitestRunner } from '@vitest/runner';
import { getNames, getTests } from '@vitest/runner/utils';
import type { FileReport } from '../file-report.js';

const TIMEOUT = 120_000;
const config: VitestRunner['config'] = {
  root: '/',
  name: undefined,
  setupFiles: [],
  passWithNoTests: false,
  testNamePattern: undefined,
  allowOnly: false,
  sequence: { seed: 0, hooks: 'stack', setupFiles: 'list' },
  chaiConfig: undefined,
  maxConcurrency: 1,
  testTimeout: TIMEOUT,
  hookTimeout: TIMEOUT,
  retry: 0,
  includeTaskLocation: false,
  tags: [],
  tagsFilter: undefined,
  strictTags: false,
};

const STATUS = { pass: 'passed', fail: 'failed' } as const;
const textOf = (errors: readonly { stack?: string; message: string }[] = []) =>
  // The stack of a test whose time ran out has a message of its own.
  errors
    .map(({ stack = '', message }) => (stack.includes(message) ? stack : `${message}\n${stack}`))
    .join('\n');

/** Runs the tests that `load` declares, writes a FileReport to the file `to`, and ends the process. */
export async function run(name: string, to: string, load: () => Promise<unknown>): Promise<void> {
  const strays: Error[] = [];
  for (const event of ['uncaughtException', 'unhandledRejection'])
    process.on(event, (error) => strays.push(error instanceof Error ? error : new Error(String(error))));
  // A test may wait for what does not keep a process alive.
  setInterval(() => {}, 10_000);
  const [file] = await startTests([name], { config, importFile: load });
  const report: FileReport = { name, message: '', seconds: performance.now() / 1000, tests: [] };
  if (file !== undefined) {
    const suites = new Set(getTests(file).map(({ suite }) => suite));
    const errors = [file, ...suites].flatMap((suite) => suite?.result?.errors ?? []);
    report.tests = getTests(file).map((test) => ({
      name: getNames(test).slice(1).join(' '),
      status: STATUS[test.result?.state as keyof typeof STATUS] ?? 'skipped',
      failure: textOf(test.result?.errors),
      seconds: (test.result?.duration ?? 0) / 1000,
    }));
    // A test that fails, as some are expected to, leaves more behind that nobody takes.
    const failed = report.tests.some(({ status }) => status === 'failed');
    report.message = textOf(failed ? errors : [...errors, ...strays]);
  }
  writeFileSync(to, JSON.stringify(report));
  process.exit();
}
