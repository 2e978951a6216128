/**
 * `node test/layers.mjs`: whether the house stands as CONTRIBUTING.md draws it. Each room uses only what is below it, native code of the core
 * knows neither Node-API nor libuv, and no file imports one that imports it back, types included.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const problems = [];

function files(folder, ending) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && ending.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)));
}

/** Which files of ours each file names. */
function importsOf(all, pattern, resolve) {
  const known = new Set(all);
  return new Map(
    all.map((file) => {
      const text = readFileSync(join(root, file), 'utf8');
      const named = [...text.matchAll(pattern)].map((match) => resolve(file, match[1]));
      return [file, [...new Set(named.filter((target) => known.has(target) && target !== file))]];
    }),
  );
}

function findCircles(imports) {
  const state = new Map();
  const visit = (file, path) => {
    if (state.get(file) === 'done') return;
    if (state.get(file) === 'open') {
      problems.push(`a circle: ${[...path.slice(path.indexOf(file)), file].join(' -> ')}`);
      return;
    }
    state.set(file, 'open');
    for (const target of imports.get(file)) visit(target, [...path, file]);
    state.set(file, 'done');
  };
  for (const file of imports.keys()) visit(file, []);
}

/** `layers`: from top to bottom; rooms of one layer may use each other. */
function checkLayers(imports, layers) {
  const layerOf = (file) => layers.findIndex((rooms) => rooms.some((room) => file.startsWith(room)));
  for (const [file, targets] of imports) {
    const from = layerOf(file);
    if (from < 0) problems.push(`${file} is in no room that test/layers.mjs knows`);
    for (const target of targets) {
      if (layerOf(target) < from) problems.push(`${file} uses ${target}, which is above it`);
    }
  }
}

const typescript = (folder) =>
  importsOf(files(folder, /\.ts$/), /(?:from|import|require\() ?'(\.[^']*)'/g, (file, name) =>
    normalize(join(dirname(file), `${name}.ts`)),
  );

const ts = typescript('src/ts');
findCircles(ts);
checkLayers(ts, [
  ['src/ts/index', 'src/ts/cli/'],
  ['src/ts/socket/', 'src/ts/packets/'],
  ['src/ts/packet/', 'src/ts/host/'],
  ['src/ts/native.ts', 'src/ts/node-gyp-build.d.ts'],
  ['src/ts/support/'],
]);
findCircles(typescript('bench'));

const native = importsOf(files('src/native', /\.(cc|h)$/), /#include "([^"]+)"/g, (_, name) =>
  join('src/native', name),
);
findCircles(native);
checkLayers(native, [
  ['src/native/module.cc', 'src/native/runtime.cc', 'src/native/old_glibc.h'],
  ['src/native/binding/'],
  ['src/native/core/device/', 'src/native/core/host/'],
  ['src/native/core/io/'],
  ['src/native/core/vhost/', 'src/native/core/offload/', 'src/native/core/io/'],
  ['src/native/core/sys/'],
]);
for (const file of files('src/native/core', /\.(cc|h)$/)) {
  const foreign = /#include [<"](napi|node_api|uv)\.h/.exec(readFileSync(join(root, file), 'utf8'));
  if (foreign !== null) problems.push(`${file} includes ${foreign[1]}.h: the core builds without Node`);
}

for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`layers: ${ts.size + native.size} files, no circle, nothing from above`);
