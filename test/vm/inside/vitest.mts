/**
 * What stands for 'vitest' in a guest: its describe(), it() and matchers, without the server that hands them modules and the processes that
 * talk with it, whose start takes longer there than most files of tests do.
 */
import { setTimeout } from 'node:timers/promises';
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  chai,
  GLOBAL_EXPECT,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from '@vitest/expect';
import { getCurrentTest } from '@vitest/runner';

export { afterAll, afterEach, beforeAll, beforeEach, describe, it, onTestFinished } from '@vitest/runner';
export const TestRunner = { getCurrentTest };

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

type Assertion = Record<PropertyKey, unknown>;

/** Tries an assertion again and again. */
function poll(value: () => unknown, { interval = 50, timeout = 1000 } = {}): Assertion {
  const proxy = (names: PropertyKey[]): Assertion =>
    new Proxy(() => {}, {
      get: (_, name) => proxy([...names, name]),
      async apply(_, __, given) {
        const deadline = performance.now() + timeout;
        for (;;) {
          const late = performance.now() > deadline;
          const subject = await value();
          try {
            const from = names
              .slice(0, -1)
              .reduce((chain, name) => chain[name] as Assertion, expect(subject));
            return await (from[names.at(-1) as PropertyKey] as (...given: unknown[]) => unknown)(...given);
          } catch (error) {
            if (late) throw error;
          }
          await setTimeout(interval);
        }
      },
    }) as unknown as Assertion;
  return proxy([]);
}

export const expect = Object.assign(
  (value: unknown, message?: string) => chai.expect(value, message) as unknown as Assertion,
  chai.expect,
  (globalThis as unknown as Record<symbol, object>)[ASYMMETRIC_MATCHERS_OBJECT],
  {
    poll,
    unreachable(message = 'not to be reached') {
      chai.assert.fail(message);
    },
  },
);
Object.defineProperty(globalThis, GLOBAL_EXPECT, { value: expect, writable: true, configurable: true });
setState({ assertionCalls: 0 }, expect as never);
