import { readdirSync, writeFileSync } from 'node:fs';
import { Link, Netns } from '../../dist';

/**
 * Moves this test file's process into a namespace of its own, in which new interfaces say nothing by themselves: no IPv6 link-local
 * addresses, router solicitations or multicast reports.
 */
export function enterQuietNamespace(): void {
  Netns.create().enter();
  writeFileSync('/proc/sys/net/ipv6/conf/default/addr_gen_mode', '1');
}

/** What a failed open() must leave as it was. */
export function belongings(): { descriptors: number; links: string[] } {
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    links: Link.list().map((link) => link.name),
  };
}
