import { hardwareAddress } from '../../packet/send-meta';
import { invalidArgType, invalidArgValue } from '../../support/errors';
import { boolean, knownOptions, optionsObject } from '../../support/options';

/** TUN_FLT_ALLMULTI of linux/if_tun.h. */
const ALL_MULTICAST = 0x0001;
/** FLT_EXACT_COUNT of drivers/net/tun.c: past so many, an address that is no group's switches the filter off. */
const MAX_EXACT = 8;
const MAX_ADDRESSES = 0xffff;

/** What TUNSETTXFILTER takes: flags, and six bytes for each address. */
export function transmitFilter(value: unknown): { flags: number; bytes: Uint8Array } {
  const given = optionsObject('filter', value);
  knownOptions('filter', given, ['addresses', 'allMulticast']);
  const list = given.addresses;
  if (!Array.isArray(list)) throw invalidArgType('filter.addresses', 'an array', list);
  if (list.length === 0 || list.length > MAX_ADDRESSES) {
    throw invalidArgValue(
      'filter.addresses',
      `1 to ${MAX_ADDRESSES} addresses: with none the kernel filters nothing`,
      list,
    );
  }
  const bytes = new Uint8Array(list.length * 6);
  list.forEach((item, at) => {
    const name = `filter.addresses[${at}]`;
    const address = hardwareAddress(name, item);
    if (address.length !== 6) throw invalidArgValue(name, 'an Ethernet address', item);
    if (at >= MAX_EXACT && ((address[0] as number) & 1) === 0) {
      throw invalidArgValue(name, `a group's address: the kernel compares ${MAX_EXACT} addresses`, item);
    }
    bytes.set(address, at * 6);
  });
  const all = given.allMulticast !== undefined && boolean('filter.allMulticast', given.allMulticast);
  return { flags: all ? ALL_MULTICAST : 0, bytes };
}
