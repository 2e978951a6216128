/**
 * `npm run bench -- [--quick] [--only <text>]... [--compare] [--vpn [--loss <percent>]] [--soak [--minutes <n>]] [--vm] [--save] [--draw]`: each
 * operation against its C loop, in a network namespace of its own. --quick takes about a minute; --only picks operations by name, 'memory',
 * 'forward', 'small packets', 'offload costs', 'queues', 'flood' or 'udp'. These measure nothing else unless --only says so: --vpn, TCP through the
 * VPN of examples/, and OpenVPN and wireguard-go where they are installed, with --loss over a cable that loses some of it; --soak, whether one process under load
 * stays as it was for ten minutes; --vm, vhost in a guest of QEMU.
 * --compare measures against streams of node:fs too, and against the npm package `cap`, which it installs in a temporary folder; --save also
 * draws the charts of docs/, and --draw only does that, with the figures of the last run.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { flood, floodTable } from './flood';
import { forward } from './forward';
import { CapInstallation } from './lib/cap';
import { charts } from './lib/chart';
import { measure } from './lib/measure';
import { newReport, type Report, ratio, table, title } from './lib/report';
import { soakChart } from './lib/soak-chart';
import { Stage } from './lib/stage';
import { vmTable } from './lib/vm-report';
import { memory } from './memory';
import { offloadCosts } from './offload-costs';
import { operations } from './operations';
import { queues, queuesTable } from './queues';
import { smallPackets } from './small-packets';
import { soak, soakLine } from './soak';
import { udp, udpTable } from './udp';
import { vm } from './vm';
import { vpn, vpnTable } from './vpn';

const ROOT = join(__dirname, '..', '..');
const DOCS = join(ROOT, 'docs');
const LATEST = join(ROOT, 'bench', 'results', 'latest.json');
const INSIDE = 'TUNSOCK_BENCH_INSIDE';
const MEMORY_PACKETS = 10_000_000;
const QUICK_MEMORY_PACKETS = 1_000_000;

/** Runs this program again where it can't touch the host's network. */
function isolate(): number {
  using cap = process.argv.includes('--compare') ? new CapInstallation() : undefined;
  const namespaces = process.getuid?.() === 0 ? '-n' : '-Urn';
  const { status, error } = spawnSync('unshare', [namespaces, process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, ...cap?.env, [INSIDE]: '1' },
  });
  if (error !== undefined) throw error;
  if (cap?.problem !== undefined) console.log(`\nnot compared with ${cap.problem}`);
  return status ?? 1;
}

/** Something to measure: what it comes to is in the report, and in a word or two what is returned. */
interface Part {
  name: string;
  measure(progress: (text: string) => void): Promise<string | undefined>;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true },
      compare: { type: 'boolean', default: false },
      vpn: { type: 'boolean', default: false },
      vm: { type: 'boolean', default: false },
      loss: { type: 'string', default: '0' },
      soak: { type: 'boolean', default: false },
      minutes: { type: 'string', default: '10' },
      save: { type: 'boolean', default: false },
      draw: { type: 'boolean', default: false },
    },
  });
  if (values.draw) return draw(JSON.parse(readFileSync(LATEST, 'utf8')), DOCS);
  const elsewhere = values.vpn || values.soak || values.vm;
  const wanted = (name: string) => values.only?.some((text) => name.includes(text)) ?? !elsewhere;
  const loss = Number(values.loss);
  if (!(loss >= 0 && loss < 100)) throw new RangeError('--loss is a percentage');
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new RangeError('--minutes is a number above 0');
  const { quick } = values;
  const report = newReport(quick, loss);

  await using tun = new Stage('tun');
  await using veth = new Stage('veth');
  const parts: Part[] = [];
  for (const operation of operations.filter(({ name }) => wanted(name))) {
    const stage = operation.device === 'tun' ? tun : veth;
    for (const traffic of quick ? operation.traffic.slice(0, 1) : operation.traffic) {
      for (const size of quick ? operation.sizes.slice(-1) : operation.sizes) {
        parts.push({
          name: title({ operation: operation.name, traffic, size }),
          async measure() {
            const row = await measure(stage, operation, traffic, size, quick);
            report.rows.push(row);
            return ratio(row);
          },
        });
      }
    }
  }
  const add = (name: string, asked: boolean, work: (progress: (text: string) => void) => unknown) => {
    if (asked) parts.push({ name, measure: async (progress) => void (await work(progress)) });
  };
  add('memory', wanted('memory'), async (progress) => {
    report.memory = await memory(tun, quick ? QUICK_MEMORY_PACKETS : MEMORY_PACKETS, progress);
  });
  add('forward', wanted('forward'), async (progress) => {
    report.forward = await forward(quick, progress);
  });
  add('small packets', wanted('small packets'), async () => {
    report.smallPackets = await smallPackets(quick);
  });
  add('offload costs', wanted('offload costs'), () => {
    report.offloadCosts = offloadCosts(quick);
  });
  add('flood', wanted('flood'), async () => {
    report.flood = await flood(quick);
  });
  add('soak', values.soak, async (progress) => {
    report.soak = await soak(minutes, progress);
  });
  add('queues', wanted('queues'), async () => {
    report.queues = await queues(quick);
  });
  add('udp', wanted('udp'), async () => {
    report.udp = await udp(quick);
  });
  add('vpn', values.vpn, async (progress) => {
    report.vpn = await vpn(quick, loss, progress);
  });
  add('vm', values.vm, async () => {
    report.vm = await vm(quick);
  });
  await measureAll(parts);

  console.log(`\n${report.machine}\n`);
  if (report.flood !== undefined) console.log(`${floodTable(report.flood)}\n`);
  if (report.soak !== undefined) console.log(`${soakLine(report.soak)}\n`);
  if (report.queues !== undefined) console.log(`${queuesTable(report.queues)}\n`);
  if (report.udp !== undefined) console.log(`${udpTable(report.udp)}\n`);
  if (report.vpn !== undefined) console.log(vpnTable(report.vpn, loss));
  if (typeof report.vm === 'string') {
    console.log(`not measured in a guest, because ${report.vm}`);
    process.exitCode = 1;
  } else if (report.vm !== undefined) console.log(`${vmTable(report.vm)}\n`);
  if (!elsewhere || values.only !== undefined) console.log(table(report));
  if (quick)
    console.log(
      '\n--quick: a few rounds of one size and one kind of traffic, and no calls and bytes counted',
    );
  mkdirSync(dirname(LATEST), { recursive: true });
  writeFileSync(LATEST, `${JSON.stringify(report, undefined, 2)}\n`);
  if (values.save) await draw(report, DOCS);
}

/** One after the other; says how each went, and what comes next. */
async function measureAll(parts: readonly Part[]): Promise<void> {
  const started = performance.now();
  const progress = (text: string) =>
    console.log(`${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s  ${text}`);
  const next = (index: number) => (parts[index] === undefined ? '' : `; next: ${parts[index]?.name}`);
  progress(`${parts.length} to measure${next(0)}`);
  for (const [index, { name, measure }] of parts.entries()) {
    const result = await measure(progress);
    const said = result === undefined ? name : `${name}: ${result}`;
    progress(`${index + 1} of ${parts.length}, ${said}${next(index + 1)}`);
  }
}

/** Each chart for which the report has figures. */
async function draw(report: Report, folder: string): Promise<void> {
  for (const [name, svg] of await charts(report)) writeFileSync(join(folder, name), svg);
  if (report.soak !== undefined)
    writeFileSync(join(folder, 'soak.svg'), await soakChart(report, report.soak));
}

if (process.env[INSIDE] === undefined && !process.argv.includes('--draw')) process.exitCode = isolate();
else void main();
