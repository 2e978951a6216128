import { type ChildProcess, type StdioOptions, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Initramfs } from './initramfs';
import { fetchedKernels, type Kernel, missingSeries } from './kernels.cjs';

const QEMU = 'qemu-system-x86_64';
export const BUSYBOX = '/bin/busybox';
/**
 * Without what real processors are faster by, and emulated ones slower: string instructions instead of loops (which then go byte by byte), checks
 * of each access by the kernel, and page tables of five levels.
 */
const CPU = 'max,erms=off,fsrm=off,smap=off,smep=off,umip=off,pku=off,la57=off';

/** Why there are no guests here; undefined when there are. */
export function missingForGuests(): string | undefined {
  if (spawnSync(QEMU, ['--version']).error !== undefined)
    return `${QEMU} is missing (package qemu-system-x86)`;
  if (!existsSync(BUSYBOX)) return 'busybox is missing (package busybox-static)';
  const series = missingSeries();
  if (series.length > 0)
    return `no kernel ${series.join(' and ')} is here: node test/vm/kernels.cjs fetches them`;
  return undefined;
}

export { fetchedKernels, type Kernel };

/** Boots, runs `/job` and switches off. What /job writes to /dev/ttyS1 is the guest's output. */
const INIT = `#!/busybox/sh
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox HOME=/root
/busybox/busybox --install -s /busybox
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for folder in /tmp /run /dev/shm; do mount -t tmpfs tmpfs $folder; done
chmod 1777 /tmp
stty -F /dev/ttyS1 raw -echo
ip link set lo up
/job
echo "/job ended with status $?"
sync
poweroff -f
`;

/** A file system with busybox, the modules of `kernel`, and /job, a shell script. */
export function baseSystem(kernel: Kernel, job: string): Initramfs {
  const system = new Initramfs();
  for (const path of ['/dev', '/proc', '/sys', '/tmp', '/run', '/root', '/bin', '/sbin', '/usr/bin'])
    system.folder(path);
  system.characterDevice('/dev/console', 5, 1);
  system.program(BUSYBOX, '/busybox/busybox');
  for (const path of ['/busybox/sh', '/bin/sh', '/sbin/modprobe']) system.link(path, '/busybox/busybox');
  system.tree(join(kernel.root, 'lib/modules'), '/lib/modules');
  system.text('/init', INIT, 0o755);
  system.text('/job', `#!/bin/sh\n${job}`, 0o755);
  return system;
}

export interface GuestOptions {
  kernel: Kernel;
  system: Initramfs;
  /** The guest is ended after that many seconds. */
  seconds: number;
  /** Mebibytes. */
  memory: number;
  /** Beside processors, memory, console and output. */
  devices?: string[];
  /** Descriptors for QEMU, numbered from 3 on. */
  descriptors?: number[];
  /** Whether the console is shown while the guest runs. Default false. */
  shown?: boolean;
  /**
   * 'multi': both processors at the same time, as real ones are; one of them may then run code that the other has rewritten meanwhile, which ends the
   * kernel ('Oops: int3'). 'single': in turns, where that can't happen. Default 'multi'.
   */
  threads?: 'multi' | 'single';
}

export interface GuestResult {
  /** What was written to /dev/ttyS1. */
  output: Buffer;
  /** The console: the kernel's messages and the job's. */
  log: string;
  /** Whether time ran out. */
  hung: boolean;
}

/** Boots a guest of two processors, in software emulation, and waits until it has switched itself off. */
export async function runGuest(options: GuestOptions): Promise<GuestResult> {
  const {
    kernel,
    system,
    seconds,
    memory,
    devices = [],
    descriptors = [],
    shown = false,
    threads = 'multi',
  } = options;
  const folder = mkdtempSync(join(tmpdir(), 'tunsock-guest-'));
  try {
    const [archive, output] = [join(folder, 'initramfs'), join(folder, 'output')];
    system.save(archive);
    writeFileSync(output, '');
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', ...descriptors];
    const qemu = spawn(
      'setpriv',
      [
        // A process that ends takes its guest with it, however it ends.
        ...['--pdeathsig', 'KILL', '--', QEMU],
        ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-cpu', CPU],
        ...['-accel', `tcg,thread=${threads}`, '-smp', '2', '-m', `${memory}`],
        ...['-kernel', kernel.vmlinuz, '-initrd', archive],
        // On a busy machine the kernel would find that its timer ticks too seldom, and panic (arch/x86/kernel/apic/io_apic.c).
        ...['-append', 'console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off no_timer_check'],
        ...['-serial', 'stdio', '-serial', `file:${output}`],
        ...devices,
      ],
      { stdio },
    );
    const { log, hung } = await untilEnd(qemu, seconds, shown);
    return { output: statSync(output).size === 0 ? Buffer.alloc(0) : readFileSync(output), log, hung };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function untilEnd(
  qemu: ChildProcess,
  seconds: number,
  shown: boolean,
): Promise<{ log: string; hung: boolean }> {
  return new Promise((resolve, reject) => {
    let log = '';
    let hung = false;
    const take = (text: Buffer) => {
      log += text;
      if (shown) process.stderr.write(text);
    };
    qemu.stdout?.on('data', take);
    qemu.stderr?.on('data', take);
    const bound = setTimeout(() => {
      hung = true;
      qemu.kill('SIGKILL');
    }, seconds * 1000);
    // Whoever started this process to hear of the guest is gone.
    const end = () => qemu.kill('SIGKILL');
    process.once('disconnect', end);
    const settled = () => {
      clearTimeout(bound);
      process.off('disconnect', end);
    };
    qemu.once('error', (error) => {
      settled();
      reject(error);
    });
    qemu.once('close', () => {
      settled();
      resolve({ log, hung });
    });
  });
}
