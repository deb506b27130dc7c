"use strict";

// Evaluates one flag with Split's SDK for servers on flagstore's adapter.

const phases = require("./phases.cjs");
const { SplitFactory } = require("@splitsoftware/splitio");
const { PluggableStorage } = require("@splitsoftware/splitio-commons/cjs/storages/pluggable");
const flagstore = require("flagstore");
const { storageWrapper } = require("flagstore/split");

const [flag] = process.argv.slice(2);
const storageFactory = PluggableStorage({ wrapper: storageWrapper(flagstore.client("prod")) });
const settings = {
  core: { authorizationKey: "no-key" },
  mode: "consumer",
  storage: { type: "REDIS" },
  sync: { impressionsMode: "NONE" },
};
const client = SplitFactory(settings, (modules) => Object.assign(modules, { storageFactory })).client();

const handle = () => client.getTreatment("ada", flag, { plan: "team", country: "DE" });

phases.serve(handle, { ready: client.whenReady() });
