import { SourceMap } from 'node:module';
import { basename, join, relative } from 'node:path';
import { buildSync } from 'esbuild';
import { ROOT } from './node-system';

/** Where they lie in the guest, relative to the project: as deep as test/netns and test/helpers, from where they find `dist`. */
export const BUNDLES = 'test/bundled';
/** Where each writes its FileReport. */
export const REPORTS = '/tmp/reports';

/** Test files as programs, each with all that it wants, so that a guest has next to nothing to find, to translate and to load. */
export class Bundle {
  /** By their paths, relative to the project. */
  readonly programs = new Map<string, string>();
  readonly #maps = new Map<string, SourceMap>();

  /** `files` are relative to the project, and no two of one name. */
  constructor(files: readonly string[]) {
    for (const file of files) {
      const path = join(BUNDLES, basename(file).replace(/\.ts$/, '.mjs'));
      const [name, report] = [basename(file), join(REPORTS, basename(file))].map((text) =>
        JSON.stringify(text),
      );
      const { outputFiles } = buildSync({
        stdin: {
          contents: `import { run } from './test/vm/inside/run.mts';
            void run(${name}, ${report}, () => import('./${file}'));`,
          resolveDir: ROOT,
        },
        outfile: join(ROOT, path),
        write: false,
        bundle: true,
        format: 'esm',
        platform: 'node',
        target: 'node20',
        alias: { vitest: join(ROOT, 'test/vm/inside/vitest.mts') },
        external: [join(ROOT, 'dist/*')],
        banner: { js: 'const __dirname = import.meta.dirname;' },
        sourcemap: 'external',
        sourcesContent: false,
      });
      for (const { path: output, text } of outputFiles) {
        if (output.endsWith('.map')) this.#maps.set(path, new SourceMap(JSON.parse(text)));
        else this.programs.set(path, text);
      }
    }
  }

  /** A text in which places in the programs are those in their files again. */
  inSources(text: string): string {
    const place = new RegExp(`(?:file://)?/\\S*?(${BUNDLES}/[\\w.-]+):(\\d+):(\\d+)`, 'g');
    return text.replace(place, (whole, path: string, line: string, column: string) => {
      const entry = this.#maps.get(path)?.findEntry(Number(line) - 1, Number(column) - 1);
      if (entry === undefined || !('originalSource' in entry)) return whole;
      const file = relative(ROOT, join(ROOT, BUNDLES, entry.originalSource));
      return `${file}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
    });
  }
}
