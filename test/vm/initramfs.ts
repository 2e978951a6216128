import { execFileSync } from 'node:child_process';
import {
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const S_IFDIR = 0o040000;
const S_IFCHR = 0o020000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

/** One entry of a cpio archive of the format "newc". */
interface Entry {
  mode: number;
  /** Bytes, or the path of a file of this machine that has them. */
  content: Buffer | { file: string };
  device?: [number, number];
}

/** What a kernel unpacks as its first file system (Documentation/driver-api/early-userspace/buffer-format.rst). */
export class Initramfs {
  readonly #entries = new Map<string, Entry>();

  /** A file with that text. */
  text(path: string, content: string, permissions = 0o644): void {
    this.#add(path, { mode: S_IFREG | permissions, content: Buffer.from(content) });
  }

  /** A file of this machine, or what a symbolic link stands for; where it is not said otherwise, at the same place. */
  file(source: string, path = source): void {
    const file = realpathSync(source);
    this.#add(path, { mode: S_IFREG | (lstatSync(file).mode & 0o777), content: { file } });
  }

  link(path: string, target: string): void {
    this.#add(path, { mode: S_IFLNK | 0o777, content: Buffer.from(target) });
  }

  folder(path: string): void {
    this.#add(path, { mode: S_IFDIR | (path === '/tmp' ? 0o1777 : 0o755), content: Buffer.alloc(0) });
  }

  characterDevice(path: string, major: number, minor: number): void {
    this.#add(path, { mode: S_IFCHR | 0o600, content: Buffer.alloc(0), device: [major, minor] });
  }

  /** A folder of this machine with all that is in it, but for what `leaveOut` matches. */
  tree(source: string, path = source, leaveOut?: RegExp): void {
    for (const entry of readdirSync(source, { withFileTypes: true })) {
      const [to, from] = [join(path, entry.name), join(source, entry.name)];
      if (leaveOut?.test(from)) continue;
      if (entry.isDirectory()) this.tree(from, to, leaveOut);
      else if (entry.isSymbolicLink()) this.link(to, readlinkSync(from));
      else if (/\.(node|so)$/.test(from)) this.program(from, to);
      else this.file(from, to);
    }
  }

  /** A program or library of this machine, at the same place, with the libraries that it is linked with. */
  program(source: string, path = source): void {
    this.file(source, path);
    for (const [, library] of ldd(source).matchAll(/(\/\S+) \(0x/g)) {
      this.file(library as string);
    }
  }

  /** Writes the archive. */
  save(path: string): void {
    const file = openSync(path, 'w');
    try {
      let inode = 0;
      for (const [name, { mode, content, device }] of this.#entries) {
        const bytes = Buffer.isBuffer(content) ? content : readFileSync(content.file);
        writeSync(file, member(name.slice(1), ++inode, mode, device ?? [0, 0], bytes.length));
        writeSync(file, padded(bytes));
      }
      writeSync(file, member('TRAILER!!!', 0, 0, [0, 0], 0));
    } finally {
      closeSync(file);
    }
  }

  /** Its folders come before it: the kernel makes none by itself. */
  #add(path: string, entry: Entry): void {
    const parent = dirname(path);
    if (parent !== '/' && !this.#entries.has(parent)) this.folder(parent);
    this.#entries.set(path, entry);
  }
}

/** What ldd(1) says; nothing for what is linked statically. */
function ldd(program: string): string {
  try {
    return execFileSync('ldd', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
}

function member(name: string, inode: number, mode: number, device: [number, number], size: number): Buffer {
  const links = 1;
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, ...device, name.length + 1, 0];
  const hex = fields.map((field) => field.toString(16).padStart(8, '0')).join('');
  return padded(Buffer.from(`070701${hex}${name}\0`));
}

/** To the next multiple of four bytes. */
function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % 4;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - rest)]);
}
