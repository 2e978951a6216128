import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { baseSystem, type Kernel } from './guest';
import type { Initramfs } from './initramfs';

const top = realpathSync(join(__dirname, '../..'));
/** Where the project lies in the guest. */
const PROJECT = '/tunsock';

/** Programs that tests start; without one they say what they skip, as here. */
const PROGRAMS = ['ip', 'tc', 'unshare', 'setpriv', 'strace'];

/**
 * The tests that say what this project and the kernel owe each other, and those of this folder; relative to the project. Without those that
 * want python3, ethtool or iperf3, which the guest has not.
 */
export function guestTestFiles(): string[] {
  const here = (folder: string, wanted: RegExp) =>
    readdirSync(join(top, folder))
      .filter((name) => wanted.test(name))
      .map((name) => join(folder, name));
  return [
    ...here(
      'test/netns',
      /^(semantics|offload-(?!headers|merge).*|packet-(?!adopt|bridge|control).*)\.test\.ts$/,
    ),
    ...here('test/vm/guest', /\.test\.ts$/),
  ];
}

/**
 * A system that runs test files with vitest, as this machine does: Node, the addon and dist as they are built, and the programs
 * that tests want. `files` are relative to the project; `programs` are more programs, by their place in the guest. The output is
 * vitest's report as JSON, compressed.
 */
export function testSystem(
  kernel: Kernel,
  files: string[],
  programs: Record<string, string> = {},
): Initramfs {
  const config = relative(top, join(__dirname, 'guest/vitest.config.mjs'));
  const system = baseSystem(
    kernel,
    `modprobe -a tun vhost_net
cd ${PROJECT}
TUNSOCK_GUEST=true CI=true NO_COLOR=1 node node_modules/vitest/vitest.mjs run --config ${config} ${files.join(' ')}
gzip -c /tmp/report.json > /dev/ttyS1
`,
  );
  system.program(realpathSync(process.execPath), '/usr/bin/node');
  for (const name of PROGRAMS) {
    const path = pathOf(name);
    if (path !== '') system.program(path);
  }
  addPython(system);
  for (const name of ['passwd', 'group']) system.file(`/etc/${name}`);
  for (const [path, source] of Object.entries(programs)) system.program(source, path);
  for (const folder of packagesOf('vitest')) {
    system.tree(folder, join(PROJECT, relative(top, folder)), /\.(map|md|d\.[mc]?ts)$/);
  }
  for (const folder of packagesOf('node-gyp-build'))
    system.tree(folder, join(PROJECT, relative(top, folder)));
  for (const name of ['package.json', 'tsconfig.json']) system.file(join(top, name), join(PROJECT, name));
  system.program(join(top, 'build/Release/tunsock.node'), `${PROJECT}/build/Release/tunsock.node`);
  for (const folder of ['dist', 'test']) system.tree(join(top, folder), join(PROJECT, folder));
  return system;
}

function pathOf(program: string): string {
  return spawnSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).stdout.trim();
}

/** Python, and of its library only what test/helpers/peers.ts imports. */
function addPython(system: Initramfs): void {
  const script = `
import hashlib, os, socket, sys, json
import encodings.idna
files = [m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)]
print(json.dumps([os.path.realpath(sys.executable), sorted(set(files))]))`;
  const printed = execFileSync('python3', ['-I', '-c', script], { encoding: 'utf8' });
  const [executable, files] = JSON.parse(printed) as [string, string[]];
  system.program(executable);
  system.link('/usr/bin/python3', executable);
  for (const file of files) {
    if (file.endsWith('.so')) system.program(file);
    else system.file(file);
  }
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
  add(name, top);
  return folders;
}

function findPackage(name: string, from: string): string | undefined {
  const folder = join(from, 'node_modules', name);
  if (existsSync(folder)) return folder;
  const above = dirname(from);
  return above === from ? undefined : findPackage(name, above);
}
