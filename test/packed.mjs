// The package as a user gets it: packs it, installs the tarball in an empty folder, once with its prebuilt addon and once compiled
// from source, and opens a device with it. Needs the right to make one, so test/run.mjs starts it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folder = mkdtempSync(join(tmpdir(), 'tunsock-packed-'));
const npm = (...args) =>
  execFileSync('npm', args, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
const node = (...args) => execFileSync(process.execPath, args, { cwd: folder, stdio: 'inherit' });

const PROGRAM = `
const assert = require('node:assert');
const { TunSocket, Netns } = require('tunsock');
Netns.create().enter();
const tun = TunSocket.open({ address: '10.0.0.1/24' });
assert.equal(tun.name, 'tun0');
tun.close();
import('tunsock').then((esm) => {
  assert.equal(esm.TunSocket, TunSocket);
  console.log(process.argv[2], 'works: opened a device, import and require agree');
});
`;

try {
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--pack-destination', folder], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).replace(/^[^[]*(?=\[\s*\{)/, ''),
  );
  const stray = packed.files.filter(({ path }) => /^(test|bench|examples|docs|build)\//.test(path));
  if (stray.length > 0)
    throw new Error(`files that no user needs: ${stray.map(({ path }) => path).join(', ')}`);

  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  writeFileSync(join(folder, 'program.cjs'), PROGRAM);
  npm('install', '--no-save', join(folder, packed.filename));
  node('program.cjs', 'the prebuilt addon');

  rmSync(join(folder, 'node_modules/tunsock/prebuilds'), { recursive: true });
  npm('rebuild', 'tunsock');
  node('program.cjs', 'the addon compiled from source');
} finally {
  rmSync(folder, { recursive: true });
}
