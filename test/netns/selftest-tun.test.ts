import { beforeAll, describe, expect, it } from 'vitest';
import { Link, TunSocket } from '../../dist';
import { codeOf } from '../helpers/device';
import { enterQuietNamespace } from '../helpers/namespace';

beforeAll(enterQuietNamespace);

/** What tools/testing/selftests/net/tun.c checks of a device with queues, each case by the name that it has there. */
describe('tun.c', () => {
  it('delete_detach_close', () => {
    using queue = TunSocket.open({ multiQueue: true });
    Link.get(queue.name).delete();
    expect(codeOf(() => queue.detachQueue())).toBe('EINVAL');
    expect(codeOf(() => queue.sendmsg(Buffer.from([0x45])))).toBe('EBADFD');
  });

  it('detach_delete_close', () => {
    using queue = TunSocket.open({ multiQueue: true });
    queue.detachQueue();
    Link.get(queue.name).delete();
    expect(codeOf(() => queue.attachQueue())).toBe('EINVAL');
  });

  it('detach_close_delete', () => {
    const queue = TunSocket.open({ multiQueue: true, persist: true });
    const { name } = queue;
    queue.detachQueue();
    queue.close();
    expect(Link.get(name).name).toBe(name);
    Link.get(name).delete();
  });

  it('reattach_delete_close', () => {
    using queue = TunSocket.open({ multiQueue: true });
    queue.detachQueue();
    queue.attachQueue();
    expect(queue.queueAttached).toBe(true);
    Link.get(queue.name).delete();
    expect(codeOf(() => queue.attachQueue())).toBe('EINVAL');
  });

  it('reattach_close_delete', () => {
    const queue = TunSocket.open({ multiQueue: true, persist: true });
    const { name } = queue;
    queue.detachQueue();
    queue.attachQueue();
    expect(queue.info()).toMatchObject({ queues: 1, disabledQueues: 0 });
    queue.close();
    Link.get(name).delete();
    expect(Link.list().map((link) => link.name)).not.toContain(name);
  });
});
