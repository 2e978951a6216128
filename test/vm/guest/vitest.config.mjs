// The configuration of vitest inside a guest, where everything takes ten times as long.
export default {
  resolve: { alias: { tunsock: '/tunsock/dist/index.js' } },
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 60_000,
    reporters: ['default', ['json', { outputFile: '/tmp/report.json' }]],
  },
};
