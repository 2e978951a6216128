/** Modules of Node that take milliseconds to load, and that many a program never needs: each is loaded when it is first used. */
export const childProcess = once<typeof import('node:child_process')>(() => require('node:child_process'));
export const cluster = once<typeof import('node:cluster').default>(() => require('node:cluster'));
export const dgram = once<typeof import('node:dgram')>(() => require('node:dgram'));
export const diagnosticsChannel = once<typeof import('node:diagnostics_channel')>(() =>
  require('node:diagnostics_channel'),
);
export const net = once<typeof import('node:net')>(() => require('node:net'));
export const stream = once<typeof import('node:stream')>(() => require('node:stream'));
export const workerThreads = once<typeof import('node:worker_threads')>(() => require('node:worker_threads'));

/** require() looks a module up again each time, which takes as long as some packets do. */
function once<Module>(load: () => Module): () => Module {
  let module: Module | undefined;
  return () => {
    module ??= load();
    return module;
  };
}
