"use strict";

// Evaluates one flag with Unleash's SDK on flagstore's adapter.

const phases = require("./phases.cjs");
const { startUnleash } = require("unleash-client");
const flagstore = require("flagstore");
const { repository } = require("flagstore/unleash");

const [flag] = process.argv.slice(2);
const features = repository(flagstore.client("prod"));
const starting = startUnleash({
  url: "http://127.0.0.1:9",
  appName: "shop",
  repository: features,
  disableMetrics: true,
});
const context = { userId: "ada", properties: { plan: "team", country: "DE" } };

const missing = () => {
  throw new Error("no such feature");
};

const handle = async () => {
  await features.refresh();
  return (await starting).isEnabled(flag, context, missing);
};

phases.serve(handle, { ready: starting });
