"use strict";

// Evaluates one flag with Split's SDK for servers as a consumer of Redis.

const phases = require("./phases.cjs");
const { SplitFactory } = require("@splitsoftware/splitio");

const [flag, url] = process.argv.slice(2);
const client = SplitFactory({
  core: { authorizationKey: "redis" },
  mode: "consumer",
  storage: { type: "REDIS", prefix: "{prod}", options: { url } },
  sync: { impressionsMode: "NONE" },
}).client();

const handle = () => client.getTreatment("ada", flag, { plan: "team", country: "DE" });

phases.serve(handle, { ready: client.whenReady() });
