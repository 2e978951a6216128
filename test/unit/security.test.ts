import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const top = join(__dirname, '../..');
const text = readFileSync(join(top, 'SECURITY.md'), 'utf8');

describe('SECURITY.md', () => {
  it('names a test that is there for each claim', () => {
    const claims = [...text.matchAll(/^\| (?!claim|-)(.+) \| (.+) \|$/gm)];
    expect(claims.length).toBeGreaterThan(15);
    for (const [, claim, holders] of claims) {
      const files = [...(holders as string).matchAll(/`([^`]+)`/g)].map(([, file]) => file as string);
      expect([claim, files]).not.toEqual([claim, []]);
      expect([claim, files.filter((file) => !existsSync(join(top, file)))]).toEqual([claim, []]);
    }
  });

  it('sends reports to the repository of package.json, in private', () => {
    const { repository } = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8'));
    const url = repository.url.replace(/^git\+|\.git$/g, '');
    expect(text).toContain(`<${url}/security/advisories/new>`);
  });
});
