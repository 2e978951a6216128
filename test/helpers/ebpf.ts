import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect } from 'vitest';
import { program } from './optional';

/**
 * Loads the programs "r0 = 0; exit" and "r0 = 1; exit" by bpf(2) (BPF_PROG_TYPE_SOCKET_FILTER), and becomes a program that inherits both
 * descriptors.
 */
const LOADER = `import ctypes,os,struct,sys
libc=ctypes.CDLL(None,use_errno=True)
number={'x86_64':321,'aarch64':280}[os.uname().machine]
fds=[]
for value in (0,1):
  code=struct.pack('<BBhiBBhi',0xb7,0,0,value,0x95,0,0,0)
  insns=ctypes.create_string_buffer(code)
  name=ctypes.create_string_buffer(b'GPL')
  attr=ctypes.create_string_buffer(struct.pack('<IIQQ',1,2,ctypes.addressof(insns),ctypes.addressof(name))+bytes(104))
  fd=libc.syscall(number,5,attr,128)
  if fd<0: sys.exit('bpf(2): '+os.strerror(ctypes.get_errno()))
  os.set_inheritable(fd,True)
  fds.append(str(fd))
os.execv(sys.argv[1],sys.argv[1:]+fds)`;

/**
 * What `code` prints as JSON, in a process that has the descriptors `none` and `one` of two eBPF programs, which return 0 and 1. bpf(2) needs
 * root outside of a user namespace.
 */
export function withPrograms(code: string): unknown {
  const library = join(__dirname, '../../dist');
  const script = `const { TunSocket, PacketSocket } = require(process.argv[1]);
    const [none, one] = process.argv.slice(2).map(Number);
    ${code}`;
  const run = spawnSync(program('python3'), ['-c', LOADER, process.execPath, '-e', script, library], {
    encoding: 'utf8',
  });
  expect(run.stderr).toBe('');
  return JSON.parse(run.stdout);
}
