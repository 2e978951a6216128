// Loads the addon and asks the kernel something that an emulated processor can ask too.
const assert = require('node:assert');
const { Netns } = require('tunsock');
const here = Netns.current();
assert(here.fd > 2);
here.close();
console.log(`${process.arch}, Node ${process.version}`);
