"use strict";

// Evaluates one flag with LaunchDarkly's SDK 6 on flagstore's adapter.

const phases = require("./phases.cjs");
const LaunchDarkly = require("launchdarkly-node-server-sdk");
const flagstore = require("flagstore");
const { featureStore } = require("flagstore/launchdarkly");

const [flag] = process.argv.slice(2);
const client = LaunchDarkly.init("no-key", {
  featureStore: featureStore(flagstore.client("prod"), LaunchDarkly),
  useLdd: true,
  sendEvents: false,
});
const user = { key: "ada", country: "DE", custom: { plan: "team" } };

const handle = () => client.variation(flag, user, null);

phases.serve(handle, { ready: client.waitForInitialization() });
