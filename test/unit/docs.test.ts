import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compile, documents, extract } from '../helpers/documents';
import { brokenLinks } from '../helpers/links.cjs';

const top = join(__dirname, '../..');
const read = (path: string) => readFileSync(join(top, path), 'utf8');

describe('documents', () => {
  it('have code that compiles against the types of the package', { timeout: 120_000 }, () => {
    using all = extract();
    expect(all.blocks.map(({ mark }) => mark)).toEqual(
      expect.arrayContaining(['answers', 'runs', undefined]),
    );
    expect(compile(all.folder)).toBe('');
  });

  it('have no code of JavaScript that is not compiled, but for that of other packages', () => {
    const others = documents().flatMap((document) =>
      [...read(document).matchAll(/^```(?:javascript|typescript|mjs|cjs|mts|cts|node)\b[\s\S]*?^```$/gm)].map(
        ([code]) => `${document}: ${/require\('(.*?)'\)/.exec(code)?.[1]}`,
      ),
    );
    expect(others).toEqual(['docs/guides/moving-from.md: raw-socket', 'docs/guides/moving-from.md: tuntap2']);
  });

  it('link to files and headings that are there', () => {
    const all = [
      ...documents(),
      'CONTRIBUTING.md',
      'CHANGELOG.md',
      'examples/README.md',
      'examples/vpn/README.md',
    ];
    expect(brokenLinks(top, all, (path) => existsSync(join(top, path)))).toEqual([]);
  });

  it('name tests that there are, for each row of the semantics', () => {
    const rows = read('docs/guides/semantics.md')
      .split('\n')
      .filter((line) => line.startsWith('| ') && !line.startsWith('| case') && !line.startsWith('| since'))
      .map((line) => line.split(' | ').at(-1)?.replace(/ \|$/, '') as string);
    expect(rows.length).toBeGreaterThan(40);
    const missing = rows.filter((test, index) => {
      if (test === 'the same') return index === 0;
      const [, file, title = ''] = /^`([\w/-]+)`: (.+)$/.exec(test) ?? [];
      return file === undefined || !read(`test/${file}.test.ts`).includes(title);
    });
    expect(missing).toEqual([]);
  });
});
