import type { SerializedError } from 'vitest';
import { DefaultReporter, type TestCase, type TestModule, type TestRunEndReason } from 'vitest/node';

/** A line a file, the failures in full, and at the end how many tests were skipped, and why. */
export default class Reporter extends DefaultReporter {
  readonly #skipped = new Map<string, number>();

  constructor() {
    super({ summary: false });
  }

  override onTestModuleEnd(module: TestModule): void {
    const tests = [...module.children.allTests()];
    const count = (state: string) => tests.filter((test) => test.result().state === state).length;
    for (const test of tests) if (test.result().state === 'skipped') this.#noteSkipped(module, test);
    const [passed, failed, skipped] = [count('passed'), count('failed'), count('skipped')];
    const parts = [`${passed} passed`, failed > 0 && `${failed} failed`, skipped > 0 && `${skipped} skipped`];
    const seconds = (module.diagnostic().duration / 1000).toFixed(1);
    this.log(
      `${module.ok() ? 'ok  ' : 'FAIL'} ${module.relativeModuleId} (${parts.filter(Boolean).join(', ')}, ${seconds} s)`,
    );
  }

  override onTestRunEnd(
    modules: readonly TestModule[],
    errors: readonly SerializedError[],
    reason: TestRunEndReason,
  ): void {
    super.onTestRunEnd(modules, errors, reason);
    if (this.#skipped.size === 0) return;
    this.log('Skipped, since this machine or process lacks what they take:');
    for (const [what, count] of this.#skipped) this.log(`  ${count} of ${what}`);
    this.log('');
  }

  #noteSkipped(module: TestModule, test: TestCase): void {
    const result = test.result();
    const note = result.state === 'skipped' ? result.note : undefined;
    // Whole groups have their reason in their name.
    const group = test.parent.type === 'suite' ? `: ${test.parent.fullName}` : '';
    const what = `${module.relativeModuleId}${note === undefined ? group : ` (${note})`}`;
    this.#skipped.set(what, (this.#skipped.get(what) ?? 0) + 1);
  }
}
