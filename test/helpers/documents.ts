import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

const top = join(__dirname, '../..');

/** A block of code in a document. */
export interface CodeBlock {
  /** 'README.md:31', the line of its first line. */
  where: string;
  /** The file's name in the folder that extract() makes; for TypeScript, of what tsc makes of it. */
  program: string;
  /** The word behind the language: 'runs' for what ends by itself, 'answers' for a host that answers pings. */
  mark: string | undefined;
}

/** The documents for users. */
export function documents(): string[] {
  const pages = ['docs', 'docs/guides'].flatMap((folder) =>
    readdirSync(join(top, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => `${folder}/${name}`),
  );
  return ['README.md', ...pages];
}

/**
 * Writes every block of ts and js in the documents into a folder in which 'tunsock' is this package: js with require() as the CommonJS
 * that a folder of `npm init -y` has, all else as a module.
 */
export function extract(): { folder: string; blocks: CodeBlock[]; [Symbol.dispose](): void } {
  mkdirSync(join(top, 'build'), { recursive: true });
  const folder = mkdtempSync(join(top, 'build/documents-'));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(top, join(folder, 'node_modules/tunsock'));
  symlinkSync(join(top, 'node_modules/@types'), join(folder, 'node_modules/@types'));
  writeFileSync(join(folder, 'package.json'), '{ "name": "documents", "type": "commonjs" }');
  const compilerOptions = {
    target: 'ES2022',
    lib: ['ES2022', 'ESNext.Disposable'],
    module: 'node16',
    types: ['node'],
    strict: true,
    noImplicitAny: false,
    allowJs: true,
    checkJs: true,
    outDir: 'out',
    rootDir: '.',
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.*'] }));

  const blocks: CodeBlock[] = [];
  for (const document of documents()) {
    const lines = readFileSync(join(top, document), 'utf8').split('\n');
    for (let at = 0; at < lines.length; at++) {
      const fence = /^```(ts|js)(?: (\w+))?$/.exec(lines[at] as string);
      if (fence === null) continue;
      const end = lines.indexOf('```', at);
      const code = `${lines.slice(at + 1, end).join('\n')}\n`;
      const isScript = fence[1] === 'js' && code.includes('require(');
      const name = `${document.replace(/\W/g, '-')}-${at + 2}`;
      writeFileSync(
        join(folder, `${name}.${isScript ? 'js' : `m${fence[1]}`}`),
        isScript ? code : `${code}\nexport {};\n`,
      );
      blocks.push({
        where: `${document}:${at + 2}`,
        program: join(folder, 'out', `${name}.${isScript ? 'js' : 'mjs'}`),
        mark: fence[2],
      });
      at = end;
    }
  }
  return { folder, blocks, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
}

/** What tsc has to say of them; it writes the programs, too. */
export function compile(folder: string): string {
  const tsc = join(top, 'node_modules/typescript/bin/tsc');
  return spawnSync(process.execPath, [tsc, '-p', folder], { cwd: folder, encoding: 'utf8' }).stdout;
}
