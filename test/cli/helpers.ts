import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MAIN = join(__dirname, '../../dist/cli/main.js');

export interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** The command, in the namespace of this thread, to its end. */
export function tunsock(args: readonly string[], env: NodeJS.ProcessEnv = {}): Ended {
  return spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 25_000,
  });
}

/** The command, started. */
export function start(args: readonly string[]): {
  kill(signal: NodeJS.Signals): void;
  ended: Promise<Ended>;
} {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  return {
    kill: (signal) => void child.kill(signal),
    ended: new Promise((resolve) => {
      child.once('close', (status) => resolve({ status, stdout, stderr }));
    }),
  };
}

/** Runs the command in a terminal of so many columns; returns its exit status and what it wrote there. */
const PTY = `
import fcntl, os, pty, struct, sys, termios
columns = int(sys.argv[1])
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    os.execvp(sys.argv[2], sys.argv[2:])
output = b''
while True:
    try:
        data = os.read(master, 65536)
    except OSError:
        break
    if not data:
        break
    output += data
sys.stdout.buffer.write(output)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

export function inTerminal(columns: number, args: readonly string[], env: NodeJS.ProcessEnv = {}): Ended {
  const { NO_COLOR: _, ...inherited } = process.env;
  return spawnSync('python3', ['-c', PTY, String(columns), process.execPath, MAIN, ...args], {
    encoding: 'utf8',
    env: { ...inherited, TERM: 'xterm', ...env },
    timeout: 25_000,
  });
}

/** Lines without what moves the cursor and colours. */
export function plainLines(text: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences start with one
  return text.replaceAll(/\x1b\[[0-9;]*[A-Za-z]/g, '').split(/\r?\n|\r/);
}

/** A folder that is gone with the scope. */
export function temporaryFolder(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'tunsock-cli-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}
