import { invalidArgType, invalidArgValue, outOfRange } from '../support/errors';
import { integer, knownOptions, optionsObject } from '../support/options';

/** One instruction of a classic BPF program: struct sock_filter (linux/filter.h). */
export interface BpfInstruction {
  /** 0 to 65535. */
  code: number;
  /** How many instructions to skip when a comparison holds: 0 to 255. */
  jt: number;
  /** The same when it does not. */
  jf: number;
  /** 0 to 4294967295. */
  k: number;
}

/** BPF_MAXINSNS (linux/bpf_common.h). */
const MAX_INSTRUCTIONS = 4096;
const limits = { code: 0xffff, jt: 0xff, jf: 0xff, k: 0xffffffff };
const FIELDS = ['code', 'jt', 'jf', 'k'] as const;

/**
 * A program as the addon takes it, four words an instruction; whether it makes sense is for the kernel to say.
 *
 * @param value - instructions, or text as `tcpdump -ddd` prints it: their number, and then a line of four numbers for each
 * @throws TypeError and RangeError for what is neither
 */
export function bpfProgram(name: string, value: unknown): Uint32Array {
  const program = typeof value === 'string' ? parseText(name, value) : value;
  if (!Array.isArray(program)) {
    throw invalidArgType(name, "an array of { code, jt, jf, k } or text as 'tcpdump -ddd' prints it", value);
  }
  if (program.length === 0 || program.length > MAX_INSTRUCTIONS) {
    throw outOfRange(`${name}.length`, `1 to ${MAX_INSTRUCTIONS} instructions`, program.length);
  }
  const words = new Uint32Array(program.length * FIELDS.length);
  program.forEach((item, index) => {
    const where = `${name}[${index}]`;
    if (item === undefined) throw invalidArgType(where, 'an object', item);
    const instruction = optionsObject(where, item);
    knownOptions(where, instruction, FIELDS);
    FIELDS.forEach((field, at) => {
      words[index * FIELDS.length + at] = integer(`${where}.${field}`, instruction[field], 0, limits[field]);
    });
  });
  return words;
}

function parseText(name: string, text: string): BpfInstruction[] {
  const [count, ...lines] = text.trim().split(/\s*\n\s*/);
  if (!/^\d+$/.test(count ?? '') || Number(count) !== lines.length) {
    throw invalidArgValue(
      name,
      "text as 'tcpdump -ddd' prints it: first the number of lines that follow",
      text,
    );
  }
  return lines.map((line, index) => {
    const numbers = /^(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$/.exec(line)?.slice(1).map(Number);
    if (numbers === undefined)
      throw invalidArgValue(`${name}, line ${index + 2},`, 'four decimal numbers', line);
    const [code, jt, jf, k] = numbers as [number, number, number, number];
    return { code, jt, jf, k };
  });
}
