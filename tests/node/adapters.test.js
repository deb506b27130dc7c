"use strict";

/** Adapters, as far as no SDK is needed: tests/sdks runs them with SDKs. */

const assert = require("node:assert/strict");
const { test } = require("node:test");

const { storageWrapper } = require("../../src/node/adapters/split.js");

test("Split's storage opens though nothing can be loaded, and evaluations try again", async () => {
  let isUp = false;
  const items = { source: "prod", provider: "split", text: () => "{}" };
  const wrapper = storageWrapper({
    snapshot: async () => {
      if (isUp) return items;
      throw new Error("the store is down");
    },
  });
  await wrapper.connect();
  await assert.rejects(wrapper.get("SPLITIO.split.a"), /is down/);
  isUp = true;
  await new Promise(setImmediate); // calls of one turn share a flag set
  assert.equal(await wrapper.get("SPLITIO.split.a"), "{}");
});

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
