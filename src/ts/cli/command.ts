import { type ParseArgsConfig, parseArgs } from 'node:util';

type Options = NonNullable<ParseArgsConfig['options']>;
type Values = { [name: string]: string | boolean | (string | boolean)[] | undefined };

/** One option of a subcommand, as parseArgs has it, and for --help what it takes and does. */
export interface OptionHelp {
  type: 'string' | 'boolean';
  short?: string;
  multiple?: boolean;
  /** What stands for the value: 'MS'. */
  value?: string;
  help: string;
}

/** A subcommand. */
export interface Command {
  /** 'capture <interface> <file.pcapng>' */
  synopsis: string;
  /** What --help says beside. */
  details?: string;
  options: { readonly [name: string]: OptionHelp };
  /** The least and the most arguments that are no options. */
  arguments: readonly [least: number, most: number];
  /** Does it; returns the exit status. */
  run(args: Arguments): Promise<number>;
}

/** A wrong use of the command: exit status 2. */
export class UsageError extends Error {}

/** Something that went wrong without being a fault of ours, in words for a user: exit status 1. */
export class CommandError extends Error {}

/** What the command line says, typed. Each getter throws UsageError for a value that makes no sense. */
export class Arguments {
  readonly positionals: readonly string[];
  readonly #values: Values;

  constructor(positionals: readonly string[], values: Values) {
    this.positionals = positionals;
    this.#values = values;
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : undefined;
  }

  texts(name: string): string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.map(String) : [];
  }

  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined || choices.includes(value as T)) return value as T | undefined;
    throw new UsageError(`--${name} must be one of ${choices.join(', ')}, not '${value}'`);
  }

  /** A number from `min` to `max`; whole unless `fraction`. */
  number(name: string, min: number, max: number, { fraction = false } = {}): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max) || !(fraction || Number.isInteger(value))) {
      throw new UsageError(
        `--${name} must be a ${fraction ? '' : 'whole '}number from ${min} to ${max}, not '${text}'`,
      );
    }
    return value;
  }
}

const HELP: OptionHelp = { type: 'boolean', short: 'h', help: 'this text' };

/** Reads a subcommand's arguments; undefined where --help is among them. @throws UsageError */
export function readArguments(command: Command, args: readonly string[]): Arguments | undefined {
  const options: Options = {};
  for (const [name, { type, short, multiple }] of Object.entries({ ...command.options, help: HELP })) {
    options[name] = {
      type,
      ...(short === undefined ? {} : { short }),
      ...(multiple === undefined ? {} : { multiple }),
    };
  }
  let parsed: { values: Values; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true }) as typeof parsed;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (parsed.values.help === true) return undefined;
  const [least, most] = command.arguments;
  const count = parsed.positionals.length;
  if (count < least || count > most) {
    throw new UsageError(
      count < least ? `missing argument: ${command.synopsis}` : `too many arguments: ${command.synopsis}`,
    );
  }
  return new Arguments(parsed.positionals, parsed.values);
}

/** The text of --help, in lines of at most `columns`. */
export function helpText(command: Command, summary: string, columns: number): string {
  const rows = Object.entries({ ...command.options, help: HELP }).map(([name, { short, value, help }]) => {
    const long = `--${name}${value === undefined ? '' : ` ${value}`}`;
    return [`${short === undefined ? '    ' : `-${short}, `}${long}`, help] as const;
  });
  const details = command.details === undefined ? '' : `\n${wrap(command.details, columns).join('\n')}\n`;
  return `Usage: tunsock ${command.synopsis}\n\n${wrap(summary, columns).join('\n')}\n${details}\nOptions:\n${table(rows, columns)}`;
}

/** Two columns, the second wrapped; where that leaves too little room, one under the other. */
export function table(rows: readonly (readonly [string, string])[], columns: number): string {
  const left = Math.max(...rows.map(([name]) => name.length)) + 4;
  const beside = columns - left >= 24;
  return rows
    .map(([name, text]) => {
      const lines = wrap(text, beside ? columns - left : columns - 6);
      if (!beside) return [`  ${name}`, ...lines.map((line) => `      ${line}`)].join('\n');
      return lines.map((line, index) => (index === 0 ? `  ${name}` : '').padEnd(left) + line).join('\n');
    })
    .join('\n')
    .concat('\n');
}

/** Breaks text at spaces into lines of at most `columns`; a longer word has a line of its own. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line = '';
    for (const word of paragraph.split(' ')) {
      if (line !== '' && line.length + 1 + word.length > columns) {
        lines.push(line);
        line = word;
      } else {
        line = line === '' ? word : `${line} ${word}`;
      }
    }
    lines.push(line);
  }
  return lines;
}
