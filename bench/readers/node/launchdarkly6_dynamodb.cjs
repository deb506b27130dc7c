"use strict";

// Evaluates one flag with LaunchDarkly's SDK 6 in daemon mode, from rows in DynamoDB.

const phases = require("./phases.cjs");
const LaunchDarkly = require("launchdarkly-node-server-sdk");
const { DynamoDBFeatureStore } = require("launchdarkly-node-server-sdk-dynamodb");

const [flag] = process.argv.slice(2);
const { AWS_ENDPOINT_URL: endpoint, FLAGSTORE_TABLE: table } = process.env;
const client = LaunchDarkly.init("no-key", {
  // This AWS SDK does not know the variable.
  featureStore: DynamoDBFeatureStore(table, { prefix: "prod", clientOptions: { endpoint } }),
  useLdd: true,
  sendEvents: false,
});
const user = { key: "ada", country: "DE", custom: { plan: "team" } };

const handle = () => client.variation(flag, user, null);

phases.serve(handle, { ready: client.waitForInitialization() });
