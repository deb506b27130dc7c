"use strict";

// Evaluates one flag with Split's SDK for browsers, which has pluggable storage, on flagstore's adapter.

const phases = require("./phases.cjs");
const { SplitFactory, PluggableStorage } = require("@splitsoftware/splitio-browserjs");
const flagstore = require("flagstore");
const { storageWrapper } = require("flagstore/split");

const [flag] = process.argv.slice(2);
const factory = SplitFactory({
  core: { authorizationKey: "no-key", key: "nobody" },
  mode: "consumer",
  storage: PluggableStorage({ wrapper: storageWrapper(flagstore.client("prod")) }),
  sync: { impressionsMode: "NONE" },
});
const client = factory.client("ada");

const handle = () => client.getTreatment(flag, { plan: "team", country: "DE" });

phases.serve(handle, { ready: client.whenReady() });
