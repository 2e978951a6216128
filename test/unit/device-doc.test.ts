import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

/** docs/device.md names all of the driver's interface, and nothing that is not there. */

const top = join(__dirname, '../..');
const read = (path: string) => readFileSync(join(top, path), 'utf8');

/** Ioctls, flags and features of include/uapi/linux/if_tun.h in Linux 6.18. */
const KERNEL = `
  TUNSETNOCSUM TUNSETDEBUG TUNSETIFF TUNSETPERSIST TUNSETOWNER TUNSETLINK TUNSETGROUP TUNGETFEATURES TUNSETOFFLOAD TUNSETTXFILTER TUNGETIFF
  TUNGETSNDBUF TUNSETSNDBUF TUNATTACHFILTER TUNDETACHFILTER TUNGETVNETHDRSZ TUNSETVNETHDRSZ TUNSETQUEUE TUNSETIFINDEX TUNGETFILTER
  TUNSETVNETLE TUNGETVNETLE TUNSETVNETBE TUNGETVNETBE TUNSETSTEERINGEBPF TUNSETFILTEREBPF TUNSETCARRIER TUNGETDEVNETNS
  IFF_TUN IFF_TAP IFF_NAPI IFF_NAPI_FRAGS IFF_NO_CARRIER IFF_NO_PI IFF_ONE_QUEUE IFF_VNET_HDR IFF_TUN_EXCL IFF_MULTI_QUEUE
  IFF_ATTACH_QUEUE IFF_DETACH_QUEUE IFF_PERSIST IFF_NOFILTER
  TUN_TX_TIMESTAMP TUN_F_CSUM TUN_F_TSO4 TUN_F_TSO6 TUN_F_TSO_ECN TUN_F_UFO TUN_F_USO4 TUN_F_USO6 TUN_F_UDP_TUNNEL_GSO
  TUN_F_UDP_TUNNEL_GSO_CSUM TUN_PKT_STRIP TUN_FLT_ALLMULTI`
  .trim()
  .split(/\s+/);

const rows = read('docs/device.md')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| the kernel'))
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .filter((cells) => cells.length === 6)
  .map(([, names, method, version, test]) => ({
    names: (names as string).match(/\b(?:TUN|IFF_)\w+/g) ?? [],
    method: method as string,
    version: version as string,
    test: test as string,
  }));

/** The text of all files under `folder` that end so, without their comments. */
function sources(folder: string, ending: RegExp): string {
  return readdirSync(join(top, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => ending.test(name))
    .map((name) => read(join(folder, name)).replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, ''))
    .join('\n');
}

describe('docs/device.md', () => {
  it('has a row for each name of linux/if_tun.h, and only one', () => {
    expect(rows.flatMap(({ names }) => names).sort()).toEqual([...KERNEL].sort());
    // Where this machine's header is older it has fewer names.
    const header = '/usr/include/linux/if_tun.h';
    if (existsSync(header)) {
      const names = readFileSync(header, 'utf8').match(
        /(?<=^#define\s+)(?:TUN[GSAD]\w+|IFF_\w+|TUN_F_\w+)/gm,
      );
      expect(names?.filter((name) => !KERNEL.includes(name))).toEqual([]);
    }
  });

  it('names tests that are there', () => {
    const missing = rows.filter(({ method, test }) => {
      if (test === '') return !method.startsWith('none');
      const [, file = 'tun-device.test.ts', title] = /^(?:`([\w.-]+)`: )?(.*)$/.exec(test) ?? [];
      const path = join(top, 'test/netns', file);
      if (!existsSync(path)) return true;
      return !readFileSync(path, 'utf8').includes(title as string);
    });
    expect(missing).toEqual([]);
  });

  it('gives a version to each', () => {
    for (const { names, version } of rows) if (names.length > 0) expect(version).toMatch(/^\d\.\d+(\.\d+)?$/);
  });

  it('names files that are there', () => {
    const files = [...read('docs/device.md').matchAll(/`([\w.-]+\.test\.ts)`/g)].map(([, name]) => name);
    expect(files.filter((name) => !existsSync(join(top, 'test/netns', name as string)))).toEqual([]);
  });
});

describe('what native code has of the driver', () => {
  const native = sources('src/native', /\.(cc|h)$/);
  const typescript = sources('src/ts', /\.ts$/);

  it('is called: no ioctl without a caller', () => {
    const names = new Set(native.match(/\bTUN(?:SET|GET|ATTACH|DETACH)\w+/g));
    expect(names.size).toBeGreaterThan(20);
    const uncalled = [...names].filter((name) => {
      const byName = new RegExp(`[{=] ?"${name}"`).test(native);
      const called = byName
        ? new RegExp(`Control\\("${name}"`).test(native) || typescript.includes(`'${name}'`)
        : new RegExp(`ioctl\\([^;]*\\b${name}\\b`).test(native);
      return !called;
    });
    expect(uncalled).toEqual([]);
  });

  it('has all ioctls that do something', () => {
    const ioctls = KERNEL.filter((name) => /^TUN(SET|GET|ATTACH|DETACH)/.test(name));
    expect(ioctls.filter((name) => !native.includes(name))).toEqual(['TUNSETNOCSUM']);
  });

  it('has no flag that nothing uses', () => {
    const flags = [...typescript.matchAll(/export const (IFF_\w+)/g)].map(([, name]) => name as string);
    expect(flags.length).toBeGreaterThan(8);
    const unused = flags.filter(
      (name) => (typescript.match(new RegExp(`(?<!const )\\b${name}\\b(?!,\\n)`, 'g')) ?? []).length === 0,
    );
    expect(unused).toEqual([]);
  });
});
