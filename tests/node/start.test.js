"use strict";

/** client(): one per name, its settings, and loading during INIT of a Lambda function. */

const assert = require("node:assert/strict");
const { execFileSync } = require("node:child_process");
const { join } = require("node:path");
const { afterEach, beforeEach, describe, test } = require("node:test");

const { publish } = require("./support/publish.js");
const { FakeClock, RecordsStore } = require("./support/store.js");

const SOURCES = join(__dirname, "../../src/node");
const HEAD = "read prod:$snapshot";
const VARIABLES = /^(AWS_|FLAGSTORE_)/;

let flagstore;
let logged = [];
console.warn = (text) => logged.push(text);

beforeEach(() => {
  logged = [];
  // A process that has no clients yet.
  for (const path of Object.keys(require.cache)) {
    if (path.startsWith(SOURCES)) delete require.cache[path];
  }
  flagstore = require("../../src/node/index.js");
});

afterEach(() => {
  for (const name of Object.keys(process.env)) if (VARIABLES.test(name)) delete process.env[name];
});

function storeOf(options = {}) {
  const clock = new FakeClock();
  const store = new RecordsStore(clock);
  publish(store.records, { flags: { a: 1 } }, { token: 1, ...options });
  const clocks = { clock: clock.wall, monotonic: clock.monotonic };
  return { clock, store, options: { store, replicas: 1, ...clocks } };
}

describe("client()", () => {
  test("returns the same client for the same name", () => {
    const first = flagstore.client("one");
    assert.equal(flagstore.client("one"), first);
    assert.notEqual(flagstore.client("two"), first);
    process.env.FLAGSTORE_SOURCE = "one";
    assert.equal(flagstore.client(), first);
    assert.equal(first.source, "one");
  });

  test("refuses other options for the same name", () => {
    const { options } = storeOf();
    const made = flagstore.client("one", options);
    assert.equal(flagstore.client("one", { ...options }), made);
    assert.equal(flagstore.client("one"), made);
    assert.throws(() => flagstore.client("one", { ttlS: 1 }), /exists with other options/);
  });

  test("without a name, the first use says so", async () => {
    for (const nameless of [flagstore.client(), flagstore.client("")]) {
      const message = /name a source: client\("prod"\), or set FLAGSTORE_SOURCE/;
      await assert.rejects(nameless.snapshot(), message);
      await nameless.loaded();
      for (const name of ["current", "info", "health"]) {
        assert.throws(() => nameless[name](), flagstore.ConfigurationError);
      }
      nameless.close();
    }
  });

  test("refuses invalid names and options", () => {
    for (const name of ["Prod", "-", "a".repeat(49), "a b", 7]) {
      assert.throws(() => flagstore.client(name), /is not a valid source name/);
    }
    const wrong = { ttlS: "30", maxAgeS: -1, replicas: 0, ttl_s: 30 };
    for (const [option, value] of Object.entries(wrong)) {
      const pattern = new RegExp(`^${option} (must be a|is not an option)`);
      assert.throws(() => new flagstore.Client("prod", { [option]: value }), {
        name: "ConfigurationError",
        message: pattern,
      });
    }
    for (const value of [NaN, true]) {
      assert.throws(() => new flagstore.Client("prod", { ttlS: value }), /^.*ttlS must be/);
    }
    for (const text of ["0", "two", "1.5", "²"]) {
      process.env.FLAGSTORE_SNAPSHOT_REPLICAS = text;
      assert.throws(() => new flagstore.Client("prod"), /SNAPSHOT_REPLICAS must be a whole number/);
    }
  });

  test("the first use names settings that are missing or not supported", async () => {
    const keys = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" };
    const good = { FLAGSTORE_TABLE: "t", AWS_REGION: "eu-west-1", ...keys };
    const cases = [
      [{ FLAGSTORE_TABLE: "" }, /set FLAGSTORE_TABLE/],
      [{ AWS_REGION: "" }, /set AWS_REGION/],
      [{ AWS_SECRET_ACCESS_KEY: "" }, /set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY/],
      [{ FLAGSTORE_REDIS_URL: "redis://x" }, /FLAGSTORE_REDIS_URL is set, .* DynamoDB only/],
      [{ FLAGSTORE_FILE: "flags.json" }, /FLAGSTORE_FILE is set, .* DynamoDB only/],
      [{ AWS_ENDPOINT_URL: "http://user:secret@x" }, /^AWS_ENDPOINT_URL must be https:(?!.*secret)/],
    ];
    for (const [change, message] of cases) {
      Object.assign(process.env, good, change);
      const client = new flagstore.Client("prod");
      for (let time = 0; time < 2; time += 1) {
        await assert.rejects(client.snapshot(), { name: "ConfigurationError", message });
      }
      for (const name of Object.keys(change)) delete process.env[name];
    }
  });

  test("overrides, which have no effect here, are logged", async () => {
    process.env.FLAGSTORE_OVERRIDES = '{"f": false}';
    await assert.rejects(new flagstore.Client("prod").snapshot());
    assert.deepEqual(logged, ["flagstore: FLAGSTORE_OVERRIDES is set, but has no effect in Node.js"]);
  });
});

describe("INIT", () => {
  beforeEach(() => {
    process.env.AWS_LAMBDA_FUNCTION_NAME = "checkout";
  });

  test("loads flags and large segments, so that a handler reads nothing", async () => {
    const { store, options } = storeOf({ large: { big: ["x"] } });
    const client = flagstore.client("prod", options);
    await client.loaded();
    assert.equal(store.taken().length, 2);
    assert.deepEqual(client.current().item("segments", "big"), ["x"]);
    await flagstore.client("prod").snapshot({ segments: true });
    assert.deepEqual(store.taken(), []);
  });

  test("a handler that comes before the end waits for the same read", async () => {
    const { store, options } = storeOf();
    const client = flagstore.client("prod", options);
    assert.equal((await client.snapshot()).item("flags", "a"), 1);
    assert.deepEqual(store.taken(), [HEAD]);
  });

  test("a handler that comes before the end does not wait for large segments", async () => {
    const { store, options } = storeOf({ large: { big: ["x"] } });
    const waiting = new Promise((resolve) => {
      store.onCall = (call) => (call.startsWith("chunk") ? new Promise(() => resolve(call)) : 0);
    });
    const client = flagstore.client("prod", options);
    assert.equal((await client.snapshot()).item("flags", "a"), 1);
    assert.match(await waiting, /^chunk/);
  });

  test("elsewhere the first use loads", async () => {
    delete process.env.AWS_LAMBDA_FUNCTION_NAME;
    const { store, options } = storeOf();
    const client = flagstore.client("prod", options);
    await client.loaded();
    assert.deepEqual(store.taken(), []);
    await client.snapshot();
    assert.deepEqual(store.taken(), [HEAD]);
  });

  test("preloading can be turned off; the first read is prepared", async () => {
    const { store, options } = storeOf();
    flagstore.client("prod", { ...options, preload: false });
    process.env.FLAGSTORE_PRELOAD = "False";
    flagstore.client("other", options);
    await flagstore.client("other").loaded();
    assert.deepEqual(store.taken(), ["prepare", "prepare"]);
    process.env.FLAGSTORE_PRELOAD = "maybe";
    assert.throws(() => flagstore.client("third", options), /must be true or false/);
  });

  test("a failure is logged once, and the first use tries again at once", async () => {
    for (const [name, error] of [["one", new TypeError("odd")], ["two", "configuration"]]) {
      logged = [];
      const { store, options } = storeOf();
      for (const kind of ["$state\nstate", "$snapshot\n1"]) {
        store.records.set(`${name}:${kind}`, store.records.get(`prod:${kind}`));
      }
      const { ConfigurationError } = flagstore;
      store.error = error === "configuration" ? new ConfigurationError("set X") : error;
      const client = flagstore.client(name, options);
      await client.loaded();
      assert.equal(client.health(), "NOT_LOADED");
      assert.equal(logged.length, 1);
      assert.match(logged[0], /could not be loaded at the start.*(odd|set X)/);
      store.error = undefined;
      assert.equal((await client.snapshot()).item("flags", "a"), 1);
      assert.equal(logged.length, 1);
    }
  });

  test("a store may fail in whatever way", async () => {
    const { store, options } = storeOf();
    store.read = () => Promise.reject(undefined);
    await flagstore.client("prod", options).loaded();
    assert.match(logged[0], /could not be loaded at the start.*undefined/);
  });

  test("a set with a damaged large segment is used without it", async () => {
    const { store, options } = storeOf({ large: { big: ["x"], other: ["y"] } });
    const [place] = [...store.records.keys()].filter((each) => each.includes("$body"));
    const record = store.records.get(place);
    store.records.set(place, { ...record, body: Buffer.from("damaged") });
    const client = flagstore.client("prod", options);
    await client.loaded();
    assert.equal(client.health(), "");
    assert.equal(client.current().item("flags", "a"), 1);
    const found = ["big", "other"].map((key) => client.current().hasSegment(key));
    assert.deepEqual(found, [false, true]);
    assert.match(logged[0], /large segment does not match its digest/);
    store.records.set(place, record);
    assert.deepEqual(await client.current().segment("big"), ["x"]); // with no pause
  });

  test("clients share one deadline", async () => {
    const { clock, store, options } = storeOf();
    store.latencyS = 60;
    const before = clock.monotonic();
    for (const name of ["one", "two", "three"]) await flagstore.client(name, options).loaded();
    assert.equal(clock.monotonic() - before, 2);
    assert.deepEqual(store.taken(), ["read one:$snapshot", "prepare", "prepare"]);
  });
});

describe("the package", () => {
  function evaluated(code, flags = []) {
    const environ = { PATH: process.env.PATH };
    return execFileSync(process.execPath, [...flags, "-e", code], {
      encoding: "utf8",
      env: environ,
    });
  }

  test("import and require give the same module", () => {
    const code = `
      import * as imported from ${JSON.stringify(join(SOURCES, "index.mjs"))};
      import { createRequire } from "node:module";
      const required = createRequire("file:///")(${JSON.stringify(join(SOURCES, "index.js"))});
      const same = Object.keys(required).filter((name) => imported[name] === required[name]);
      console.log(same.length === Object.keys(required).length, Object.keys(imported).length);`;
    const printed = evaluated(code, ["--input-type=module"]);
    assert.equal(printed.trim(), `true ${Object.keys(flagstore).length}`);
  });

  test("loads only what Node.js brings, and no HTTP client", () => {
    const code = `
      const flagstore = require(${JSON.stringify(SOURCES)});
      flagstore.client("prod", { table: "t", region: "eu-west-1" }).snapshot().catch(() => {
        const paths = Object.keys(require.cache).filter((path) => !path.startsWith(${JSON.stringify(
          SOURCES,
        )}));
        console.log(paths.join(), process.moduleLoadList.filter((name) => /_http_client|fetch/.test(name)).join());
      });`;
    assert.equal(evaluated(code).trim(), "");
  });
});
