import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const results = process.env.TUNSOCK_TEST_RESULTS;

export default defineConfig({
  // Examples import the package by its name, as users do.
  resolve: {
    alias: {
      'tunsock/packets': fileURLToPath(new URL('./dist/packets/index.js', import.meta.url)),
      tunsock: fileURLToPath(new URL('./dist/index.js', import.meta.url)),
    },
  },
  test: {
    include: ['test/**/*.test.ts'],
    // A process for each file: its threads can change their namespace.
    pool: 'forks',
    // Two cores are what CI has.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: results === undefined ? ['default'] : ['default', ['json', { outputFile: results }]],
  },
});
