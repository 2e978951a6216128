import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compile, documents, extract } from '../helpers/documents';

const top = join(__dirname, '../..');

describe('documents', () => {
  it('have code that compiles against the types of the package', { timeout: 120_000 }, () => {
    using all = extract();
    expect(all.blocks.map(({ mark }) => mark)).toEqual(
      expect.arrayContaining(['answers', 'runs', undefined]),
    );
    expect(compile(all.folder)).toBe('');
  });

  it('link to files and headings that are there', () => {
    const broken = documents().flatMap((document) => {
      const text = readFileSync(join(top, document), 'utf8');
      return [...text.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)]
        .filter(([, file, heading]) => {
          const target = file === '' ? document : join(dirname(document), file as string);
          if (!existsSync(join(top, target))) return true;
          return (
            heading !== undefined && !headings(readFileSync(join(top, target), 'utf8')).includes(heading)
          );
        })
        .map(([link]) => `${document}: ${link}`);
    });
    expect(broken).toEqual([]);
  });
});

/** As GitHub names them. */
function headings(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
    (title as string)
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
