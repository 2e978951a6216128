// Debian's cloud kernels for the tests in test/vm and the bench in guests: where they lie, and how they get there. Run it to fetch what is missing;
// the tests themselves take what they find, since they run in a network namespace of their own.
const { execFileSync } = require('node:child_process');
const { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } = require('node:fs');
const { homedir } = require('node:os');
const { join } = require('node:path');

const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'tunsock', 'kernels');

/** The series that are tested, and what their packages are called; the names on top (-dbg, -unsigned, without a number) are no kernels. */
const SERIES = [
  { series: '6.1', package: /^linux-image-(6\.1\.0-\d+-cloud-amd64) /gm },
  { series: '6.12', package: /^linux-image-(6\.12\.\d+\S*-cloud-amd64) /gm },
];

/** Modules that a network test may want, and those that they want; the kernel loads them by itself. */
const MODULES = ['net', 'crypto', 'arch/x86/crypto', 'lib', 'drivers/net', 'drivers/vhost', 'drivers/virtio'];

/**
 * A kernel that is there: `vmlinuz`, and `root`, which holds lib/modules of that release.
 * @typedef {{ series: string, release: string, vmlinuz: string, root: string }} Kernel
 */

/** @param {string} release @param {string} series @returns {Kernel} */
function kernel(series, release) {
  const folder = join(cache, series, release);
  return { series, release, vmlinuz: join(folder, 'vmlinuz'), root: join(folder, 'root') };
}

/** Whether it has all modules: an older version of this file may have fetched fewer. @param {Kernel} kernel */
function isWhole({ root, release }) {
  return MODULES.every((part) => existsSync(join(root, 'lib/modules', release, 'kernel', part)));
}

/** One kernel of each series that has been fetched. @returns {Kernel[]} */
function fetchedKernels() {
  return SERIES.flatMap(({ series }) => {
    const folder = join(cache, series);
    const releases = existsSync(folder) ? readdirSync(folder) : [];
    return releases
      .map((release) => kernel(series, release))
      .filter(isWhole)
      .slice(0, 1);
  });
}

/** The series of which there is no kernel yet. @returns {string[]} */
function missingSeries() {
  const there = fetchedKernels().map(({ series }) => series);
  return SERIES.map(({ series }) => series).filter((series) => !there.includes(series));
}

/** @param {string} command @param {string[]} args @param {string} [cwd] @returns {string} */
function run(command, args, cwd) {
  return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Fetches a kernel's package and keeps of it what a guest needs; nothing is installed. @param {string} series @param {string} release */
function fetchKernel(series, release) {
  const target = kernel(series, release);
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, '.fetching-'));
  try {
    run('apt-get', ['download', '-qq', '-o', 'APT::Sandbox::User=root', `linux-image-${release}`], work);
    const archive = readdirSync(work).find((name) => name.endsWith('.deb'));
    if (archive === undefined) throw new Error(`apt-get download left no package of ${release}`);
    run('dpkg', ['-x', archive, 'package'], work);
    const result = join(work, 'result');
    const modules = join('lib/modules', release);
    for (const part of MODULES) {
      const from = join(work, 'package', modules, 'kernel', part);
      const to = join(result, 'root', modules, 'kernel', part);
      mkdirSync(join(to, '..'), { recursive: true });
      renameSync(from, to);
    }
    // Some kernels have them compressed, which busybox's modprobe does not undo.
    run('find', [join(result, 'root'), '-name', '*.ko.xz', '-exec', 'xz', '-d', '{}', '+']);
    run('busybox', ['depmod', '-b', join(result, 'root'), release]);
    renameSync(join(work, 'package/boot', `vmlinuz-${release}`), join(result, 'vmlinuz'));
    rmSync(join(cache, series), { recursive: true, force: true });
    mkdirSync(join(cache, series), { recursive: true });
    renameSync(result, join(target.vmlinuz, '..'));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Fetches one kernel of each series that is not there. */
function fetchMissing() {
  const names = run('apt-cache', ['search', 'linux-image-.*-cloud-amd64']);
  for (const series of missingSeries()) {
    const { package: pattern } = /** @type {typeof SERIES[number]} */ (
      SERIES.find((one) => one.series === series)
    );
    const releases = [...names.matchAll(pattern)].map((match) => /** @type {string} */ (match[1]));
    releases.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    const release = releases.pop();
    if (release === undefined)
      throw new Error(`apt knows no cloud kernel ${series}; 'apt-get update' may help`);
    fetchKernel(series, release);
    console.log(`fetched Linux ${release}`);
  }
}

module.exports = { fetchedKernels, missingSeries };
if (require.main === module) fetchMissing();
