// Prints where napi.h is. A packed tunsock brings its own copy (npm run pack:headers), so that building it from source needs no
// further dependency.
let folder = 'dist/node-addon-api';
try {
  folder = require('node-addon-api').include_dir;
} catch {}
console.log(folder);
