"use strict";

// Reads one flag with flagstore, which evaluates nothing in Node.js.

const phases = require("./phases.cjs");
const flagstore = require("flagstore");

const [flag, seconds] = process.argv.slice(2);
const flags = flagstore.client("prod", { ttlS: Number(seconds) });

const handle = async () => (await flags.snapshot()).item("flags", flag).key;

phases.serve(handle, { ready: flags.loaded(), isStale: () => flags.health() !== "" });
