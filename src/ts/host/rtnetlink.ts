import { native, type Rtnetlink } from '../native';
import { systemError } from '../support/errors';

let requests: Rtnetlink | undefined;

/** Requests of this thread. */
export function rtnetlink(): Rtnetlink {
  requests ??= new (native().Rtnetlink)();
  return requests;
}

/** Returns an answer that isn't a negative errno; throws what the kernel said, and what to do about it. */
export function answered<T>(
  answer: T,
  syscall: string,
  subject: string | undefined,
  hint?: string,
): Exclude<T, number> | 0 {
  if (typeof answer === 'number' && answer < 0) throw refused(answer, syscall, subject, hint);
  return answer as Exclude<T, number> | 0;
}

/** The error of a request that the kernel refused; `hint` stands in place of the usual one. */
export function refused(errno: number, syscall: string, subject: string | undefined, hint?: string): Error {
  const usual = hint ?? hints.get(`${syscall} ${errno}`) ?? hints.get(`${errno}`);
  const said = [rtnetlink().kernelText, usual].filter(Boolean).join('; ');
  return systemError(errno, syscall, { interface: subject, hint: said === '' ? undefined : said });
}

const NO_IPV6 = 'IPv6 is disabled on the link: set sysctl net.ipv6.conf.NAME.disable_ipv6 to 0';
const NO_WAY =
  'the gateway is in no network of the link: give the link an address of that network first, or say onlink: true';

/** What to do about a refusal: by request and errno, or by errno alone. */
const hints = new Map<string, string>([
  [
    'RTM_NEWLINK -16',
    'the link that carries it is in use in a way that excludes this: as a port, or by links of another type or mode',
  ],
  [
    'RTM_NEWLINK -17',
    'there is a link of that name, or a tunnel with the same ends: choose another, or delete that one',
  ],
  ['RTM_SETLINK -16', 'the link is in use: bring it down first'],
  ['RTM_SETLINK -17', 'there is a link of that name already'],
  ['RTM_SETLINK -40', 'a bridge is no port of another: connect them by a veth pair'],
  ['RTM_SETLINK -95', 'the kernel does not let this be changed on links of this type'],
  ['RTM_NEWLINKPROP -17', 'there is a link of that name already'],
  ['RTM_DELLINKPROP -2', 'the link has no such name'],
  ['RTM_DELLINK -95', 'only links that were made can be deleted: no hardware, and not loopback'],
  ['RTM_NEWADDR -17', 'the link has that address already'],
  ['RTM_NEWADDR -13', NO_IPV6],
  ['RTM_DELADDR -99', 'the link has no such address'],
  [
    'RTM_NEWROUTE -17',
    'there is a route with that destination and metric: replaceRoute() changes it, or give another metric',
  ],
  ['RTM_NEWROUTE -13', NO_IPV6],
  ['RTM_NEWROUTE -101', NO_WAY],
  ['RTM_NEWROUTE -113', NO_WAY],
  ['RTM_NEWROUTE -100', 'bring the link up first'],
  ['RTM_DELROUTE -3', 'the link has no such route'],
  ['RTM_DELNEIGH -2', 'the link has no such neighbour'],
  ['RTM_NEWRULE -17', 'there is such a rule already'],
  ['RTM_DELRULE -2', 'there is no such rule'],
  [
    'RTM_NEWRULE -95',
    'the kernel has no policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)',
  ],
  [
    'RTM_NEWRULE -97',
    'the kernel has no policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)',
  ],
  [
    'RTM_NEWQDISC -2',
    'the kernel has no netem: load it with modprobe sch_netem, or use a kernel that has it (CONFIG_NET_SCH_NETEM)',
  ],
  [
    'RTM_NEWQDISC -17',
    'the link has a queueing discipline that somebody chose: take that out first (tc qdisc del dev NAME root)',
  ],
  ['-19', 'no such interface in this network namespace'],
  ['-16', 'the link is in use: bring it down first'],
  ['-12', 'the kernel has no memory for this'],
  ['-105', 'the answer did not fit the receive buffer of the request'],
]);
