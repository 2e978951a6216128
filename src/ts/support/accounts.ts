import { readFileSync } from 'node:fs';
import { invalidArgType, invalidArgValue } from './errors';
import { integer } from './options';

/** 4294967295 means "none" to the kernel. */
const MAX_ID = 0xfffffffe;

/** A user's id, or a name that /etc/passwd has. */
export function userId(name: string, value: unknown): number {
  return accountId(name, value, '/etc/passwd', 'a user id or name');
}

/** A group's id, or a name that /etc/group has. */
export function groupId(name: string, value: unknown): number {
  return accountId(name, value, '/etc/group', 'a group id or name');
}

function accountId(name: string, value: unknown, file: string, expected: string): number {
  if (typeof value === 'number') return integer(name, value, 0, MAX_ID);
  if (typeof value !== 'string') throw invalidArgType(name, expected, value);
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [account, , id] = line.split(':');
    if (account === value && id !== undefined) return Number(id);
  }
  throw invalidArgValue(name, `${expected} that ${file} has`, value);
}
