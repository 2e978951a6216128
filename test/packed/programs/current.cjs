// Loads the addon and asks the kernel something that an emulated processor can ask too.
const assert = require('node:assert');
const { Link } = require('tunsock');

const loopback = Link.get('lo');
assert.equal(loopback.index, 1);
console.log(`${process.arch}, Node ${process.version}, ${loopback.name} by rtnetlink`);
