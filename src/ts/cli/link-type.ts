import { CommandError } from './command';

/** ARPHRD_* of linux/if_arp.h whose frames start with an Ethernet header: Ethernet itself, and loopback. */
const WITH_ETHERNET = new Set([1, 772]);
/** Of links whose packets have no header before IP: PPP, the tunnels (IPIP, IP6IP6, SIT, GRE, GRE over IPv6), raw IP, and none. */
const WITHOUT_HEADER = new Set([512, 519, 768, 769, 776, 778, 823, 65534]);

/** Whether frames of a link with that ARPHRD_* start with an Ethernet header. @throws CommandError for a link with another header. */
export function startsWithEthernet(hardwareType: number): boolean {
  if (WITH_ETHERNET.has(hardwareType)) return true;
  if (WITHOUT_HEADER.has(hardwareType)) return false;
  throw new CommandError(`interfaces of hardware type ${hardwareType} (linux/if_arp.h) are not known here`);
}

/** Whether a link has hardware addresses, and so an Ethernet header, where there is no packet to tell by. */
export function hasEthernet(mac: string): boolean {
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac);
}
