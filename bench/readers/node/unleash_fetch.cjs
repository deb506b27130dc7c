"use strict";

// Evaluates one flag with Unleash's SDK, which fetches from the server as it does by default.

const phases = require("./phases.cjs");
const { InMemStorageProvider, startUnleash } = require("unleash-client");

const [flag, url, token] = process.argv.slice(2);
const starting = startUnleash({
  url,
  appName: "shop",
  customHeaders: { Authorization: token },
  disableMetrics: true,
  storageProvider: new InMemStorageProvider(),
});
const context = { userId: "ada", properties: { plan: "team", country: "DE" } };

const missing = () => {
  throw new Error("no such feature");
};

const handle = async () => (await starting).isEnabled(flag, context, missing);

phases.serve(handle, { ready: starting });
