"use strict";

/** The vectors that Python's reader passes as well: tests/node/test_vectors.py writes them. */

const assert = require("node:assert/strict");
const { readFileSync, readdirSync } = require("node:fs");
const { join } = require("node:path");
const { test } = require("node:test");

const flagstore = require("../../src/node/index.js");
const { FakeClock, RecordsStore, applyStep, clientOf } = require("./support/store.js");

const STEP_S = 61;
const folder = process.env.FLAGSTORE_VECTORS;
console.warn = () => {};

for (const file of readdirSync(folder).sort()) {
  const vector = JSON.parse(readFileSync(join(folder, file), "utf8"));
  test(vector.name, () => follow(vector));
}

async function follow(vector) {
  const clock = new FakeClock();
  const store = new RecordsStore(clock);
  const client = clientOf(store, clock, { replicas: vector.replicas });
  let expected;
  for (const [number, step] of vector.steps.entries()) {
    const where = `step ${number}`;
    applyStep(store, step);
    clock.advance(STEP_S);
    store.taken();
    expected = step.set ?? expected;
    const before = client.current();
    const held = before && textsOf(before);
    if (step.error) {
      await assert.rejects(client.snapshot(), flagstore[step.error], where);
    } else {
      const snapshot = await client.snapshot({ segments: true });
      await check(snapshot, expected, step.missing, where);
      assert.equal(client.info().stale, step.stale, where);
    }
    if (step.calls !== null) assert.deepEqual(store.calls, step.calls, where);
    if (before) assert.deepEqual(textsOf(before), held, `${where}: an earlier set has changed`);
  }
}

/** Compare everything that a flag set says. */
async function check(snapshot, expected, missing, where) {
  const { identity } = expected;
  for (const name of ["token", "nonce", "digest", "revision", "provider"]) {
    assert.equal(snapshot[name], identity[name], `${where}: ${name}`);
  }
  assert.equal(snapshot.publishedAt * 1000, identity.published_at, where);
  assert.deepEqual({ ...snapshot.counts }, expected.counts, where);
  assert.deepEqual(snapshot.meta, expected.meta, where);
  assert.equal(snapshot.progress, expected.progress, where);
  assert.equal(snapshot.twoVersions, Boolean(expected.counts.deployments), where);
  for (const [section, texts] of Object.entries(expected.texts)) {
    assert.deepEqual(snapshot.keys(section), expected.keys[section], where);
    for (const [key, text] of Object.entries(texts)) {
      const place = `${where}: ${section} ${JSON.stringify(key)}`;
      if (section === "segments" && Object.hasOwn(missing, key)) {
        assert.throws(() => snapshot.item(section, key), flagstore.NotLoadedError, place);
        assert.throws(() => snapshot.text(section, key), flagstore.NotLoadedError, place);
        await assert.rejects(snapshot.segment(key), flagstore[missing[key]], place);
        continue;
      }
      assert.equal(snapshot.text(section, key), text, place);
      const item = snapshot.item(section, key);
      assert.deepEqual(item, JSON.parse(text), place);
      assert.equal(snapshot.item(section, key), item, `${place}: parsed twice`);
      if (section === "segments") assert.equal(await snapshot.segment(key), item, place);
    }
    assert.equal(snapshot.text(section, "no such key"), undefined);
    assert.equal(snapshot.item(section, "no such key"), undefined);
  }
  assert.equal(snapshot.text("no such section", "a"), undefined);
  assert.deepEqual(snapshot.keys("no such section"), []);
}

function textsOf(snapshot) {
  const sections = Object.keys(snapshot.counts).filter((name) => name !== "segments");
  return sections.map((name) => snapshot.keys(name).map((key) => snapshot.text(name, key)));
}
