"use strict";

// Evaluates one flag with Split's SDK for browsers and its client for servers, on flagstore's adapter.

const phases = require("./phases.cjs");
const { SplitFactory, PluggableStorage } = require("@splitsoftware/splitio-browserjs");
const { sdkClientMethodFactory } = require("@splitsoftware/splitio-commons/cjs/sdkClient/sdkClientMethod");
const flagstore = require("flagstore");
const { storageWrapper } = require("flagstore/split");

const [flag] = process.argv.slice(2);
const settings = {
  core: { authorizationKey: "no-key", key: "nobody" },
  mode: "consumer",
  storage: PluggableStorage({ wrapper: storageWrapper(flagstore.client("prod")) }),
  sync: { impressionsMode: "NONE" },
};
const factory = SplitFactory(settings, (modules) => Object.assign(modules, { sdkClientMethodFactory }));
const client = factory.client();

const handle = () => client.getTreatment("ada", flag, { plan: "team", country: "DE" });

phases.serve(handle, { ready: client.whenReady() });
