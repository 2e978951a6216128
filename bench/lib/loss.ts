import { execFileSync } from 'node:child_process';

/**
 * Loses `percent` of the packets that come in by an interface of this thread's network namespace, each by itself and at random: a classic BPF
 * program of four instructions before everything else (tc-bpf(8)), so that it needs no netem. Whoever sends them must cut superpackets first, as
 * before a cable: see cutBeforeCable().
 */
export function loseIncoming(name: string, percent: number): void {
  const RANDOM = 0xfffff000 + 56; // SKF_AD_OFF + SKF_AD_RANDOM of linux/filter.h
  const threshold = Math.round((1 - percent / 100) * 2 ** 32);
  const [LOAD, JUMP_GE, RETURN] = [0x20, 0x35, 0x06];
  const [OK, SHOT] = [0, 2]; // TC_ACT_* of linux/pkt_cls.h
  const program = [
    [LOAD, 0, 0, RANDOM],
    [JUMP_GE, 0, 1, threshold],
    [RETURN, 0, 0, SHOT],
    [RETURN, 0, 0, OK],
  ];
  const bytecode = [program.length, ...program.map((instruction) => instruction.join(' '))].join(',');
  execFileSync('tc', ['qdisc', 'add', 'dev', name, 'clsact']);
  execFileSync('tc', ['filter', 'add', 'dev', name, 'ingress', 'bpf', 'da', 'bytecode', bytecode]);
}

/** Makes the kernel cut UDP superpackets before a veth interface, over which they would otherwise go whole, and be lost whole. */
export function cutBeforeCable(name: string): void {
  execFileSync('ethtool', ['-K', name, 'tx-udp-segmentation', 'off']);
}
