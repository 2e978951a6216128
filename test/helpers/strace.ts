import { spawnSync } from 'node:child_process';

/** Whether strace(1) is there, which makes the kernel seem to fail. */
export const HAS_STRACE = spawnSync('strace', ['-V']).error === undefined;
if (!HAS_STRACE) console.log('skipped: what needs strace(1)');

/** All threads, which stop at the calls that are traced and at no others: a start of Node makes thousands of these. */
export const ALL_THREADS = ['-f', '--seccomp-bpf'];
