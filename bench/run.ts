/**
 * `npm run bench -- [--quick] [--only <text>] [--compare] [--vpn] [--save]`: each operation against its C loop, in a network namespace
 * of its own. --quick takes about two minutes; --only picks operations by name, 'memory', 'forward', 'small packets', 'offload costs' or 'udp';
 * --vpn measures TCP through the VPN of examples/, and OpenVPN where it is installed, and nothing else unless --only says so;
 * --compare installs the npm package `cap` in a temporary folder, and measures against it too; --save also writes the charts of docs/.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { forward } from './forward';
import { CapInstallation } from './lib/cap';
import { chart } from './lib/chart';
import { forwardChart } from './lib/forward-report';
import { measure } from './lib/measure';
import { newReport, ratio, table, title } from './lib/report';
import { Stage } from './lib/stage';
import { memory } from './memory';
import { offloadCosts } from './offload-costs';
import { operations } from './operations';
import { smallPackets } from './small-packets';
import { udp, udpTable } from './udp';
import { vpn, vpnTable } from './vpn';

const ROOT = join(__dirname, '..', '..');
const INSIDE = 'TUNSOCK_BENCH_INSIDE';
const QUICK_ROUNDS = 10;
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

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      compare: { type: 'boolean', default: false },
      vpn: { type: 'boolean', default: false },
      save: { type: 'boolean', default: false },
    },
  });
  const wanted = (name: string) => (values.only === undefined ? !values.vpn : name.includes(values.only));
  const report = newReport(values.quick);
  const started = performance.now();
  const progress = (text: string) =>
    console.log(`${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s  ${text}`);

  await using tun = new Stage('tun');
  await using veth = new Stage('veth');
  const stages = { tun, veth };
  for (const operation of operations.filter(({ name }) => wanted(name))) {
    const rounds = values.quick ? QUICK_ROUNDS : operation.rounds;
    for (const traffic of operation.traffic) {
      for (const size of operation.sizes) {
        const row = await measure(stages[operation.device], operation, traffic, size, rounds);
        report.rows.push(row);
        progress(`${title(row)}: ${ratio(row)}`);
      }
    }
  }
  if (wanted('memory')) {
    report.memory = await memory(tun, values.quick ? QUICK_MEMORY_PACKETS : MEMORY_PACKETS, progress);
  }

  if (wanted('forward')) report.forward = await forward(values.quick, progress);
  if (wanted('small packets')) report.smallPackets = await smallPackets(values.quick);
  if (wanted('offload costs')) report.offloadCosts = offloadCosts();

  if (wanted('udp')) report.udp = await udp(values.quick);
  if (values.vpn) report.vpn = await vpn(values.quick, progress);

  console.log(`\n${report.machine}\n`);
  if (report.udp !== undefined) console.log(`${udpTable(report.udp)}\n`);
  if (report.vpn !== undefined) console.log(vpnTable(report.vpn));
  if (!values.vpn || values.only !== undefined) console.log(table(report));
  if (values.quick)
    console.log(`\n--quick: ${QUICK_ROUNDS} rounds of each, ${QUICK_MEMORY_PACKETS} packets for memory`);
  const results = join(ROOT, 'bench', 'results');
  mkdirSync(results, { recursive: true });
  writeFileSync(join(results, 'latest.json'), `${JSON.stringify(report, undefined, 2)}\n`);
  const charts = {
    'bench.svg': chart(report),
    ...(report.forward && { 'forward.svg': forwardChart(report, report.forward) }),
  };
  for (const [name, svg] of Object.entries(charts)) {
    writeFileSync(join(results, name), svg);
    if (values.save) writeFileSync(join(ROOT, 'docs', name), svg);
  }
}

if (process.env[INSIDE] === undefined) process.exitCode = isolate();
else void main();
