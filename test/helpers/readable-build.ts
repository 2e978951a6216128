import { chmodSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const top = join(__dirname, '../..');

/**
 * The build, copied to where every user can read it: the project may lie in a folder that only root may enter. `dist` is the copy
 * of that folder; dispose of it when done.
 */
export function readableBuild(): Disposable & { dist: string } {
  const folder = mkdtempSync(join(tmpdir(), 'tunsock-build-'));
  chmodSync(folder, 0o755);
  for (const part of ['package.json', 'dist', 'build/Release/tunsock.node'])
    cpSync(join(top, part), join(folder, part), { recursive: true, dereference: true });
  return {
    dist: join(folder, 'dist'),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  };
}
