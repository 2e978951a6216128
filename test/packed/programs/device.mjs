import assert from 'node:assert';
import { constants, MessageSocket, Netns, TunSocket } from 'tunsock';

Netns.create().enter();
const tun = TunSocket.open({ address: '10.0.0.1/24' });
assert(tun instanceof MessageSocket);
tun.sendmsg(Buffer.from('45000014000000004000000000000a00000200', 'hex'), constants.MSG_DONTWAIT);
tun.close();
