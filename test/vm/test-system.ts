import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { BUNDLES, type Bundle, REPORTS } from './bundle';
import type { Kernel } from './guest';
import type { Initramfs } from './initramfs';
import { nodeSystem, PROJECT, pathOf, ROOT } from './node-system';

/** Programs that tests start; without one they say what they skip, as here. */
const PROGRAMS = [
  'ip',
  'tc',
  'bridge',
  'ethtool',
  'ping',
  'iperf3',
  'wg',
  'unshare',
  'setpriv',
  'prlimit',
  'strace',
];

/** Those of them that this machine has not, and so the guest. */
export function missingPrograms(): string[] {
  return PROGRAMS.filter((name) => pathOf(name) === '');
}

/**
 * The tests that say what this project and the kernel owe each other, and those of this folder; relative to the project. What the host has around the device is tested with the newest kernel only: emulation takes its time.
 * With TUNSOCK_GUEST_TESTS only those of the names in it, with commas between.
 */
export function guestTestFiles(newest: boolean): string[] {
  const here = (folder: string, wanted: RegExp) =>
    readdirSync(join(ROOT, folder))
      .filter((name) => wanted.test(name))
      .map((name) => join(folder, name));
  const wanted = process.env.TUNSOCK_GUEST_TESTS?.split(',');
  const all = [
    ...here('test/netns', /^(semantics|offload-.*|packet-.*)\.test\.ts$/),
    ...here('test/vm/guest', /^vhost-.*\.test\.ts$/),
    ...(newest ? [...here('test/vm/guest', /^(?!vhost-).*\.test\.ts$/), 'test/netns/macvtap.test.ts'] : []),
  ];
  return wanted === undefined ? all : all.filter((file) => wanted.includes(basename(file, '.test.ts')));
}

/**
 * The kernel would load them when the first file of tests asks for such a link; a second one that asks meanwhile is told that there are none
 * (rtnl_newlink() looks once more when modprobe(8) has ended, which it does at once for a module that is just being loaded).
 */
const LOAD_SHARED = 'for module in veth dummy bridge; do modprobe $module; done';

/**
 * A socket that has the time of each packet, for as long as the guest lives: otherwise the kernel rewrites its code whenever a test asks for times
 * and stops asking (netstamp_needed_key), and a processor that has the code as it was in between, emulated, ends the kernel ('Oops: int3').
 */
const KEEP_TIMES = `python3 -c '
import socket, time
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, 35, 1) # SO_TIMESTAMPNS
time.sleep(10**6)' &`;

/** Machine code that V8 makes is translated once more by the emulator, for longer than it then runs: what Node itself has is enough. */
const V8_FLAGS = `const { setFlagsFromString } = require('node:v8');
for (const flag of ['no-opt', 'no-sparkplug', 'no-regexp-tier-up', 'regexp-interpret-all']) setFlagsFromString('--' + flag);
`;

/**
 * A system that runs tests, two files at a time: Node, the addon and dist as they are built, and the programs that tests want. `programs` are
 * more programs, by their place in the guest. The output is a line of JSON for each file, a FileReport, compressed.
 */
export function testSystem(kernel: Kernel, tests: Bundle, programs: Record<string, string> = {}): Initramfs {
  const system = nodeSystem(
    kernel,
    `export TUNSOCK_GUEST=true CI=true NO_COLOR=1 NODE_OPTIONS='--require /v8-flags.cjs'
${LOAD_SHARED}
${KEEP_TIMES}
mkdir ${REPORTS}
ls ${BUNDLES} | xargs -P 2 -n 1 sh -c 'node ${BUNDLES}/$0; echo "$(cut -d" " -f1 /proc/uptime) $0 ended with status $?"'
cd ${REPORTS} && for report in *; do cat $report; echo; done | gzip > /dev/ttyS1
`,
    PROGRAMS,
  );
  addPython(system);
  for (const [path, source] of Object.entries(programs)) system.program(source, path);
  system.text('/v8-flags.cjs', V8_FLAGS);
  system.file(join(ROOT, 'docs/vhost.md'), join(PROJECT, 'docs/vhost.md'));
  for (const [file, code] of tests.programs) system.text(join(PROJECT, file), code);
  return system;
}

/** Python, and of its library only what the tests import. */
function addPython(system: Initramfs): void {
  const script = `
import ctypes, fcntl, hashlib, os, socket, struct, subprocess, sys, json
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
