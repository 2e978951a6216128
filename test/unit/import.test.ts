import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as tunsock from '../../dist';

const dist = join(__dirname, '../../dist');

/** What a process loads by require(file), as the program `file ...args`: modules of Node, and files of the package. */
function loadedBy(file: string, ...args: string[]): { builtins: string[]; files: string[] } {
  const program = `const before = new Set(process.moduleLoadList);
    process.on('exit', () => {
      const builtins = process.moduleLoadList.filter((name) => !before.has(name));
      process._rawDebug(JSON.stringify({ builtins, files: Object.keys(require.cache) }));
    });
    require(process.argv[1]);`;
  const { stderr } = spawnSync(process.execPath, ['-e', program, join(dist, file), ...args], {
    encoding: 'utf8',
  });
  const { builtins, files } = JSON.parse(stderr);
  return {
    builtins: builtins.map((name: string) => name.replace('NativeModule ', '')),
    files: files.map((path: string) => relative(dist, path)),
  };
}

/** Modules of Node that are slow to load, or load such ones. */
const SLOW = ['child_process', 'cluster', 'dgram', 'http', 'net', 'stream', 'worker_threads', 'zlib'];
/** What is read and compiled at once takes time with each byte. */
const MAX_BYTES = 280_000;

describe('an import', () => {
  it.each(['index.js', 'packets/index.js'])(
    'of %s is one file, and no module of Node that is slow',
    (file) => {
      const { builtins, files } = loadedBy(file);
      expect(files).toEqual([file]);
      expect(SLOW.filter((name) => builtins.includes(name))).toEqual([]);
      expect(statSync(join(dist, file)).size).toBeLessThan(MAX_BYTES);
    },
  );
});

describe('the package', () => {
  it('has classes and functions that are called what it exports them as', () => {
    const names = Object.entries(tunsock).filter(([, value]) => typeof value === 'function');
    expect(names.length).toBeGreaterThan(10);
    expect(names.map(([, value]) => (value as { name: string }).name)).toEqual(names.map(([name]) => name));
  });
});

describe('the command', () => {
  it.each([['--help'], ['--version'], ['run', '--help']])(
    'loads nothing that %j does not need',
    (...args) => {
      const { files } = loadedBy('cli/main.js', ...args);
      expect(files.filter((path) => path.endsWith('.js'))).toEqual(['cli/main.js']);
    },
  );
});
