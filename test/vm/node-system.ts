import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { baseSystem, type Kernel } from './guest';
import type { Initramfs } from './initramfs';

/** The project, wherever this file was compiled to. */
export const ROOT = realpathSync(packageAbove(__dirname));
/** Where the project lies in the guest. */
export const PROJECT = '/tunsock';

/**
 * A system that can run /job with Node and this package: the addon and dist as they are built. `tools` are programs of this machine, by name; one
 * that is missing here is missing there.
 */
export function nodeSystem(kernel: Kernel, job: string, tools: readonly string[]): Initramfs {
  const system = baseSystem(kernel, `modprobe -a tun vhost_net\ncd ${PROJECT}\n${job}`);
  system.program(realpathSync(process.execPath), '/usr/bin/node');
  for (const name of tools) {
    const path = pathOf(name);
    if (path !== '') system.program(path);
  }
  for (const name of ['passwd', 'group']) system.file(`/etc/${name}`);
  addPackage(system, 'node-gyp-build');
  system.file(join(ROOT, 'package.json'), join(PROJECT, 'package.json'));
  system.program(join(ROOT, 'build/Release/tunsock.node'), `${PROJECT}/build/Release/tunsock.node`);
  system.tree(join(ROOT, 'dist'), join(PROJECT, 'dist'));
  return system;
}

/** Adds a package of node_modules and all that it depends on, but for files that `leaveOut` matches. */
export function addPackage(system: Initramfs, name: string, leaveOut?: RegExp): void {
  for (const folder of packagesOf(name)) system.tree(folder, join(PROJECT, relative(ROOT, folder)), leaveOut);
}

function packageAbove(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : packageAbove(dirname(folder));
}

/** Where a program of this machine is, or ''. */
export function pathOf(program: string): string {
  return spawnSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).stdout.trim();
}

/** The folders of a package and of all that it depends on. */
function packagesOf(name: string): Set<string> {
  const folders = new Set<string>();
  const add = (wanted: string, from: string): void => {
    const folder = findPackage(wanted, from);
    // Optional ones for other systems are not there.
    if (folder === undefined || folders.has(folder)) return;
    folders.add(folder);
    const { dependencies, optionalDependencies } = JSON.parse(
      readFileSync(join(folder, 'package.json'), 'utf8'),
    ) as Record<string, Record<string, string> | undefined>;
    for (const dependency of Object.keys({ ...dependencies, ...optionalDependencies }))
      add(dependency, folder);
  };
  add(name, ROOT);
  return folders;
}

function findPackage(name: string, from: string): string | undefined {
  const folder = join(from, 'node_modules', name);
  if (existsSync(folder)) return folder;
  const above = dirname(from);
  return above === from ? undefined : findPackage(name, above);
}
