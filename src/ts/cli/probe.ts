import { Netns, TunSocket } from 'tunsock';
import type { OpenAttempt } from './doctor/system-view';

/** Opens a device in a network namespace of its own, and prints what that came to (OpenAttempt). */
function attempt(): OpenAttempt {
  try {
    using netns = Netns.create();
    using tun = TunSocket.open({ netns, offload: 'raw', address: '10.0.0.1/24' });
    return { offloads: [...(tun.offloadFeatures ?? [])] };
  } catch (error) {
    const { code = 'ERR', message } = error as NodeJS.ErrnoException;
    return { error: { code, message } };
  }
}

process.stdout.write(JSON.stringify(attempt()));
