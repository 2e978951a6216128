import type { SystemView } from './system-view';

/** What a check found; `fix` is the one command that mends it. */
export interface Finding {
  check: string;
  /** 'fail': a device can't be opened; 'warn': it can, but something is slower or missing. */
  status: 'ok' | 'warn' | 'fail';
  detail: string;
  fix?: string;
}

type Check = (view: SystemView) => Finding;

const DEVICE = '/dev/net/tun';
const VHOST = '/dev/vhost-net';
const CAP_NET_ADMIN = 12n;
const CAP_NET_RAW = 13n;
const CAP_SYS_ADMIN = 21n;
/** The oldest kernel with long-term support that this is meant for. */
const OLDEST_KERNEL = [4, 18] as const;
const OFFLOADS = ['csum', 'tso4', 'tso6', 'tso-ecn', 'uso4', 'uso6'];

const ok = (check: string, detail: string): Finding => ({ check, status: 'ok', detail });
const warn = (check: string, detail: string, fix: string): Finding => ({
  check,
  status: 'warn',
  detail,
  fix,
});
const fail = (check: string, detail: string, fix: string): Finding => ({
  check,
  status: 'fail',
  detail,
  fix,
});

/** Whether this runs in a container, and of what kind. */
export function containerOf(view: SystemView): string | undefined {
  if (view.stat('/.dockerenv') !== undefined) return 'docker';
  if (view.stat('/run/.containerenv') !== undefined) return 'podman';
  const byManager = view.read('/run/systemd/container')?.trim();
  if (byManager !== undefined && byManager !== '') return byManager;
  const cgroup = view.read('/proc/1/cgroup') ?? '';
  return /\b(docker|kubepods|containerd|lxc|libpod)\b/.exec(cgroup)?.[1];
}

function capabilities(view: SystemView): bigint {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(view.read('/proc/self/status') ?? '')?.[1];
  return effective === undefined ? 0n : BigInt(`0x${effective}`);
}

const has = (set: bigint, capability: bigint) => ((set >> capability) & 1n) === 1n;

export const system: Check = (view) =>
  view.platform === 'linux'
    ? ok('system', 'Linux')
    : fail(
        'system',
        `${view.platform}: TUN/TAP devices as tunsock uses them are Linux's`,
        'docker run -it --device /dev/net/tun --cap-add NET_ADMIN node',
      );

export const addon: Check = (view) => {
  const error = view.addonError();
  return error === undefined ? ok('addon', 'loaded') : fail('addon', error, 'npm rebuild tunsock');
};

export const kernel: Check = (view) => {
  const [major = 0, minor = 0] = view.release.split('.').map((part) => Number.parseInt(part, 10));
  const [oldMajor, oldMinor] = OLDEST_KERNEL;
  const old = major < oldMajor || (major === oldMajor && minor < oldMinor);
  if (!old) return ok('kernel', view.release);
  return fail(
    'kernel',
    `${view.release} is older than ${OLDEST_KERNEL.join('.')}`,
    'sudo apt-get install --upgrade linux-image-amd64',
  );
};

/** The device file: whether it is there, is one, and may be opened; then the module behind it. */
export const device: Check = (view) => {
  const container = containerOf(view);
  const file = view.stat(DEVICE);
  if (file === undefined) {
    if (container !== undefined) {
      return fail(
        'device',
        `this ${container} container has no ${DEVICE}`,
        'docker run --device /dev/net/tun --cap-add NET_ADMIN …',
      );
    }
    const loaded = /^\s*\d+ tun$/m.test(view.read('/proc/misc') ?? '');
    return loaded
      ? fail('device', `the tun driver is there, but the file ${DEVICE} is not`, MAKE_DEVICE)
      : fail('device', `there is no ${DEVICE}: the tun module is not loaded`, loadModule(view));
  }
  if (!file.characterDevice)
    return fail('device', `${DEVICE} is no character device`, `sudo rm ${DEVICE} && ${MAKE_DEVICE}`);
  return opened(view, view.openError(DEVICE), container, file.mode);
};

const MAKE_DEVICE = `sudo mkdir -p /dev/net && sudo mknod -m 0666 ${DEVICE} c 10 200`;

/** A kernel that was upgraded has no modules for the one that still runs. */
function loadModule(view: SystemView): string {
  const modules = view.stat(`/lib/modules/${view.release}`) !== undefined;
  return modules ? 'sudo modprobe tun' : 'sudo reboot';
}

function opened(
  view: SystemView,
  error: string | undefined,
  container: string | undefined,
  mode: number,
): Finding {
  switch (error) {
    case undefined:
      return ok('device', `${DEVICE} can be opened`);
    case 'ENODEV':
    case 'ENXIO':
      return fail(
        'device',
        `${DEVICE} is there, but no driver behind it: the tun module is not loaded`,
        loadModule(view),
      );
    case 'EPERM':
      // The device controller of cgroups says EPERM where a file's mode says EACCES.
      return container !== undefined
        ? fail(
            'device',
            `this ${container} container may not open ${DEVICE}`,
            'docker run --device /dev/net/tun --cap-add NET_ADMIN …',
          )
        : fail(
            'device',
            `a control group keeps this process from ${DEVICE}`,
            'sudo systemd-run --pty --property=DeviceAllow="/dev/net/tun rw" …',
          );
    case 'EACCES': {
      const readable = (mode & 0o006) === 0o006;
      if (!readable && view.uid !== 0) {
        return fail(
          'device',
          `${DEVICE} has mode ${mode.toString(8).padStart(4, '0')}: this user may not open it`,
          `sudo chmod 0666 ${DEVICE}`,
        );
      }
      return confined(view, container);
    }
    default:
      return fail('device', `${DEVICE}: ${error}`, `ls -l ${DEVICE}`);
  }
}

/** The mode allows it, and yet it is refused: a security module. */
function confined(view: SystemView, container: string | undefined): Finding {
  const profile = apparmorProfile(view);
  if (profile === undefined) {
    return fail(
      'device',
      `a security module keeps this process from ${DEVICE}`,
      'sudo ausearch -m avc -ts recent',
    );
  }
  const fix =
    container === undefined
      ? `sudo aa-complain ${profile}`
      : 'docker run --security-opt apparmor=unconfined …';
  return fail('device', `the AppArmor profile ${profile} keeps this process from ${DEVICE}`, fix);
}

function apparmorProfile(view: SystemView): string | undefined {
  const current = (
    view.read('/proc/self/attr/apparmor/current') ??
    view.read('/proc/self/attr/current') ??
    ''
  )
    .replace(/\0/g, '')
    .trim();
  return current === '' || current === 'unconfined' ? undefined : current.replace(/ \(.*\)$/, '');
}

export const privilege: Check = (view) => {
  const set = capabilities(view);
  const missing = [
    ...(has(set, CAP_NET_ADMIN) ? [] : ['CAP_NET_ADMIN (devices)']),
    ...(has(set, CAP_NET_RAW) ? [] : ['CAP_NET_RAW (packet sockets)']),
  ];
  if (missing.length === 0) return ok('privilege', 'CAP_NET_ADMIN, CAP_NET_RAW');
  const container = containerOf(view);
  const fix =
    container === undefined
      ? `sudo setcap cap_net_admin,cap_net_raw+ep ${view.execPath}`
      : 'docker run --cap-add NET_ADMIN --cap-add NET_RAW …';
  // Without it there is still `tunsock run`, where user namespaces are there.
  const finding = has(set, CAP_NET_ADMIN) || userNamespaces(view).status === 'ok' ? warn : fail;
  return finding('privilege', `missing: ${missing.join(', ')}`, fix);
};

/** What `tunsock run`, and tests without sudo, need. */
export const userNamespaces: Check = (view) => {
  const name = 'user namespaces';
  const bad = has(capabilities(view), CAP_SYS_ADMIN) ? warn : fail;
  const setting = (path: string) => view.read(`/proc/sys/${path}`)?.trim();
  if (view.stat('/proc/self/ns/user') === undefined) {
    return bad(name, 'this kernel is built without them', `sudo tunsock open --user ${view.uid} -- …`);
  }
  if (setting('user/max_user_namespaces') === '0') {
    return bad(name, 'switched off', 'sudo sysctl -w user.max_user_namespaces=15000');
  }
  if (setting('kernel/unprivileged_userns_clone') === '0') {
    return bad(name, 'only for root', 'sudo sysctl -w kernel.unprivileged_userns_clone=1');
  }
  if (setting('kernel/apparmor_restrict_unprivileged_userns') === '1' && view.uid !== 0) {
    return bad(
      name,
      'AppArmor keeps unprivileged users from them',
      'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
    );
  }
  return ok(name, 'available');
};

export const vhost: Check = (view) => {
  if (view.stat(VHOST) === undefined)
    return warn('vhost', `no ${VHOST}: the option vhost can't be had`, 'sudo modprobe vhost_net');
  const error = view.openError(VHOST);
  if (error === undefined) return ok('vhost', `${VHOST} can be opened`);
  return warn('vhost', `${VHOST}: ${error}`, `sudo chmod 0666 ${VHOST}`);
};

/** The proof: a device is opened, and says what it has of offload. */
export const opening: Check = (view) => {
  const rootless = !has(capabilities(view), CAP_SYS_ADMIN);
  const { error, offloads = [] } = view.tryOpen(rootless);
  const where = rootless ? 'under unshare -Urn' : 'in a network namespace';
  if (error !== undefined) {
    const fix =
      error.code === 'ENOENT' && error.message.includes('unshare')
        ? 'sudo apt-get install util-linux'
        : 'sudo dmesg | tail';
    return fail('opening', `${where}: ${error.message}`, fix);
  }
  const missing = OFFLOADS.filter((offload) => !offloads.includes(offload));
  if (missing.length === 0) return ok('opening', `${where}, with all offloads`);
  return warn(
    'opening',
    `works ${where}; the kernel ${view.release} lacks the offloads ${missing.join(', ')} (uso: Linux 6.2)`,
    'sudo apt-get dist-upgrade',
  );
};

/** In this order: what follows a failure often fails for the same cause. */
const CHECKS: readonly Check[] = [system, addon, kernel, device, privilege, userNamespaces, vhost];

/** All findings; a device is opened only where nothing stands against it. */
export function examine(view: SystemView): Finding[] {
  const findings: Finding[] = [];
  for (const check of CHECKS) {
    findings.push(check(view));
    if (check === system && findings[0]?.status === 'fail') return findings;
  }
  if (findings.every(({ status }) => status !== 'fail')) findings.push(opening(view));
  return findings;
}
