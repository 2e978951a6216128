import { describe, expect, it } from 'vitest';
import { cidr, ipAddress, macAddress, oneOrMany } from '../../dist/host/cidr';
import { route } from '../../dist/host/route';

const wrongType = expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
const wrongValue = expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
const outOfRange = expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });

describe('cidr', () => {
  it.each(['10.0.0.1/24', '0.0.0.0/0', '255.255.255.255/32', '::/0', 'fd00::1/64', '::ffff:10.0.0.1/128'])(
    'takes %s',
    (text) => expect(cidr('address', text)).toBe(text),
  );

  it.each([
    ['10.0.0.256/24', wrongValue],
    ['10.0.0/24', wrongValue],
    ['fd00:::1/64', wrongValue],
    ['fe80::1%eth0/64', wrongValue],
    ['10.0.0.1/', wrongValue],
    ['10.0.0.1/-1', wrongValue],
    ['10.0.0.1/24/8', wrongValue],
    ['10.0.0.1/2 4', wrongValue],
    ['10.0.0.1/0x8', wrongValue],
    ['', wrongValue],
    ['10.0.0.1/33', outOfRange],
    ['10.0.0.1/99999999999999999999', outOfRange],
    ['::1/129', outOfRange],
    [undefined, wrongType],
    [null, wrongType],
    [10, wrongType],
    [['10.0.0.1/24'], wrongType],
  ])('refuses %j', (value, error) => expect(() => cidr('address', value)).toThrow(error));

  it('says what a missing prefix length looks like', () => {
    expect(() => cidr('address', '10.0.0.1')).toThrow(wrongValue);
    expect(() => cidr('address', '10.0.0.1')).toThrow("such as '10.0.0.1/24'");
    expect(() => cidr('address', 'fd00::1')).toThrow("such as 'fd00::1/64'");
  });
});

describe('ipAddress', () => {
  it.each(['10.0.0.1', '::1'])('takes %s', (text) => expect(ipAddress('gateway', text)).toBe(text));
  it.each(['10.0.0.1/24', 'localhost', 'fe80::1%lo', ''])('refuses %j', (text) =>
    expect(() => ipAddress('gateway', text)).toThrow(wrongValue),
  );
});

describe('route', () => {
  it.each([
    ['10.1.0.0/16', { destination: '10.1.0.0/16' }],
    ['default', { destination: '0.0.0.0/0' }],
    [
      { destination: 'default', gateway: '10.0.0.1' },
      { destination: '0.0.0.0/0', gateway: '10.0.0.1' },
    ],
    [
      { destination: 'default', gateway: 'fd00::1' },
      { destination: '::/0', gateway: 'fd00::1' },
    ],
    [
      { destination: 'default', source: 'fd00::1' },
      { destination: '::/0', source: 'fd00::1' },
    ],
    [
      { destination: '10.1.0.0/16', source: '10.0.0.1', metric: 4294967295 },
      { destination: '10.1.0.0/16', source: '10.0.0.1', metric: 4294967295 },
    ],
  ])('reads %j', (value, expected) => expect(route('route', value)).toEqual(expected));

  it.each([
    [undefined, wrongType],
    [7, wrongType],
    [{}, wrongType],
    ['10.1.0.0', wrongValue],
    [{ destination: '10.1.0.0/16', via: '10.0.0.1' }, wrongValue],
    [{ destination: '10.1.0.0/16', gateway: '10.0.0.1/24' }, wrongValue],
    [{ destination: 'fd00:1::/48', gateway: '10.0.0.1' }, wrongValue],
    [{ destination: 'fd00:1::/48', source: '10.0.0.1' }, wrongValue],
    [{ destination: 'default', gateway: '10.0.0.1', source: 'fd00::1' }, wrongValue],
    [{ destination: '10.1.0.0/33' }, outOfRange],
    [{ destination: '10.1.0.0/16', metric: -1 }, outOfRange],
    [{ destination: '10.1.0.0/16', metric: 4294967296 }, outOfRange],
    [{ destination: '10.1.0.0/16', metric: 1.5 }, outOfRange],
    [{ destination: '10.1.0.0/16', metric: '1' }, wrongType],
  ])('refuses %j', (value, error) => expect(() => route('route', value)).toThrow(error));
});

describe('macAddress', () => {
  it('gives lower case', () => expect(macAddress('mac', '02:AB:00:00:00:0F')).toBe('02:ab:00:00:00:0f'));
  it.each([
    '01:00:5e:00:00:01',
    'ff:ff:ff:ff:ff:ff',
    '00:00:00:00:00:00',
    '02:00:00:00:00',
    '02-00-00-00-00-01',
    '',
  ])('refuses %j', (text) => expect(() => macAddress('mac', text)).toThrow(wrongValue));
});

describe('oneOrMany', () => {
  it('takes none, one and several', () => {
    expect(oneOrMany('address', undefined, cidr)).toEqual([]);
    expect(oneOrMany('address', '10.0.0.1/24', cidr)).toEqual(['10.0.0.1/24']);
    expect(oneOrMany('address', ['10.0.0.1/24', '::1/128'], cidr)).toEqual(['10.0.0.1/24', '::1/128']);
  });

  it('names the one that is wrong', () => {
    expect(() => oneOrMany('options.address', ['10.0.0.1/24', 'x/1'], cidr)).toThrow(
      /^options\.address\[1\] must be/,
    );
  });
});
