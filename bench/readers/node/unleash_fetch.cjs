"use strict";

// Evaluates one flag with Unleash's SDK as its guide for AWS Lambda has it: it fetches, and registers.

const phases = require("./phases.cjs");
const { InMemStorageProvider, startUnleash } = require("unleash-client");

const [flag, url, token] = process.argv.slice(2);
const starting = startUnleash({
  url,
  appName: "shop",
  customHeaders: { Authorization: token },
  storageProvider: new InMemStorageProvider(),
});
const context = { userId: "ada", properties: { plan: "team", country: "DE" } };

const missing = () => {
  throw new Error("no such feature");
};

const handle = async () => (await starting).isEnabled(flag, context, missing);

phases.serve(handle, { ready: starting });
