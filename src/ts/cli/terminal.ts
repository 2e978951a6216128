import type { WriteStream } from 'node:tty';

const MIN_COLUMNS = 20;
const DEFAULT_COLUMNS = 80;

type Stream = NodeJS.WritableStream & Partial<Pick<WriteStream, 'isTTY' | 'columns'>>;

const COLOURS = { red: 31, green: 32, yellow: 33, blue: 36, dim: 2, bold: 1 } as const;

/** What a stream is written to: a terminal, or something without colours and cursor. */
export class Terminal {
  readonly #stream: Stream;
  /** Lines of the live view that are on the screen. */
  #shown = 0;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  get isTerminal(): boolean {
    return this.#stream.isTTY === true && process.env.TERM !== 'dumb';
  }

  /** Characters in a line. */
  get columns(): number {
    const { columns } = this.#stream;
    return columns !== undefined && columns > 0 ? Math.max(columns, MIN_COLUMNS) : DEFAULT_COLUMNS;
  }

  /** `text` in colour: in a terminal, unless NO_COLOR is set (no-color.org). */
  colour(colour: keyof typeof COLOURS, text: string): string {
    const { NO_COLOR } = process.env;
    if (!this.isTerminal || (NO_COLOR !== undefined && NO_COLOR !== '')) return text;
    return `\x1b[${COLOURS[colour]}m${text}\x1b[0m`;
  }

  line(text = ''): void {
    this.#stream.write(`${text}\n`);
  }

  /** Shows lines in place of those of the call before; none may have colours, and each is cut to the terminal's width. */
  show(lines: readonly string[]): void {
    const width = this.columns - 1;
    const up = this.#shown === 0 ? '' : `\x1b[${this.#shown}A`;
    const text = lines.map((line) => `\x1b[2K${cut(line, width)}\n`).join('');
    this.#stream.write(`${up}\r${text}\x1b[0J`);
    this.#shown = lines.length;
  }

  /** What is shown stays; the next show() starts below. */
  keep(): void {
    this.#shown = 0;
  }
}

/** Cuts to `width` characters, the last of which then says so. */
export function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}

const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P'];

/** Three digits and a prefix: '1.23 M'. */
export function quantity(value: number, unit: string): string {
  let [scaled, prefix] = [value, 0];
  while (scaled >= 999.5 && prefix < PREFIXES.length - 1) [scaled, prefix] = [scaled / 1000, prefix + 1];
  const digits =
    prefix === 0 ? (Number.isInteger(value) ? 0 : 1) : scaled >= 99.5 ? 0 : scaled >= 9.95 ? 1 : 2;
  return `${scaled.toFixed(digits)} ${PREFIXES[prefix]}${unit}`;
}

/**
 * Standard output gone (`tunsock capture … | head`) ends the program as SIGPIPE does others. Everything else that goes wrong
 * with it is thrown.
 */
export function endWithOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(1);
    throw error;
  });
}
