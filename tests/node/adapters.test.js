"use strict";

/** Adapters, as far as no SDK is needed: tests/sdks runs them with SDKs. */

const assert = require("node:assert/strict");
const { test } = require("node:test");

const { storageWrapper } = require("../../src/node/adapters/split.js");

test("Split's storage does not open once it is closed, though flags have arrived", async () => {
  let arrive;
  const snapshot = new Promise((resolve) => {
    arrive = () => resolve({ source: "prod", provider: "split" });
  });
  const wrapper = storageWrapper({ snapshot: () => snapshot });
  const connecting = wrapper.connect();
  await wrapper.disconnect();
  arrive();
  await assert.rejects(connecting, /destroyed/);
});
