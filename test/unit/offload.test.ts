import { endianness } from 'node:os';
import { describe, expect, it } from 'vitest';
import { constants, decodeOffload, encodeOffload } from '../../dist';
import { codeOf } from '../helpers/device';

const superpacket = {
  needsChecksum: true,
  checksumValid: false,
  checksumStart: 20,
  checksumOffset: 16,
  gsoType: constants.VIRTIO_NET_HDR_GSO_TCPV4,
  gsoSize: 1448,
  headerLength: 52,
  outerNeedsChecksum: false,
  outerTransportOffset: 0,
  innerNetworkOffset: 0,
};

const host = (value: number) =>
  endianness() === 'LE' ? [value & 255, value >> 8] : [value >> 8, value & 255];

describe('encodeOffload', () => {
  it('is struct virtio_net_hdr of linux/virtio_net.h', () => {
    const bytes = encodeOffload(superpacket);
    expect(bytes.length).toBe(24);
    expect([...bytes.subarray(0, 10)]).toEqual([
      1, // VIRTIO_NET_HDR_F_NEEDS_CSUM
      1,
      ...host(52),
      ...host(1448),
      ...host(20),
      ...host(16),
    ]);
    expect([...bytes.subarray(10)]).toEqual(new Array(14).fill(0));
    expect([...encodeOffload({})]).toEqual(new Array(24).fill(0));
  });

  it('is what decodeOffload reads, with the fields of tunnels and without', () => {
    const all = {
      ...superpacket,
      checksumValid: true,
      outerNeedsChecksum: true,
      outerTransportOffset: 20,
      innerNetworkOffset: 50,
    };
    expect(decodeOffload(encodeOffload(all))).toEqual(all);
    expect(decodeOffload(Buffer.concat([encodeOffload(all), Buffer.alloc(99, 9)]))).toEqual(all);
    expect(decodeOffload(encodeOffload(all).subarray(0, 10))).toEqual({
      ...all,
      outerTransportOffset: 0,
      innerNetworkOffset: 0,
    });
    expect(decodeOffload(encodeOffload(all).subarray(0, 23))).toMatchObject({ outerTransportOffset: 0 });
  });

  it('refuses what is none', () => {
    for (const [offload, code] of [
      [undefined, 'ERR_INVALID_ARG_TYPE'],
      [null, 'ERR_INVALID_ARG_TYPE'],
      [{ gsoSize: 65536 }, 'ERR_OUT_OF_RANGE'],
      [{ gsoType: 256 }, 'ERR_OUT_OF_RANGE'],
      [{ gsoSize: '1448' }, 'ERR_INVALID_ARG_TYPE'],
      [{ needsChecksum: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ segments: 3 }, 'ERR_INVALID_ARG_VALUE'],
    ] as const) {
      expect(codeOf(() => encodeOffload(offload as never))).toBe(code);
    }
  });
});

describe('decodeOffload', () => {
  it('takes any bytes', () => {
    expect(decodeOffload(Buffer.alloc(24, 0xff))).toMatchObject({
      gsoType: 255,
      gsoSize: 65535,
      innerNetworkOffset: 65535,
    });
  });

  it('refuses fewer than a header, and what are no bytes', () => {
    expect(codeOf(() => decodeOffload(new Uint8Array(9)))).toBe('ERR_OUT_OF_RANGE');
    for (const bytes of [undefined, 'x', [1, 2], new Uint16Array(20), new ArrayBuffer(24)]) {
      expect(codeOf(() => decodeOffload(bytes as never))).toBe('ERR_INVALID_ARG_TYPE');
    }
  });
});
