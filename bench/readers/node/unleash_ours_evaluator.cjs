"use strict";

// Evaluates one flag with the evaluating part of Unleash's SDK on flagstore's adapter.

const phases = require("./phases.cjs");
const { default: UnleashClient } = require("unleash-client/lib/client");
const { defaultStrategies } = require("unleash-client/lib/strategy");
const flagstore = require("flagstore");
const { repository } = require("flagstore/unleash");

const [flag] = process.argv.slice(2);
const features = repository(flagstore.client("prod"));
const unleash = new UnleashClient(features, defaultStrategies);
const context = {
  appName: "shop",
  environment: "default",
  userId: "ada",
  properties: { plan: "team", country: "DE" },
};

const missing = () => {
  throw new Error("no such feature");
};

const handle = async () => {
  await features.refresh();
  return unleash.isEnabled(flag, context, missing);
};

phases.serve(handle, { ready: features.start() });
