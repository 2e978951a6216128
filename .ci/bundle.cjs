// Bundles the package: one file for each way in, since each file that an import reads takes time.
const { buildSync } = require('esbuild');

const common = { bundle: true, platform: 'node', target: 'node20', outdir: 'dist', outbase: 'src/ts', logLevel: 'warning' };

buildSync({
  ...common,
  entryPoints: ['src/ts/index.ts', 'src/ts/packets/index.ts'],
  // A class that names itself is _Class in a bundle. keepNames would name every function anew each time that one is made: 0.2 µs.
  footer: {
    js: "for (const [name, value] of Object.entries(module.exports)) if (typeof value === 'function') Object.defineProperty(value, 'name', { value: name });",
  },
});

// The command uses the package as programs do.
buildSync({
  ...common,
  entryPoints: ['main', 'inside', 'probe'].map((name) => `src/ts/cli/${name}.ts`),
  external: ['tunsock', 'tunsock/packets'],
});
