"use strict";

/** The client: when it reads, what it keeps, and what it reports. */

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const { beforeEach, describe, test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { setFlagsFromString } = require("node:v8");
const { runInNewContext } = require("node:vm");
const { deflateSync } = require("node:zlib");

const flagstore = require("../../src/node/index.js");
const { SnapshotCache } = require("../../src/node/lib/cache.js");
const { contentDigest } = require("../../src/node/lib/deltas.js");
const { Loader } = require("../../src/node/lib/loader.js");
const { Turns } = require("../../src/node/lib/turns.js");
const { publish } = require("./support/publish.js");
const { FakeClock, RecordsStore, clientOf } = require("./support/store.js");

const { ConfigurationError, NotLoadedError, StoreUnavailableError } = flagstore;

const STATE = "read prod:$state";
const HEAD = "read prod:$snapshot";
const EXPIRED_S = 33.1;
const REFRESH_S = 0.24;
const DOWN = new StoreUnavailableError("the store is down");

let logged = [];
console.warn = (text) => logged.push(text);
beforeEach(() => {
  logged = [];
});

/** A source that is published, and a client that reads it by clocks that only tests move. */
class Rig {
  clock = new FakeClock();
  store = new RecordsStore(this.clock);
  token = 0;

  constructor(flags = { a: 1 }, options = {}) {
    this.publish(flags, options);
    this.client = clientOf(this.store, this.clock, options.client);
  }

  static async loaded(...settings) {
    const rig = new Rig(...settings);
    await rig.client.snapshot();
    rig.store.taken();
    return rig;
  }

  publish(flags, options = {}) {
    this.token += 1;
    publish(this.store.records, { flags }, { token: this.token, ...options });
  }

  async flag(key = "a") {
    return (await this.client.snapshot()).item("flags", key);
  }

  /** Let a refresh come due, and return the time that it takes by the clock. */
  async refresh(seconds = 61) {
    this.clock.advance(seconds);
    const before = this.clock.monotonic();
    await this.client.snapshot();
    return this.clock.monotonic() - before;
  }
}

/** Return flags that take some chunks of 5,000 bytes. */
function many(seed) {
  const text = (number) => String(Math.sin(seed * 1000 + number));
  const flags = {};
  for (let number = 0; number < 900; number += 1) flags[`flag-${number}`] = text(number);
  return flags;
}

function near(found, expected) {
  assert.ok(Math.abs(found - expected) < 1e-6, `${found} is not ${expected}`);
}

describe("reads", () => {
  test("one when cold, one small one per TTL, two for a newer set", async () => {
    const rig = new Rig({ a: 1, b: 2 });
    assert.deepEqual((await rig.client.snapshot()).keys(), ["a", "b"]);
    assert.equal(await rig.flag("b"), 2);
    assert.deepEqual(rig.store.taken(), [HEAD]);
    for (let time = 0; time < 3; time += 1) {
      rig.clock.advance(EXPIRED_S);
      for (let call = 0; call < 5; call += 1) assert.equal(await rig.flag(), 1);
      assert.deepEqual(rig.store.taken(), [STATE]);
    }
    rig.publish({ a: 2 });
    rig.clock.advance(EXPIRED_S);
    assert.equal(await rig.flag(), 2);
    assert.deepEqual(rig.store.taken(), [STATE, HEAD]);
  });

  test("calls at the same time share one", async () => {
    const rig = new Rig();
    const together = () => Promise.all(Array.from({ length: 500 }, () => rig.client.snapshot()));
    assert.equal(new Set(await together()).size, 1);
    assert.deepEqual(rig.store.taken(), [HEAD]);
    rig.publish({ a: 2 });
    rig.clock.advance(EXPIRED_S);
    rig.store.onCall = () => sleep(5);
    const [found, ...others] = new Set(await together());
    assert.equal(found.item("flags", "a"), 2);
    assert.deepEqual(others, []);
    assert.deepEqual(rig.store.taken(), [STATE, HEAD]);
  });

  test("and one failure", async () => {
    const rig = new Rig();
    rig.store.error = DOWN;
    const calls = Array.from({ length: 50 }, () => rig.client.snapshot());
    const outcomes = await Promise.allSettled(calls);
    assert.deepEqual(new Set(outcomes.map(({ reason }) => reason)), new Set([DOWN]));
    assert.deepEqual(rig.store.taken(), [HEAD]);
  });

  test("are spread over replicas", async () => {
    const rig = new Rig();
    const record = rig.store.records.get("prod:$snapshot\n1");
    for (const number of [1, 2, 3]) rig.store.records.set(`prod:$snapshot~${number}\n1`, record);
    for (let time = 0; time < 100; time += 1) {
      await clientOf(rig.store, rig.clock, { replicas: 4 }).snapshot();
    }
    assert.equal(new Set(rig.store.taken()).size, 4);
  });

  test("of a history that seems lost ask the replica that was loaded", async () => {
    const rig = new Rig({ a: 1 }, { token: 5 });
    const state = rig.store.records.get("prod:$state\nstate");
    const record = rig.store.records.get("prod:$snapshot\n1");
    rig.store.records.set("prod:$snapshot~1\n1", record);
    for (let time = 0; time < 20; time += 1) {
      state.published = 5;
      const client = clientOf(rig.store, rig.clock, { replicas: 2 });
      await client.snapshot();
      const [loaded] = rig.store.taken();
      state.published = 4;
      rig.clock.advance(EXPIRED_S);
      await client.snapshot();
      const again = loaded.replace("read", "read!");
      assert.deepEqual(rig.store.taken(), [STATE, STATE.replace("read", "read!"), again]);
    }
  });

  test("current, info and health read nothing", async () => {
    const rig = new Rig();
    assert.equal(rig.client.current(), undefined);
    assert.equal(rig.client.health(), "NOT_LOADED");
    const { ageS, provider, stale, token } = rig.client.info();
    assert.deepEqual([ageS, provider, stale, token], [Infinity, "", true, 0]);
    assert.deepEqual(rig.store.taken(), []);
  });
});

describe("time", () => {
  test("the wall clock may jump back: flags are fresh within a TTL", async () => {
    const rig = await Rig.loaded();
    const options = { clock: () => wall, monotonic: rig.clock.monotonic };
    let wall = rig.clock.wall();
    const client = clientOf(rig.store, rig.clock, options);
    await client.snapshot();
    wall -= 86_400 * 365;
    assert.equal((await client.snapshot()).item("flags", "a"), 1);
    rig.publish({ a: 2 });
    rig.clock.advance(EXPIRED_S); // the other one only
    assert.equal((await client.snapshot()).item("flags", "a"), 2);
    assert.ok(client.info().ageS >= 0);
  });

  test("either clock ends the TTL: one may stop in a freeze", async () => {
    for (const stopped of ["clock", "monotonic"]) {
      const rig = await Rig.loaded();
      const client = clientOf(rig.store, rig.clock, { [stopped]: () => 1 });
      await client.snapshot();
      rig.publish({ a: 2 });
      rig.clock.advance(EXPIRED_S);
      near(client.info().ageS, EXPIRED_S);
      assert.equal((await client.snapshot()).item("flags", "a"), 2);
    }
  });

  test("the last check that is known does not go back", async () => {
    const rig = await Rig.loaded();
    const state = rig.store.records.get("prod:$state\nstate");
    for (const checked of [9_000, 8_000]) {
      state.checked_at = checked;
      await rig.refresh();
      assert.equal(rig.client.info().checkedAt, 9);
    }
  });

  test("TTL and pauses have jitter", async () => {
    for (const [error, least, most] of [[undefined, 27, 33], [DOWN, 5, 7.5]]) {
      const waited = [];
      for (let time = 0; time < 30; time += 1) {
        const rig = await Rig.loaded();
        if (error !== undefined) {
          rig.store.error = error;
          await rig.refresh();
          rig.store.taken();
        }
        let seconds = 0;
        while (!rig.store.taken().length) {
          seconds += 0.1;
          await rig.refresh(0.1);
        }
        waited.push(seconds);
      }
      const [shortest, longest] = [Math.min(...waited), Math.max(...waited)];
      assert.ok(shortest >= least - 0.05 && longest <= most + 0.15, `${shortest} ${longest}`);
      assert.ok(longest - shortest > 0.3 * (most - least));
    }
  });

  for (const loaded of [true, false]) {
    test(`pauses double after failures, ${loaded ? "warm" : "cold"}`, async () => {
      const rig = loaded ? await Rig.loaded() : new Rig();
      if (loaded) rig.clock.advance(EXPIRED_S);
      const outcome = (call) => (loaded ? call() : assert.rejects(call(), NotLoadedError));
      rig.store.error = new TypeError("odd");
      for (const pause of [5, 10, 20, 40, 60, 60]) {
        await outcome(() => rig.client.snapshot());
        assert.deepEqual(rig.store.taken(), [loaded ? STATE : HEAD]);
        rig.clock.advance(pause - 0.1);
        await outcome(() => rig.client.snapshot());
        assert.deepEqual(rig.store.taken(), []);
        rig.clock.advance(0.1 + pause / 2);
      }
      rig.store.error = undefined;
      assert.equal(await rig.flag(), 1);
      assert.equal(rig.client.info().stale, false);
      rig.store.error = DOWN;
      await rig.refresh();
      rig.store.taken();
      await rig.refresh(7.5);
      assert.deepEqual(rig.store.taken(), [STATE]);
    });
  }

  test("a silent store costs 2 s at the first load, 240 ms afterwards", async () => {
    const cold = new Rig();
    cold.store.latencyS = 5;
    const before = cold.clock.monotonic();
    await assert.rejects(cold.client.snapshot(), StoreUnavailableError);
    near(cold.clock.monotonic() - before, 2);
    const rig = await Rig.loaded();
    rig.store.latencyS = 5;
    for (let time = 0; time < 3; time += 1) near(await rig.refresh(), REFRESH_S);
  });

  test("a first load that follows a failed preload takes 2 s with it", async () => {
    const { clock, store } = new Rig();
    store.latencyS = 5;
    const times = { ttlS: 30, clock: clock.wall, monotonic: clock.monotonic };
    const cache = new SnapshotCache("prod", { open: () => store, replicas: 1, ...times });
    const before = clock.monotonic();
    cache.preload(before + 2);
    await assert.rejects(cache.snapshot(), NotLoadedError);
    near(clock.monotonic() - before, 2);
  });

  test("flags are as old as the read that confirmed them, however late its response", async () => {
    const rig = await Rig.loaded();
    rig.store.latencyS = 0.2;
    await rig.refresh();
    near(rig.client.info().ageS, 0.2);
  });

  test("the limit doubles while data arrives, up to that of a first load", async () => {
    const rig = await Rig.loaded();
    rig.publish({ a: 2 });
    [rig.store.latencyS, rig.store.receiving] = [9, true];
    const waited = [];
    for (let time = 0; time < 5; time += 1) waited.push(await rig.refresh());
    [0.24, 0.48, 0.96, 1.92, 2].forEach((limit, place) => near(waited[place], limit));
    rig.store.latencyS = 0.2;
    await rig.refresh();
    assert.equal(await rig.flag(), 2);
    rig.store.latencyS = 9;
    near(await rig.refresh(), REFRESH_S);
  });

  test("chunks that were read in time are kept for the next attempt", async () => {
    const rig = await Rig.loaded();
    rig.store.latencyS = 0.08;
    rig.publish(many(1), { chunkBytes: 2_000 });
    let attempts = 0;
    rig.clock.advance(EXPIRED_S);
    while ((await rig.flag("flag-1")) === undefined) {
      attempts += 1;
      rig.clock.advance(7.5); // progress keeps the pauses short
    }
    const chunks = rig.store.taken().filter((call) => call.startsWith("chunk"));
    assert.ok(attempts > 2 && attempts < chunks.length, `${attempts} attempts`);
    assert.ok(chunks.length > 5 && chunks.length <= new Set(chunks).size + attempts);
  });
});

describe("deltas", () => {
  const digestOf = (flags) => {
    const texts = Object.entries(flags).map(([key, item]) => [key, JSON.stringify(item)]);
    return contentDigest(new Map([["flags", new Map(texts)]]));
  };

  /** Return what a refresh reads after a change, whose link and state may be wrong. */
  async function readsAfter(value, { link = {}, state = {} } = {}) {
    const rig = new Rig();
    rig.store.records.get("prod:$snapshot\n1").digest = digestOf({ a: 1 });
    await rig.client.snapshot();
    rig.publish({ a: value });
    const found = rig.store.records.get("prod:$state\nstate");
    const digest = digestOf({ a: value });
    const given = { token: 2, nonce: "n2", digest, ...link };
    const last = [given.token, given.nonce, given.digest, 2_000, 0, { flags: { a: value } }, {}];
    const deltas = deflateSync(JSON.stringify([[1, "n1"], last]));
    Object.assign(found, { digest, deltas, ...state });
    rig.store.taken();
    await rig.refresh();
    assert.equal(await rig.flag(), value);
    return rig.store.taken();
  }

  test("lead to the published set with no further read", async () => {
    assert.deepEqual(await readsAfter(2), [STATE]);
  });

  for (const [name, wrong] of Object.entries({
    "to another publication": { link: { nonce: "another" } },
    "to an earlier publication": { link: { token: 1 } },
    "to another content than they say": { link: { digest: digestOf({ a: 3 }) } },
    "to another content than was published": { state: { digest: digestOf({ a: 3 }) } },
  })) {
    test(`that lead ${name} are ignored`, async () => {
      assert.deepEqual(await readsAfter(2, wrong), [STATE, HEAD]);
    });
  }

  test("that inflate to more than a writer writes are ignored", async () => {
    assert.deepEqual(await readsAfter("x".repeat(30_000)), [STATE]);
    assert.deepEqual(await readsAfter("x".repeat(33_000)), [STATE, HEAD]);
  });
});

test("chunks that are of no more use are dropped", async () => {
  const store = new RecordsStore(new FakeClock());
  const loader = new Loader("prod", store, 1);
  const lastChunk = () => [...store.records.keys()].filter((place) => place.includes("$body")).at(-1);
  for (const token of [1, 2]) {
    store.records.clear();
    publish(store.records, { flags: many(token) }, { token, chunkBytes: 5_000 });
    store.records.delete(lastChunk());
    await assert.rejects(loader.load(Infinity), flagstore.CorruptSnapshotError);
    assert.equal(loader.chunksKept, store.records.size - 2); // all but state and snapshot record
  }
  store.records.clear();
  publish(store.records, {}, { token: 3, large: { big: many(3) }, segmentBytes: 5_000 });
  const { large } = await loader.load(Infinity);
  assert.equal(loader.chunksKept, 0);
  store.records.delete(lastChunk());
  await assert.rejects(loader.segment(large.get("big"), Infinity), /is missing/);
  assert.ok(loader.chunksKept > 0);
  publish(store.records, {}, { token: 4 });
  await loader.load(Infinity);
  assert.equal(loader.chunksKept, 0);
});

describe("what is wrong", () => {
  test("the last good set stays, with the reason in info() and one line in the log", async () => {
    const rig = await Rig.loaded();
    rig.store.error = new ConfigurationError("no table");
    await rig.refresh();
    await rig.refresh();
    assert.equal(await rig.flag(), 1);
    assert.equal(rig.client.health(), "STALE");
    assert.match(rig.client.info().error, /no table/);
    assert.ok(rig.client.info().ageS >= 122);
    rig.store.error = undefined;
    await rig.refresh();
    assert.equal(rig.client.health(), "");
    assert.equal(rig.client.info().error, "");
    assert.equal(rig.client.info().ageS, 0);
    const [began, ended, ...more] = logged;
    assert.match(began, /flags of 'prod' are stale: .*no table/);
    assert.match(ended, /flags of 'prod' are fresh again/);
    assert.deepEqual(more, []);
  });

  test("flags become too old", async () => {
    const rig = await Rig.loaded({ a: 1 }, { client: { maxAgeS: 100 } });
    rig.store.error = DOWN;
    await rig.refresh();
    assert.equal(rig.client.health(), "STALE");
    await rig.refresh();
    assert.equal(rig.client.health(), "TOO_OLD");
  });

  test("a store that lost its history is followed, and logged once", async () => {
    const rig = await Rig.loaded();
    rig.token = 0;
    rig.publish({ a: "kept" }, { nonce: "another" });
    await rig.refresh();
    await rig.refresh();
    assert.equal(await rig.flag(), "kept");
    assert.deepEqual(logged, [
      "flagstore: the store of 'prod' has lost its history: version 1 follows version 1",
    ]);
  });

  test("the record that was loaded last confirms that", async () => {
    const rig = new Rig();
    const spread = () => {
      const record = rig.store.records.get("prod:$snapshot\n1");
      for (const number of [1, 2, 3]) rig.store.records.set(`prod:$snapshot~${number}\n1`, record);
    };
    for (let time = 0; time < 20; time += 1) {
      [rig.token, rig.client] = [4, clientOf(rig.store, rig.clock, { replicas: 4 })];
      rig.publish({ a: 1 });
      spread();
      await rig.client.snapshot();
      const [first] = rig.store.taken();
      rig.token = 0;
      rig.publish({ a: "kept" });
      spread();
      await rig.refresh();
      const confirmed = first.replace("read", "read!");
      assert.deepEqual(rig.store.taken(), [STATE, "read! prod:$state", confirmed]);
    }
  });

  test("a state that is older than the set it led to changes nothing", async () => {
    const rig = new Rig();
    const older = rig.store.records.get("prod:$state\nstate");
    rig.publish(many(1), { chunkBytes: 2_000 });
    const snapshot = await rig.client.snapshot();
    rig.store.records.set("prod:$state\nstate", older);
    rig.store.taken();
    await rig.refresh();
    assert.equal(await rig.client.snapshot(), snapshot);
    assert.deepEqual(rig.store.taken(), [STATE, "read! prod:$state", "read! prod:$snapshot"]);
    assert.equal(rig.client.health(), "");
    assert.deepEqual(logged, []);
  });

  test("chunks of an earlier body are dropped", async () => {
    const rig = new Rig(many(1), { chunkBytes: 2_000 });
    const loader = new Loader("prod", rig.store, 1, () => {});
    rig.store.latencyS = 0.5;
    await assert.rejects(loader.load(rig.clock.monotonic() + 2), StoreUnavailableError);
    assert.equal(loader.chunksKept, 3);
    rig.publish(many(2), { chunkBytes: 2_000 });
    await assert.rejects(loader.load(rig.clock.monotonic() + 1), StoreUnavailableError);
    assert.equal(loader.chunksKept, 1);
    rig.store.latencyS = 0;
    await loader.load(rig.clock.monotonic() + 1);
    assert.equal(loader.chunksKept, 0);
  });

  test("counts of another form are damage", async () => {
    const rig = new Rig();
    for (const counts of ["[1,", "[1]", "null", "1"]) {
      rig.store.records.get("prod:$snapshot\n1").counts = counts;
      await assert.rejects(
        clientOf(rig.store, rig.clock).snapshot(),
        flagstore.CorruptSnapshotError,
      );
    }
  });
});

test("nothing inflates to more than a writer accepts", async () => {
  const bomb = deflateSync(Buffer.alloc(134_217_729, " "));
  const sha256 = (data) => createHash("sha256").update(data).digest("hex");
  const rig = new Rig();
  const record = rig.store.records.get("prod:$snapshot\n1");
  Object.assign(record, { index_data: bomb, index_digest: sha256(bomb) });
  await assert.rejects(rig.client.snapshot(), flagstore.CorruptSnapshotError);
  const digest = sha256(bomb).slice(0, 32);
  const entries = [["a", 0, bomb.length, digest]];
  const index = deflateSync(
    JSON.stringify({ meta: {}, sections: { flags: entries }, large: { big: ["", digest, 1, 1] } }),
  );
  Object.assign(record, { body: bomb, index_data: index, index_digest: sha256(index) });
  rig.store.records.set(`prod:$body\n000000000001/${digest.slice(0, 16)}/000`, { body: bomb });
  rig.clock.advance(10);
  const snapshot = await rig.client.snapshot();
  assert.throws(() => snapshot.text("flags", "a"), { code: "ERR_BUFFER_TOO_LARGE" });
  await assert.rejects(snapshot.segment("big"), { code: "ERR_BUFFER_TOO_LARGE" });
});

describe("large segments", () => {
  const big = many(1);

  function rigOf(options = {}) {
    return new Rig({ a: 1 }, { large: { big, other: ["x"] }, ...options });
  }

  test("are read when they are first needed, and kept", async () => {
    const rig = rigOf();
    const snapshot = await rig.client.snapshot();
    assert.deepEqual(rig.store.taken(), [HEAD]);
    assert.equal(snapshot.hasSegment("big"), false);
    assert.throws(() => snapshot.item("segments", "big"), /await segment\(key\)/);
    const found = await Promise.all([1, 2, 3].map(() => snapshot.segment("big")));
    assert.deepEqual(found[0], big);
    assert.equal(new Set(found).size, 1);
    assert.equal(snapshot.hasSegment("big"), true);
    assert.equal(snapshot.item("segments", "big"), found[0]);
    assert.equal(snapshot.text("segments", "big"), JSON.stringify(big));
    assert.equal(rig.store.taken().length, 1);
    assert.deepEqual(snapshot.keys("segments"), ["big", "other"]);
    assert.deepEqual(snapshot.items("segments"), []);
    rig.store.error = DOWN;
    assert.equal(await snapshot.segment("big"), found[0]);
    await assert.rejects(snapshot.segment("other"), StoreUnavailableError);
    assert.equal(await snapshot.segment("none"), undefined);
  });

  test("all are read before snapshot() resolves, if asked", async () => {
    const rig = rigOf();
    const snapshot = await rig.client.snapshot({ segments: true });
    assert.deepEqual(snapshot.item("segments", "big"), big);
    assert.equal(rig.store.taken().length, 3);
    await rig.client.snapshot({ segments: true });
    assert.equal(rig.store.taken().length, 0);
  });

  test("unchanged ones are shared by later sets", async () => {
    const rig = rigOf();
    const before = await (await rig.client.snapshot({ segments: true })).segment("big");
    const dropped = rig.client.current().large.get("other");
    rig.publish({ a: 2 }, { large: { big } });
    rig.store.taken();
    await rig.refresh();
    assert.equal(await rig.flag(), 2);
    assert.equal(await rig.client.current().segment("big"), before);
    assert.deepEqual(rig.store.taken(), [STATE, HEAD]);
    assert.equal(rig.client.current().memory.has(dropped.dataDigest), false);
  });

  test("a failure is followed by a pause", async () => {
    const rig = rigOf();
    const snapshot = await rig.client.snapshot();
    rig.store.latencyS = 100;
    const before = rig.clock.monotonic();
    for (let time = 0; time < 5; time += 1) {
      await assert.rejects(snapshot.segment("big"), StoreUnavailableError);
      await rig.client.snapshot({ segments: true }); // does not reject
    }
    near(rig.clock.monotonic() - before, REFRESH_S);
    assert.match(rig.client.info().error, /no response in time/);
    rig.store.latencyS = 0;
    rig.clock.advance(6);
    assert.deepEqual(await snapshot.segment("big"), big);
    assert.equal(rig.client.info().error, "");
  });

  test("a damaged one is read once per pause, and others are not affected", async () => {
    const rig = rigOf();
    const [place] = [...rig.store.records.keys()].filter((each) => each.includes("$body"));
    const good = rig.store.records.get(place);
    rig.store.records.set(place, { ...good, body: Buffer.from("damaged") });
    const snapshot = await rig.client.snapshot();
    for (let time = 0; time < 5; time += 1) {
      await assert.rejects(snapshot.segment("big"), flagstore.CorruptSnapshotError);
      assert.deepEqual(await snapshot.segment("other"), ["x"]);
    }
    assert.equal(rig.store.taken().length, 3);
    rig.store.records.set(place, good);
    rig.clock.advance(5);
    assert.deepEqual(await snapshot.segment("big"), big);
  });

  test("a damaged one is read again at once for another body", async () => {
    const rig = rigOf({ client: { ttlS: 0 } });
    const [place] = [...rig.store.records.keys()].filter((each) => each.includes("$body"));
    const good = rig.store.records.get(place);
    rig.store.records.set(place, { ...good, body: Buffer.from("damaged") });
    const first = await rig.client.snapshot();
    await assert.rejects(first.segment("big"), flagstore.CorruptSnapshotError);
    rig.publish({ a: 2 }, { large: { big } });
    assert.deepEqual(await (await rig.client.snapshot()).segment("big"), big);
  });

  test("cost the limit of a refresh each, and get through in the end", async () => {
    const rig = rigOf({ segmentBytes: 2_000 });
    const snapshot = await rig.client.snapshot();
    rig.store.latencyS = 0.15;
    let attempts = 0;
    for (let found; found === undefined; attempts += 1) {
      const before = rig.clock.monotonic();
      found = await snapshot.segment("big").catch(() => undefined);
      if (found === undefined) near(rig.clock.monotonic() - before, REFRESH_S);
      rig.clock.advance(5);
    }
    assert.ok(attempts > 3);
  });

  test("their limit doubles while data arrives", async () => {
    const rig = rigOf();
    const snapshot = await rig.client.snapshot();
    [rig.store.latencyS, rig.store.receiving] = [9, true];
    for (const limit of [0.24, 0.48, 0.96]) {
      const before = rig.clock.monotonic();
      await assert.rejects(snapshot.segment("big"), StoreUnavailableError);
      near(rig.clock.monotonic() - before, limit);
      rig.clock.advance(5);
    }
  });

  test("a wrong setting is no reason for a pause", async () => {
    const rig = rigOf();
    const snapshot = await rig.client.snapshot();
    rig.store.error = new ConfigurationError("no table");
    await assert.rejects(snapshot.segment("big"), ConfigurationError);
    rig.store.error = undefined;
    assert.deepEqual(await snapshot.segment("big"), big);
  });

  test("a refresh does not wait while one is read, and is not made up for", async () => {
    const rig = rigOf();
    const snapshot = await rig.client.snapshot();
    rig.store.taken();
    let arrive;
    rig.store.onCall = () => new Promise((resolve) => (arrive = resolve));
    const reading = snapshot.segment("big");
    rig.publish({ a: 2 });
    rig.clock.advance(EXPIRED_S);
    const alive = setTimeout(() => {}, 5_000); // as a connection would keep the process
    assert.equal(await rig.flag(), 1);
    clearTimeout(alive);
    rig.store.onCall = () => {};
    arrive();
    assert.deepEqual(await reading, big);
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(rig.store.taken().length, 1);
    assert.equal(rig.client.current(), snapshot);
    assert.equal(await rig.flag(), 2);
    assert.deepEqual(await snapshot.segment("other"), ["x"]);
    const { memory } = rig.client.current();
    assert.equal(memory.has(snapshot.large.get("other").dataDigest), false); // of an earlier set
  });

  test("an earlier one stands in for a changed one that cannot be read", async () => {
    const rig = rigOf();
    await rig.client.snapshot({ segments: true });
    rig.publish({ a: 2 }, { large: { big: ["new"], other: ["x"] } });
    const chunks = [...rig.store.records].filter(([place]) => /\$body.*\n0+2/.test(place));
    for (const [place] of chunks) rig.store.records.delete(place);
    rig.clock.advance(EXPIRED_S);
    const snapshot = await rig.client.snapshot();
    assert.equal(snapshot.item("flags", "a"), 2);
    assert.deepEqual(snapshot.item("segments", "big"), big);
    assert.deepEqual(await snapshot.segment("big"), big);
    assert.equal(snapshot.hasSegment("big"), true);
    assert.match(rig.client.info().error, /chunk 0 of 1 is missing/);
    for (const [place, record] of chunks) rig.store.records.set(place, record);
    await rig.refresh();
    assert.deepEqual(rig.client.current().item("segments", "big"), ["new"]);
    assert.deepEqual(snapshot.item("segments", "big"), big);
    assert.equal(rig.client.health(), "");
  });
});

describe("memory", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");

  function megabytes() {
    // V8 keeps what describes an object's shape, its keys included, for two more collections.
    for (let times = 0; times < 3; times += 1) collect();
    return process.memoryUsage().heapUsed / 1e6;
  }

  test("keys that come and go, or were never there, do not add up", async () => {
    let snapshot = (await Rig.loaded()).client.current();
    const before = megabytes();
    for (let number = 0; number < 3_000; number += 1) {
      const key = Buffer.alloc(10_000, `${number}-`).toString();
      snapshot = snapshot.changed({ flags: { [key]: "1" } }).changed({ flags: { [key]: undefined } });
      assert.equal(snapshot.item("flags", key), undefined);
    }
    assert.ok(megabytes() - before < 10);
    assert.deepEqual(snapshot.keys(), ["a"]);
  });

  test("inflated blocks are bounded", async () => {
    const sections = Array.from({ length: 129 }, (_, number) => `s${number}`);
    const rig = new Rig();
    const items = sections.map((name) => [name, { a: "x".repeat(1_000_000) }]);
    publish(rig.store.records, Object.fromEntries(items), { token: 2 });
    items.length = 0;
    const snapshot = await rig.client.snapshot();
    const before = megabytes();
    for (const name of sections) assert.equal(snapshot.text(name, "none"), undefined);
    assert.ok(megabytes() - before < 40);
    assert.deepEqual(snapshot.keys("s7"), ["a"]);
  });
});

describe("a flag set", () => {
  test("changed() gives another one, and leaves it as it was", async () => {
    const rig = await Rig.loaded({ a: 1, b: { x: 1 } });
    const first = rig.client.current();
    const b = first.item("flags", "b");
    const next = first.changed({ flags: { a: undefined, c: "3" }, more: { x: "{}" } });
    assert.deepEqual(next.keys(), ["b", "c"]);
    assert.equal(next.item("flags", "b"), b);
    assert.deepEqual(next.items(), [{ x: 1 }, 3]);
    assert.equal(next.items()[0], b);
    assert.deepEqual(first.items("flags"), [1, { x: 1 }]);
    assert.deepEqual(next.counts, { flags: 2, more: 1 });
    assert.deepEqual(next.item("more", "x"), {});
    assert.deepEqual(first.keys(), ["a", "b"]);
    assert.deepEqual(first.counts, { flags: 2 });
    assert.deepEqual(next.changed({ flags: { c: undefined } }).keys(), ["b"]);
  });

  test("what is no string is no key", async () => {
    const snapshot = (await Rig.loaded()).client.current();
    for (const key of [undefined, null, 1, {}]) {
      assert.equal(snapshot.item("flags", key), undefined);
      assert.equal(snapshot.text("flags", key), undefined);
    }
  });

  test("names of Object.prototype are no items", async () => {
    const rig = await Rig.loaded();
    for (const name of ["constructor", "__proto__", "toString"]) {
      assert.equal(rig.client.current().item("flags", name), undefined);
      assert.equal(rig.client.current().text(name, name), undefined);
      assert.deepEqual(rig.client.current().keys(name), []);
      assert.deepEqual(rig.client.current().items(name), []);
    }
  });
});

describe("turns", () => {
  test("follow each other, and are given up in time", async () => {
    const [turns, done] = [new Turns(), []];
    const work = (name, ms) => async () => {
      await sleep(ms);
      done.push(name);
      return name;
    };
    const first = turns.take(work("first", 60), 1);
    const second = turns.take(work("second", 0), 0.01);
    const third = turns.take(work("third", 0), 1);
    assert.equal(await second, undefined);
    assert.deepEqual(done, []);
    assert.deepEqual(await Promise.all([first, third]), ["first", "third"]);
    assert.deepEqual(done, ["first", "third"]);
  });

  test("go on after a failure", async () => {
    const turns = new Turns();
    const failing = async () => {
      throw new Error("odd");
    };
    await assert.rejects(turns.take(failing, 1), /odd/);
    assert.equal(await turns.take(async () => 1, 1), 1);
  });
});
