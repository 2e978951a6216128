import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as packets from '../../dist/packets';
import { portableSum } from '../../dist/packets/checksum';
import { codeOf } from '../helpers/device';

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

describe('the checksum', () => {
  it('is that of the example in RFC 1071, 3', () => {
    const bytes = hex('0001 f203 f4f5 f6f7');
    expect(packets.internetSum(bytes)).toBe(0xddf2);
    expect(packets.internetChecksum(bytes)).toBe(0x220d);
  });

  it('is the same by the addon and in JavaScript, at every length, alignment and earlier sum', () => {
    const bytes = randomBytes(70_000);
    for (let length = 0; length < 400; length++) {
      const part = bytes.subarray(length % 7, (length % 7) + length);
      expect(packets.internetSum(part, length * 163)).toBe(portableSum(part, length * 163));
    }
    expect(packets.internetSum(bytes, 0xffff)).toBe(portableSum(bytes, 0xffff));
    const ones = Buffer.alloc(65_536, 0xff);
    expect([packets.internetSum(ones), portableSum(ones, 0)]).toEqual([0xffff, 0xffff]);
  });

  it('works where there is no addon', () => {
    const program = `
      Object.defineProperty(process, 'platform', { value: 'darwin' });
      const { internetChecksum } = require(${JSON.stringify(join(__dirname, '../../dist/packets'))});
      console.log(internetChecksum(Buffer.alloc(1000, 1)));`;
    const printed = execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' });
    expect(Number(printed)).toBe(~(0x0101 * 500 - 0xffff) & 0xffff);
  });
});

describe('addresses', () => {
  // RFC 5952, 4, and RFC 4291, 2.2.
  it.each([
    ['10.0.0.1', '0a000001', '10.0.0.1'],
    ['2001:db8:0:0:1:0:0:1', '20010db8000000000001000000000001', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '20010db8000000010001000100010001', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '20010000000000010000000000000001', '2001:0:0:1::1'],
    ['2001:DB8::', '20010db8000000000000000000000000', '2001:db8::'],
    ['::', '00000000000000000000000000000000', '::'],
    ['::1', '00000000000000000000000000000001', '::1'],
    ['::ffff:192.0.2.1', '00000000000000000000ffffc0000201', '::ffff:c000:201'],
  ])('%s', (text, bytes, canonical) => {
    expect(packets.ipBytes(text).toString('hex')).toBe(bytes);
    expect(packets.ipText(hex(bytes))).toBe(canonical);
  });

  it('are refused when they are none', () => {
    for (const text of ['', '10.0.0', '1::2::3', 'fe80::1%eth0', '10.0.0.1/8']) {
      expect(codeOf(() => packets.ipBytes(text))).toBe('ERR_INVALID_ARG_VALUE');
    }
    expect(codeOf(() => packets.ipBytes(1 as never))).toBe('ERR_INVALID_ARG_TYPE');
    expect(codeOf(() => packets.macBytes('02:00:00:00:00'))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(() => packets.ipText(Buffer.alloc(5)))).toBe('ERR_INVALID_ARG_VALUE');
  });
});

describe('IP', () => {
  it('reads an IPv4 header, and makes the same again', () => {
    const header = hex('45b8 0073 1234 4000 4011 a575 c0a8 0001 c0a8 00c7');
    const packet = Buffer.concat([header, Buffer.alloc(0x73 - 20), Buffer.alloc(7)]);
    expect(packets.checksumsRight(Buffer.concat([header, Buffer.alloc(0x73 - 20)]))).toBe(true);
    const ip = packets.readIp(packet);
    expect(ip).toMatchObject({
      ...{ version: 4, source: '192.168.0.1', destination: '192.168.0.199', protocol: 17, ttl: 64, dscp: 46 },
      ...{ ecn: 0, id: 0x1234, dontFragment: true, moreFragments: false, headerLength: 20, length: 0x73 },
    });
    // What pads an Ethernet frame is no payload.
    expect(ip?.payload).toHaveLength(0x73 - 20);
    expect(packets.ipPacket(ip as packets.IpPacket, ip?.payload as Buffer)).toEqual(packet.subarray(0, 0x73));
  });

  it('reads past the extension headers of IPv6', () => {
    const fixed = '6ab12345 0020 00 40 fd000000000000000000000000000001 fd000000000000000000000000000002';
    const hopByHop = '2c 00 0104 00000000';
    const fragment = '11 00 0001 deadbeef';
    const udp = '0035 1000 0010 0000 0102030405060708';
    const packet = hex(fixed + hopByHop + fragment + udp);
    const ip = packets.readIp(packet);
    expect(ip).toMatchObject({
      ...{ version: 6, protocol: 17, headerLength: 56, dscp: 0x2a, ecn: 3, flowLabel: 0x12345, ttl: 64 },
      ...{
        id: 0xdeadbeef,
        moreFragments: true,
        fragmentOffset: 0,
        source: 'fd00::1',
        destination: 'fd00::2',
      },
    });
    expect(packets.readUdp(ip?.payload as Buffer)).toMatchObject({ sourcePort: 53, destinationPort: 4096 });
  });

  it('takes no bytes at their word', () => {
    const whole = [
      packets.udpPacket({ address: '10.0.0.1', port: 1 }, { address: '10.0.0.2', port: 2 }, Buffer.alloc(30)),
      packets.tcpPacket(
        { address: 'fd00::1', port: 1 },
        { address: 'fd00::2', port: 2 },
        { sequence: 1, flags: packets.TCP_SYN, options: Buffer.alloc(40, 1) },
      ),
      packets.echoRequest('10.0.0.1', '10.0.0.2', { id: 1, sequence: 1 }),
      packets.arpRequest({ mac: '02:00:00:00:00:01', address: '10.0.0.1' }, '10.0.0.2'),
    ];
    for (let round = 0; round < 20_000; round++) {
      const packet = Buffer.from(whole[round % whole.length] as Buffer);
      for (let edits = round % 4; edits >= 0; edits--)
        packet[Math.floor(Math.random() * packet.length)] = Math.random() * 256;
      const cut = packet.subarray(0, Math.floor(Math.random() * (packet.length + 1)));
      packets.describePacket(cut);
      packets.describePacket(cut, { ethernet: true });
      packets.echoReply(cut);
      packets.checksumsRight(cut);
      packets.rewriteEndpoints(cut, { sourcePort: 1, destinationPort: 2 });
      packets.writeChecksums(cut);
      packets.forwardHop(cut);
    }
  });

  it('takes one hop off', () => {
    const four = packets.ipPacket(
      { source: '10.0.0.1', destination: '10.0.0.2', protocol: 99, ttl: 2 },
      Buffer.alloc(3),
    );
    expect(packets.forwardHop(four)).toBe(true);
    expect(packets.readIp(four)?.ttl).toBe(1);
    expect(packets.checksumsRight(four)).toBe(true);
    expect(packets.forwardHop(four)).toBe(false);
    const six = packets.ipPacket({ source: '::1', destination: '::2', protocol: 99 }, Buffer.alloc(3));
    expect(packets.forwardHop(six)).toBe(true);
    expect(packets.readIp(six)?.ttl).toBe(63);
  });

  it('refuses what does not fit', () => {
    const header = { source: '10.0.0.1', destination: '10.0.0.2', protocol: 17 };
    expect(codeOf(() => packets.ipPacket({ ...header, ttl: 256 }, Buffer.alloc(0)))).toBe('ERR_OUT_OF_RANGE');
    expect(codeOf(() => packets.ipPacket(header, Buffer.alloc(65_516)))).toBe('ERR_OUT_OF_RANGE');
    expect(packets.ipPacket(header, Buffer.alloc(65_515))).toHaveLength(65_535);
    expect(codeOf(() => packets.ipPacket({ ...header, source: '::1' }, Buffer.alloc(0)))).toBe(
      'ERR_INVALID_ARG_VALUE',
    );
  });
});

const ends = {
  4: [
    { address: '10.0.0.1', port: 5000 },
    { address: '10.0.0.2', port: 53 },
  ],
  6: [
    { address: 'fd00::1', port: 5000 },
    { address: 'fd00::2', port: 53 },
  ],
} as const;

describe.each([4, 6] as const)('over IPv%i', (version) => {
  const [from, to] = ends[version];

  it('UDP, TCP and ICMP have right checksums, and are read as they were made', () => {
    const udp = packets.udpPacket(from, to, Buffer.from('datagram'));
    expect(packets.readUdp(packets.readIp(udp)?.payload as Buffer)).toMatchObject({
      ...{ sourcePort: 5000, destinationPort: 53, length: 16, payload: Buffer.from('datagram') },
    });
    const fields = {
      sequence: 0xfffffffe,
      acknowledgement: 7,
      flags: packets.TCP_SYN | packets.TCP_ACK,
      window: 9,
    };
    const options = Buffer.from([2, 4, 5, 180]);
    const tcp = packets.tcpPacket(from, to, { ...fields, options }, Buffer.from('odd'));
    expect(packets.readTcp(packets.readIp(tcp)?.payload as Buffer)).toMatchObject({
      ...fields,
      ...{ options, payload: Buffer.from('odd'), sourcePort: 5000, destinationPort: 53 },
    });
    const echo = packets.echoRequest(
      from.address,
      to.address,
      { id: 0xabcd, sequence: 3 },
      Buffer.from('echo'),
    );
    const reply = packets.echoReply(echo) as Buffer;
    expect(packets.readIp(reply)).toMatchObject({ source: to.address, destination: from.address });
    expect(packets.readIcmp(packets.readIp(reply)?.payload as Buffer)).toMatchObject({
      ...{ type: version === 4 ? 0 : 129, rest: 0xabcd0003, payload: Buffer.from('echo') },
    });
    expect(packets.echoReply(reply)).toBeUndefined();
    for (const packet of [udp, tcp, echo, reply]) {
      expect(packets.checksumsRight(packet)).toBe(true);
      const damaged = Buffer.from(packet);
      damaged.writeUInt8(damaged.readUInt8(damaged.length - 1) ^ 1, damaged.length - 1);
      expect(packets.checksumsRight(damaged)).toBe(false);
      expect(packets.writeChecksums(damaged)).toBe(true);
      expect(packets.checksumsRight(damaged)).toBe(true);
    }
  });

  it('a UDP checksum that would be 0 is 0xffff (RFC 768)', () => {
    const sum = (word: number) => {
      const payload = Buffer.alloc(2);
      payload.writeUInt16BE(word);
      return packets.readUdp(packets.readIp(packets.udpPacket(from, to, payload))?.payload as Buffer)
        ?.checksum as number;
    };
    const word = sum(0);
    expect(sum(word)).toBe(0xffff);
  });

  it('other endpoints leave the checksums right, and a wrong one wrong', () => {
    const others = { source: version === 4 ? '192.0.2.9' : '2001:db8::9', sourcePort: 1 };
    for (let round = 0; round < 500; round++) {
      const payload = randomBytes(round % 40);
      for (const packet of [
        packets.udpPacket(from, to, payload),
        packets.tcpPacket(from, to, { sequence: round, flags: packets.TCP_ACK }, payload),
        packets.echoRequest(from.address, to.address, { id: round, sequence: 1 }, payload),
      ]) {
        expect(packets.rewriteEndpoints(packet, { ...others, sourcePort: round })).toBe(true);
        expect(packets.readIp(packet)?.source).toBe(others.source);
        expect(packets.checksumsRight(packet)).toBe(true);
      }
    }
    const damaged = packets.udpPacket(from, to, Buffer.from('payload'));
    damaged.writeUInt8(0, damaged.length - 1);
    packets.rewriteEndpoints(damaged, others);
    expect(packets.checksumsRight(damaged)).toBe(false);
    expect(
      codeOf(() => packets.rewriteEndpoints(damaged, { source: version === 4 ? '::1' : '1.2.3.4' })),
    ).toBe('ERR_INVALID_ARG_VALUE');
  });

  it('one line says what a packet is', () => {
    const bracketed = ({ address, port }: packets.Endpoint) =>
      version === 4 ? `${address}:${port}` : `[${address}]:${port}`;
    const udp = packets.udpPacket(from, to, Buffer.alloc(5));
    expect(packets.describePacket(udp)).toBe(
      `${bracketed(from)} > ${bracketed(to)} UDP 5, ${udp.length} bytes`,
    );
    const tcp = packets.tcpPacket(from, to, { sequence: 0, flags: packets.TCP_SYN | packets.TCP_ACK });
    expect(packets.describePacket(tcp)).toBe(
      `${bracketed(from)} > ${bracketed(to)} TCP SA, ${tcp.length} bytes`,
    );
  });
});

describe('Ethernet', () => {
  const macs = { destination: '02:00:00:00:00:02', source: '02:00:00:00:00:01' };

  it('reads a frame with two tags, and makes the same again', () => {
    const frame = hex('020000000002 020000000001 88a8 6064 8100 1fff 0800 4500');
    const read = packets.readEthernet(frame) as packets.EthernetFrame;
    expect(read).toEqual({
      ...macs,
      type: packets.ETHERTYPE_IPV4,
      tags: [
        { id: 0x64, priority: 3, dropEligible: false, protocol: 0x88a8 },
        { id: 0xfff, priority: 0, dropEligible: true, protocol: 0x8100 },
      ],
      payload: hex('4500'),
    });
    expect(packets.ethernetFrame(read, read.payload)).toEqual(frame);
    expect(packets.readEthernet(frame.subarray(0, 20))).toBeUndefined();
  });

  it('ARP is as RFC 826 has it', () => {
    const request = packets.arpRequest({ mac: macs.source, address: '10.0.0.1' }, '10.0.0.2');
    expect(request).toEqual(
      hex('ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002'),
    );
    const arp = packets.readArp(request.subarray(14)) as packets.Arp;
    expect(packets.arpReply(arp, macs.destination)).toEqual(
      hex('020000000001 020000000002 0806 0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001'),
    );
    expect(packets.describePacket(request, { ethernet: true })).toBe('10.0.0.1 > 10.0.0.2 ARP, 42 bytes');
  });
});
