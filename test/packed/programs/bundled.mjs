// What is bundled into one file, and into a single executable application; the addon lies beside it.
import { Netns, TunSocket } from 'tunsock';

Netns.create().enter();
const tun = TunSocket.open({ address: '10.0.0.1/24' });
console.log(`opened ${tun.name}`);
tun.close();
