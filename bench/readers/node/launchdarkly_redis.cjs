"use strict";

// Evaluates one flag with LaunchDarkly's SDK 9 in daemon mode, from rows in Redis.

const phases = require("./phases.cjs");
const LaunchDarkly = require("@launchdarkly/node-server-sdk");
const { RedisFeatureStore } = require("@launchdarkly/node-server-sdk-redis");
const Redis = require("ioredis");

const [flag, url] = process.argv.slice(2);
const client = LaunchDarkly.init("no-key", {
  featureStore: RedisFeatureStore({ client: new Redis(url), prefix: "{prod}" }),
  useLdd: true,
  sendEvents: false,
});
const context = { kind: "user", key: "ada", plan: "team", country: "DE" };

const handle = () => client.variation(flag, context, null);

phases.serve(handle, { ready: client.waitForInitialization({ timeout: 5 }) });
