import { expect, it } from 'vitest';
import { IS_REAL_ROOT } from '../helpers/kernel';
import { ENDED, run } from '../helpers/program';

it.runIf(IS_REAL_ROOT)(
  'a socket goes on after its process has dropped its privileges, and no other can be opened',
  () => {
    const program = `const tun = TunSocket.open({ address: '10.0.0.1/24' });
    process.setgroups([]);
    process.setgid(65534);
    process.setuid(65534);
    let code;
    try { TunSocket.open(); } catch (error) { code = error.code; }
    const udp = require('dgram').createSocket('udp4');
    tun.on('message', (packet) => {
      if (packet[0] >> 4 !== 4) return;
      const source = packet.readUInt32BE(12);
      packet.copyWithin(12, 16, 20);
      packet.writeUInt32BE(source, 16);
      tun.send(packet);
    });
    udp.on('message', (data) => { console.log(process.getuid(), ['EPERM', 'EACCES'].includes(code), String(data)); tun.close(); udp.close(); });
    udp.bind(4000, '10.0.0.1', () => udp.send('still', 4000, '10.0.0.2'));`;
    expect(run(program)).toEqual({ ...ENDED, output: '65534 true still' });
  },
);
