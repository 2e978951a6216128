import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, it } from 'vitest';
import { Link, Netns } from '../../dist';
import { program } from './optional';

/** Gives each test of a file a namespace of its own, so that there is nothing to take away afterwards. */
export function ownNamespaces(): {
  inNamespace(name: string, test: () => void, milliseconds?: number): void;
  port(name?: string): Link;
  current(): Netns;
} {
  let ns: Netns;
  /** Has the other ends of the pairs. */
  let beyond: Netns;
  beforeEach(() => {
    ns = Netns.create();
    beyond = Netns.create();
    // No link-local addresses (IN6_ADDR_GEN_MODE_NONE): they and their routes come at a time of their own.
    ns.run(() => writeFileSync('/proc/sys/net/ipv6/conf/default/addr_gen_mode', '1'));
  });
  afterEach(() => {
    ns.close();
    beyond.close();
  });
  return {
    inNamespace: (name, test, milliseconds) => it(name, () => ns.run(test), milliseconds),
    current: () => ns,
    /** A link that is up, with the same name at its other end. */
    port(name = 'd0') {
      const link = Link.create({ type: 'veth', name, peer: { name, netns: beyond }, up: true });
      beyond.run(() => Link.get(name)).up();
      return link;
    },
  };
}

/** What the error of a request that the kernel refused has. */
export function refusal(code: string, syscall: string, link?: string): object {
  return { code, syscall, ...(link === undefined ? {} : { interface: link }) };
}

/** What the `ip` command says: the judge of what was asked of the kernel. */
export function ip(...words: string[]): string {
  return execFileSync(program('ip'), words, { encoding: 'utf8' });
}
