import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';

const top = join(__dirname, '../..');
const compiled = join(top, 'build/examples');

beforeAll(() => {
  execFileSync('npx', ['tsc', '-p', 'examples'], { cwd: top, stdio: 'inherit' });
});

describe('examples', () => {
  it('the demo passes all that it shows', () => {
    const { status, stdout } = spawnSync(process.execPath, [join(compiled, 'demo.js')], { encoding: 'utf8' });
    expect(stdout).toContain('4 of 4 worked');
    expect(status).toBe(0);
  });
});
