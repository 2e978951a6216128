import { expect, it } from 'vitest';
import { bpfInstructions, bpfProgram } from '../../dist/packet/bpf';
import { below, pick, reseed } from '../helpers/api-fuzz-world';

/** Texts that are mutated: as `tcpdump -ddd` prints them, and at the edges of what is one. */
const SEEDS = [
  '1\n6 0 0 262144',
  // tcpdump -ddd ip
  '4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n',
  '2\r\n0 0 0 400000\r\n22 0 0 0\r\n',
  '\n\n 2 \n\n 65535 255 255 4294967295 \n\t6  0\t0 0\n\n',
  '0',
  '1\n65536 256 256 4294967296',
];
const PIECES = [
  '\n',
  ' ',
  '\t',
  '\r',
  '\0',
  '0',
  '1',
  '9',
  '-1',
  '1e3',
  '0x6',
  '4294967296',
  '6 0 0 0\n',
  '\u2028',
  '\ufeff',
  '٣',
];
const STEPS = 20_000;

function mutated(text: string): string {
  let result = text;
  for (let left = 1 + below(3); left > 0; left--) {
    const at = below(result.length + 1);
    const end = at + below(2) * below(4);
    result = result.slice(0, at) + (below(4) === 0 ? '' : pick(PIECES)) + result.slice(end);
  }
  return result;
}

/** What a text means, number by number: the slow reference. Undefined where it is none. */
function words(text: string): number[] | undefined {
  const lines: string[][] = [];
  for (const line of text.split('\n')) {
    const numbers = line.split(/\s/).filter((word) => word !== '');
    if (numbers.length > 0) lines.push(numbers);
  }
  if (!lines.flat().every((word) => [...word].every((digit) => '0123456789'.includes(digit))))
    return undefined;
  const [count, ...rest] = lines;
  if (count?.length !== 1 || Number(count[0]) !== rest.length) return undefined;
  const within = ([code, jt, jf, k]: number[]) =>
    (code as number) < 2 ** 16 &&
    (jt as number) < 2 ** 8 &&
    (jf as number) < 2 ** 8 &&
    (k as number) < 2 ** 32;
  const program = rest.map((line) => line.map(Number));
  if (rest.length === 0 || rest.length > 4096) return undefined;
  return program.every((line) => line.length === 4 && within(line)) ? program.flat() : undefined;
}

it('any text is a program, the one that it says, or an error with a code', () => {
  const seed = Number(process.env.TUNSOCK_FUZZ_SEED ?? 20260101);
  reseed(seed);
  const seconds = process.env.TUNSOCK_FUZZ_SECONDS;
  const end = performance.now() + Number(seconds) * 1000;
  let [programs, refused] = [0, 0];
  for (let step = 0; seconds === undefined ? step < STEPS : performance.now() < end; step++) {
    const text = mutated(pick(SEEDS));
    let program: Uint32Array | undefined;
    try {
      program = bpfProgram('filter', text);
    } catch (error) {
      const { name, code } = error as NodeJS.ErrnoException;
      if (!/^(Type|Range)Error$/.test(name) || !/^ERR_/.test(code ?? '')) throw error;
    }
    if (program === undefined) refused++;
    else programs++;
    const expected = words(text);
    // Not expect() on each, which takes longer than what is tested.
    if (String(program) === String(expected)) continue;
    expect({ seed, step, text, program: program && bpfInstructions(program) }).toEqual({ program: expected });
  }
  if (seconds !== undefined) console.log(`${programs + refused} texts, of which ${programs} are programs`);
  expect(Math.min(programs, refused)).toBeGreaterThan(STEPS / 100);
}, 10_000_000);

it('a text of a million blanks is refused at once', () => {
  const error = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' });
  for (const blank of [' ', '\n', '\r\n', '\t']) {
    expect(() => bpfProgram('filter', `1${blank.repeat(1_000_000)}x`)).toThrow(error);
    expect(() => bpfProgram('filter', `1\n6 0 0${blank.repeat(1_000_000)}`)).toThrow(error);
  }
});
