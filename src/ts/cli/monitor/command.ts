import { Link, PacketSocket } from 'tunsock';
import type { Arguments, Command } from '../command';
import { startsWithEthernet } from '../link-type';
import { Terminal } from '../terminal';
import { TrafficCounter } from './traffic';
import { type Interval, lineOf, viewOf } from './view';

const RECEIVE_BUFFER = 8 << 20;

export const command: Command = {
  synopsis: 'monitor [options] <interface>',
  details:
    'In a terminal a view that is drawn anew; elsewhere a line for each interval. Ends on SIGINT or SIGTERM, or by --count.',
  options: {
    interval: { type: 'string', short: 'i', value: 'S', help: 'between two views (1)' },
    count: { type: 'string', short: 'c', value: 'N', help: 'end after N intervals' },
    flows: { type: 'string', value: 'N', help: 'show so many flows (5)' },
    json: { type: 'boolean', help: 'a line of JSON for each interval' },
  },
  arguments: [1, 1],
  run,
};

async function run(args: Arguments): Promise<number> {
  const name = args.positionals[0] as string;
  const seconds = args.number('interval', 0.05, 3600, { fraction: true }) ?? 1;
  const count = args.number('count', 1, 1e9) ?? Number.POSITIVE_INFINITY;
  const flows = args.number('flows', 0, 100) ?? 5;
  const json = args.flag('json');
  const terminal = new Terminal(process.stdout);
  const link = Link.get(name);
  const traffic = new TrafficCounter();
  using socket = PacketSocket.open({ interface: name, receiveBuffer: RECEIVE_BUFFER });
  let before = link.counters();
  let missedBefore = 0;
  let since = performance.now();

  const interval = (): Interval => {
    const now = performance.now();
    const counters = link.counters();
    const missed = socket.stats().received.dropped ?? 0;
    const result: Interval = {
      interface: name,
      seconds: (now - since) / 1000,
      ...traffic.take(flows),
      drops: {
        received: counters.rxDropped - before.rxDropped,
        sent: counters.txDropped - before.txDropped,
        errors: counters.rxErrors + counters.txErrors - before.rxErrors - before.txErrors,
        missed: missed - missedBefore,
      },
    };
    [before, missedBefore, since] = [counters, missed, now];
    return result;
  };

  await new Promise<void>((resolve, reject) => {
    let shown = 0;
    const timer = setInterval(() => {
      try {
        const result = interval();
        if (json) terminal.line(JSON.stringify(result));
        else if (terminal.isTerminal) terminal.show(viewOf(result, terminal.columns - 1));
        else terminal.line(lineOf(result));
        shown += 1;
        if (shown >= count) end();
      } catch (error) {
        end(error as Error);
      }
    }, seconds * 1000);
    const stop = () => end();
    const end = (error?: Error) => {
      clearInterval(timer);
      process.off('SIGINT', stop);
      process.off('SIGTERM', stop);
      if (error === undefined) resolve();
      else reject(error);
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
    socket.on('error', (error) => {
      if ((error as { code?: string }).code !== 'ENETDOWN') end(error);
    });
    socket.on('batch', (batch) => {
      try {
        for (let index = 0; index < batch.length; index++) {
          const { size, packetType, hardwareType } = batch.info(index);
          const ethernet = startsWithEthernet(hardwareType as number);
          traffic.add(batch.at(index), size, packetType === 'outgoing', ethernet);
        }
      } catch (error) {
        end(error as Error);
      }
    });
  });
  return 0;
}
