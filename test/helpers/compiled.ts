import { join } from 'node:path';
import { buildSync } from 'esbuild';

const top = join(__dirname, '../..');

/** A program of this folder, compiled; the package is taken from where the tests take it. */
export function compiled(name: string): string {
  const file = join(top, `build/test/${name}.js`);
  buildSync({
    entryPoints: [join(top, `test/helpers/${name}.ts`)],
    outfile: file,
    bundle: true,
    platform: 'node',
    target: 'node20',
    external: ['../../dist'],
  });
  return file;
}
