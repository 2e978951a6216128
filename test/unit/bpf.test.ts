import { describe, expect, it } from 'vitest';
import { bpfProgram, wholePackets } from '../../dist/packet/bpf';

const whole = (value: unknown) => [...wholePackets('filter', bpfProgram('filter', value))];

describe("a filter with offload 'split'", () => {
  it('lets packets through whole or not at all', () => {
    // tcpdump -ddd ip
    const text = '4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0';
    expect(whole(text)).toEqual([40, 0, 0, 12, 21, 0, 1, 2048, 6, 0, 0, 0xffffffff, 6, 0, 0, 0]);
    expect(whole('1\n6 0 0 4294967295')).toEqual([6, 0, 0, 0xffffffff]);
  });

  it.each([
    ['a constant', '1\n6 0 0 96', 'filter[0]', 'received 96'],
    ['the shortest of what tcpdump -s says', '1\n6 0 0 262143', 'filter[0]', 'received 262143'],
    ['one of several', '3\n6 0 0 262144\n6 0 0 1\n6 0 0 0', 'filter[1]', 'received 1'],
    ['what is computed', '2\n0 0 0 400000\n22 0 0 0', 'filter[1]', 'a length that is computed'],
  ])('does not return %s', (_, text, where, received) => {
    const error = expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
    expect(() => whole(text)).toThrow(error);
    for (const part of [where, received, "offload 'split'", 'superpackets']) {
      expect(() => whole(text)).toThrow(part);
    }
  });

  it('leaves the program that it was given as it is', () => {
    const program = bpfProgram('filter', '1\n6 0 0 262144');
    wholePackets('filter', program);
    expect([...program]).toEqual([6, 0, 0, 262144]);
  });
});
