// Compiles the addon as it is here, but with other flags, in a folder of its own, so that it is not mixed up with the plain one:
// buildAddon(). Times are kept, so that only what changed is compiled again.
const { execFileSync } = require('node:child_process');
const { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync } = require('node:fs');
const { join } = require('node:path');

const top = join(__dirname, '..');

/** Copies files and folders of the project anew; the folder that they are in is made where it is not there. */
function copyParts(folder, names) {
  mkdirSync(folder, { recursive: true });
  for (const name of names) {
    rmSync(join(folder, name), { recursive: true, force: true });
    cpSync(join(top, name), join(folder, name), { recursive: true, preserveTimestamps: true });
  }
}

/** The addon is in `folder`/build/Release then. `link`: what linking takes of the flags. */
function buildAddon(folder, flags, link = '') {
  copyParts(folder, ['src', 'binding.gyp', 'package.json']);
  rmSync(join(folder, 'node_modules'), { force: true });
  symlinkSync(join(top, 'node_modules'), join(folder, 'node_modules'));
  // Node's headers are those that the plain addon was compiled with: tests have no network to fetch them by.
  const [, headers] = /"nodedir": "(.*)"/.exec(readFileSync(join(top, 'build/config.gypi'), 'utf8'));
  for (const step of ['configure', 'build']) {
    execFileSync(
      join(top, 'node_modules/.bin/node-gyp'),
      ['--loglevel', 'error', '--nodedir', headers, '--jobs', 'max', step],
      {
        cwd: folder,
        stdio: ['ignore', 'ignore', 'inherit'],
        env: { ...process.env, CXXFLAGS: flags, LDFLAGS: link },
      },
    );
  }
}

module.exports = { buildAddon, copyParts };
