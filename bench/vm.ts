/** `npm run bench -- --vm`: vhost-net beside read and write, in a guest of QEMU with the newest kernel that test/vm has. */
import { join } from 'node:path';
import { fetchedKernels, type Kernel, missingForGuests, runGuest } from '../test/vm/guest';
import { nodeSystem, PROJECT, ROOT } from '../test/vm/node-system';
import { compiled, PREBUILT } from './lib/compiled';
import type { VmReport, VmRows } from './lib/vm-report';

const PROGRAMS = ['read_loop', 'write_loop', 'poll_read_loop', 'traffic', 'forward_loop', 'stream'];
const TOOLS = ['strace', 'taskset', 'ip'];
/** Ends a guest that hangs. */
const BOUND_SECONDS = 1800;

/** A report of the newest kernel that there is, or what is missing for guests here. */
export async function vm(quick: boolean): Promise<VmReport | string> {
  const missing = missingForGuests();
  return missing ?? inGuest(fetchedKernels().at(-1) as Kernel, quick);
}

async function inGuest(kernel: Kernel, quick: boolean): Promise<VmReport> {
  const job = `${PREBUILT}=true node build/bench/vm-inside.js ${quick ? 'quick' : ''} > /tmp/rows && cat /tmp/rows > /dev/ttyS1`;
  const system = nodeSystem(kernel, job, TOOLS);
  system.tree(join(ROOT, 'build/bench'), `${PROJECT}/build/bench`, /\/baseline$/);
  for (const name of PROGRAMS) system.program(compiled(name), `${PROJECT}/build/bench/baseline/${name}`);
  const { output, log, hung } = await runGuest({
    kernel,
    system,
    seconds: BOUND_SECONDS,
    memory: 1536,
    shown: true,
  });
  if (output.length === 0) {
    const what = hung ? `was ended after ${BOUND_SECONDS} s` : 'ended without results';
    throw new Error(`the guest with Linux ${kernel.release} ${what}; its log:\n${log}`);
  }
  return { release: kernel.release, ...(JSON.parse(output.toString()) as VmRows) };
}
