import { Link, type MessageInfo, Netns, PacketBatch, PacketSocket, TunSocket } from 'tunsock';

const tun: TunSocket = TunSocket.open({ name: 'tun0', address: '10.0.0.1/24' });
// 'on' comes from node:events, whose types the package itself asks for.
tun.on('message', (packet: Buffer, info: MessageInfo) => packet.length + info.size);
tun.on('error', (error: Error) => error.message);
const batch = new PacketBatch({ capacity: 8 });
const received: number = tun.recvmmsg(batch);
const mtu: number = Link.get('lo').mtu;
PacketSocket.open({ interface: 'lo' }).close();
Netns.current().close();
// @ts-expect-error: no such option
TunSocket.open({ adress: '10.0.0.1/24' });

export { mtu, received };
