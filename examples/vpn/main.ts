/**
 * A tunnel between two hosts.
 *
 *     node main.js genkey                   prints a private key, and its public one
 *     node main.js up config.json           runs one end
 *
 * config.json: { "privateKey", "peerKey", "address": "10.8.0.1/24", "listen": { "port": 51900 }, "endpoint": { "address", "port" }, "mode" }
 */
import { readFileSync } from 'node:fs';
import { exportPrivateKey, generateKeyPair, importPrivateKey } from './noise';
import { Tunnel } from './tunnel';

/**
 * Has glibc keep memory that was freed. Of its own accord it gives back what lies free at the end of its heap beyond 128 kB, and takes it again for
 * the next 60 kB that are sealed, page by page: a fifth of all CPU time. Once something of 16 MB was freed it keeps twice that (mallopt(3),
 * M_MMAP_THRESHOLD); none of it is ever touched.
 */
function keepFreedMemory(): void {
  new ArrayBuffer(16 << 20);
}

function up(file: string): void {
  keepFreedMemory();
  const { privateKey, peerKey, ...options } = JSON.parse(readFileSync(file, 'utf8'));
  const tunnel: Tunnel = new Tunnel({
    ...options,
    key: importPrivateKey(privateKey),
    peer: Buffer.from(peerKey, 'base64'),
    onMode: (mode) => console.log(`${tunnel.name} sends in mode ${mode}`),
  });
  console.log(`${tunnel.name} is up, and listens at port ${tunnel.address.port}`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => tunnel.close());
}

if (require.main === module) {
  const [command, file] = process.argv.slice(2);
  if (command === 'genkey') {
    const key = generateKeyPair();
    console.log(`private ${exportPrivateKey(key)}\npublic  ${key.publicKey.toString('base64')}`);
  } else if (command === 'up' && file !== undefined) {
    up(file);
  } else {
    console.error('usage: node main.js genkey | node main.js up config.json');
    process.exitCode = 2;
  }
}
