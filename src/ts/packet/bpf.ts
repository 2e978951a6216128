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

/** The instructions of a program that bpfProgram() has made. */
export function bpfInstructions(words: Uint32Array): BpfInstruction[] {
  return Array.from({ length: words.length / FIELDS.length }, (_, index) => {
    const [code, jt, jf, k] = words.subarray(index * FIELDS.length) as unknown as [
      number,
      number,
      number,
      number,
    ];
    return { code, jt, jf, k };
  });
}

/** BPF_RET, with a constant or the accumulator (linux/bpf_common.h). */
const BPF_CLASS = 0x07;
const BPF_RET = 0x06;
const BPF_RET_K = 0x06;
/** MAXIMUM_SNAPLEN of libpcap: what `tcpdump -ddd` lets a program return that cuts nothing. */
const WHOLE_PACKET = 262144;
const UNLIMITED = 0xffffffff;
const K_WORD = FIELDS.indexOf('k');

/** Where the first instruction of a program is that could cut a packet; -1 where there is none. */
function cuttingReturn(program: Uint32Array): number {
  for (let at = 0; at < program.length; at += FIELDS.length) {
    const code = program[at] as number;
    const k = program[at + K_WORD] as number;
    if ((code & BPF_CLASS) === BPF_RET && (code !== BPF_RET_K || (k !== 0 && k < WHOLE_PACKET))) return at;
  }
  return -1;
}

/** Whether a program of bpfProgram() lets packets through whole or not at all. */
export function returnsWhole(program: Uint32Array): boolean {
  return cuttingReturn(program) < 0;
}

/**
 * A program of bpfProgram() for a socket whose superpackets are cut here: the kernel runs it on each superpacket, so that a length that it
 * returns would cut that one, and not the packets that it stands for. What means a whole packet is made no limit at all: a superpacket may
 * have 524280 bytes.
 *
 * @throws TypeError `ERR_INVALID_ARG_VALUE` when it returns a length, known or not, that could cut a packet.
 */
export function wholePackets(name: string, program: Uint32Array): Uint32Array {
  const cutting = cuttingReturn(program);
  if (cutting >= 0) {
    const returned = program[cutting] === BPF_RET_K ? program[cutting + K_WORD] : 'a length that is computed';
    throw invalidArgValue(
      `${name}[${cutting / FIELDS.length}]`,
      `a return of 0 or of at least ${WHOLE_PACKET} with offload 'split': it is run on superpackets, and would cut them`,
      returned,
    );
  }
  const words = program.slice();
  for (let at = 0; at < words.length; at += FIELDS.length) {
    if (words[at] === BPF_RET_K && words[at + K_WORD] !== 0) words[at + K_WORD] = UNLIMITED;
  }
  return words;
}

function parseText(name: string, text: string): BpfInstruction[] {
  // Not by a pattern that takes the blanks too: of a text of nothing but them it would try each as the first.
  const [count, ...lines] = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
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
