import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { MessageSocket } from '../../dist';

const dist = join(__dirname, '../../dist');

/** What `code` prints as JSON, in a process that got the socket's descriptor as its own number 3. */
export function inheriting(socket: MessageSocket, code: string): unknown {
  const script = `
    const { socketFromFd, TunSocket, PacketSocket, PacketBatch, constants } = require(${JSON.stringify(dist)});
    const { fstatSync } = require('node:fs');
    ${code}`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe', socket.fd],
  });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}
