"use strict";

/** Counting evaluations: in which lines, when they are printed, and what is bounded. */

const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const { join } = require("node:path");
const { afterEach, describe, test } = require("node:test");

const { ConfigurationError, client } = require("../../src/node/index.js");
const { UsageCounter } = require("../../src/node/lib/usage.js");
const { usageEvents, usageHook } = require("../../src/node/adapters/launchdarkly.js");
const { usageListener } = require("../../src/node/adapters/split.js");
const { withUsage } = require("../../src/node/adapters/unleash.js");
const { FakeClock, RecordsStore, clientOf } = require("./support/store.js");

const LIB = join(__dirname, "../../src/node/lib/usage.js");
const VARIABLES = /^(AWS_|FLAGSTORE_)/;

afterEach(() => {
  for (const name of Object.keys(process.env)) if (VARIABLES.test(name)) delete process.env[name];
});

/** A counter of one source, and the lines that it has printed. */
class Rig {
  clock = new FakeClock();
  printed = [];
  snapshot = { provider: "launchdarkly", token: 7, text: (_, key) => this.flags[key] };
  flags = {};

  constructor(...keys) {
    for (const key of keys) this.flags[key] = "{}";
    this.counter = new UsageCounter("prod", {
      current: () => this.snapshot,
      clock: this.clock.wall,
      write: (line) => this.printed.push(line),
    });
  }

  count(key, result = [0, 1], options = {}) {
    this.counter.count("launchdarkly", key, result, options);
  }

  /** Return the lines since the last time. */
  lines() {
    const lines = this.printed.splice(0);
    for (const line of lines) {
      assert.match(line, /^[ -~]+$/);
      assert.ok(line.length < 4_000);
    }
    return lines.map((line) => JSON.parse(line));
  }

  /** Print what is left; return the counts of the only line. */
  counts() {
    this.counter.flush();
    const [line, ...more] = this.lines();
    assert.deepEqual(more, []);
    return line?.f;
  }
}

describe("a line", () => {
  test("names source, version, application and times, and has an id of its own", () => {
    process.env.AWS_LAMBDA_FUNCTION_NAME = "checkout-api";
    const rig = new Rig("a");
    const began = rig.clock.wall();
    rig.count("a", [0, 1], { kinds: ["user"] });
    rig.clock.advance(20.5);
    rig.count("a", [0, 1], { kinds: ["org", "x".repeat(65)] });
    rig.count("a", [undefined, 2]);
    rig.counter.flush();
    rig.counter.flush();
    const [{ id, ...line }, ...more] = rig.lines();
    assert.match(id, /^[\w-]{11}$/);
    assert.deepEqual(more, []);
    const head = { "flagstore.usage": 1, s: "prod", p: "launchdarkly", v: 7, n: "checkout-api" };
    const flags = { a: [[2, 0, 1], [1, null, 2]] };
    const times = { a: began, b: began + 20 };
    assert.deepEqual(line, { ...head, ...times, k: ["org", "user"], f: flags });
    rig.count("a", [0, 1], { kinds: ["user"] });
    rig.counter.flush();
    assert.equal("k" in rig.lines()[0], false);
    rig.clock.advance(10);
    rig.count("a");
    rig.counter.flush();
    assert.equal(rig.lines()[0].a, began + 30); // not when the counts began that are printed
  });

  test("has the application's name, cut between characters", () => {
    process.env.FLAGSTORE_APP_NAME = "🙂".repeat(70);
    const rig = new Rig("a");
    rig.count("a");
    rig.counter.flush();
    assert.equal(rig.lines()[0].n, "🙂".repeat(64));
  });

  test("has the level that Lambda requires in its JSON format", () => {
    const rig = new Rig("a");
    for (const [format, level, expected] of [["JSON", "ERROR", "ERROR"], ["JSON", "INFO"], ["Text", "WARN"]]) {
      process.env.AWS_LAMBDA_LOG_FORMAT = format;
      process.env.AWS_LAMBDA_LOG_LEVEL = level;
      rig.count("a");
      rig.counter.flush();
      assert.equal(rig.lines()[0].level, expected);
    }
  });

  test("takes at most 4,000 bytes, whatever the keys; 400 results wait; none is lost", () => {
    const keys = Array.from({ length: 500 }, (_, n) => `flag-${n}-${"é🙂\u2028".repeat(n % 9)}`);
    const rig = new Rig(...keys);
    for (const key of keys) rig.count(key);
    const first = rig.lines();
    assert.equal(first.flatMap(({ f }) => Object.keys(f)).length, 400);
    rig.counter.flush();
    const lines = [...first, ...rig.lines()];
    assert.deepEqual(lines.flatMap(({ f }) => Object.keys(f)), keys);
    assert.equal(new Set(lines.map(({ id }) => id)).size, lines.length);
    assert.ok(lines.length > 10);
  });

  test("has no flag that alone is too long", () => {
    const rig = new Rig("a", "x".repeat(4_000));
    rig.count("x".repeat(4_000));
    rig.count("a");
    assert.deepEqual(rig.counts(), { a: [[1, 0, 1]] });
  });
});

describe("counts", () => {
  test("are printed once a minute of activity, by the next evaluation", () => {
    const rig = new Rig("a");
    for (let call = 0; call < 3; call += 1) {
      rig.count("a");
      rig.clock.advance(25);
    }
    assert.deepEqual(rig.lines(), []);
    rig.count("a");
    assert.deepEqual(rig.lines()[0].f, { a: [[3, 0, 1]] });
    rig.clock.advance(-3_600);
    rig.count("a");
    assert.deepEqual(rig.lines()[0].f, { a: [[1, 0, 1]] });
    assert.deepEqual(rig.counts(), { a: [[1, 0, 1]] });
  });

  test("of one provider are not in a line of another's", () => {
    const rig = new Rig("a");
    rig.count("a");
    rig.snapshot = { ...rig.snapshot, provider: "split", token: 8 };
    rig.count("a");
    rig.counter.count("split", "a", ["on", 5]);
    rig.counter.flush();
    const lines = rig.lines().map(({ p, v, f }) => [p, v, f]);
    assert.deepEqual(lines, [
      ["launchdarkly", 7, { a: [[1, 0, 1]] }],
      ["split", 8, { a: [[1, "on", 5]] }],
    ]);
  });

  test("need flags in memory, and a key", () => {
    const rig = new Rig("a");
    for (const key of [undefined, null, 7, ["a"]]) rig.count(key);
    rig.snapshot = undefined;
    rig.count("a");
    assert.equal(rig.counts(), undefined);
  });

  test("of unknown flags are bounded: their keys may be a user's input", () => {
    const rig = new Rig("a");
    for (let n = 0; n < 60; n += 1) rig.count(`unknown-${n}`, [null, null]);
    rig.count("x".repeat(129), [null, null]);
    rig.count("unknown-1", [null, null]);
    rig.count("a");
    const found = rig.counts();
    assert.equal(Object.keys(found).length, 52);
    assert.deepEqual(found["*"], [[11, null, null]]);
    assert.deepEqual(found["unknown-1"], [[2, null, null]]);
  });

  test("of any key survive, as names of Object.prototype", () => {
    const rig = new Rig();
    for (const key of ["__proto__", "constructor", "\ud800"]) rig.count(key, [0, 1], { known: true });
    rig.counter.flush();
    const [line] = rig.printed;
    assert.match(line, /"f":{"__proto__":\[\[1,0,1\]\],"constructor":\[\[1,0,1\]\],"\\ud800":/);
  });
});

describe("what adapters count", () => {
  const clientWith = (rig) => ({ usage: rig.counter, current: () => rig.snapshot });

  test("LaunchDarkly's hook: by its error, without what is no evaluation", () => {
    const rig = new Rig("a");
    rig.snapshot.item = () => ({ version: 3 });
    const hook = usageHook(clientWith(rig));
    const after = (reason, context, variationIndex = null) =>
      hook.afterEvaluation({ flagKey: "a", context }, {}, { variationIndex, reason });
    after({ kind: "OFF" }, { key: "ada" }, 1);
    after({ kind: "ERROR", errorKind: "MALFORMED_FLAG" }, { kind: "multi", user: {}, org: {} });
    after({ kind: "ERROR", errorKind: "FLAG_NOT_FOUND" }, { kind: "device", key: "x" });
    for (const errorKind of ["CLIENT_NOT_READY", "USER_NOT_SPECIFIED"]) {
      after({ kind: "ERROR", errorKind }, undefined);
    }
    rig.counter.flush();
    const [{ f, k }] = rig.lines();
    assert.deepEqual(f, { a: [[1, 1, 3], [1, null, 3], [1, null, null]] });
    assert.deepEqual(k, ["device", "org", "user"]);
  });

  test("LaunchDarkly's events: evaluations of a context that has a key", () => {
    const rig = new Rig("a");
    const events = usageEvents(clientWith(rig));
    for (const user of [{ key: "ada" }, {}, undefined]) {
      events.sendEvent({ kind: "feature", key: "a", variation: 0, version: 3, user });
    }
    events.sendEvent({ kind: "identify", key: "a", user: { key: "ada" } });
    events.sendEvent({ kind: "feature", key: "a", version: "odd", context: { kind: "x", key: "y" } });
    assert.deepEqual(rig.counts(), { a: [[1, 0, 3], [1, null, null]] });
    let called;
    events.flush((...given) => (called = given));
    assert.deepEqual(called, [null]);
    events.close();
  });

  test("Split's listener: treatments but control", () => {
    const rig = new Rig("a");
    rig.snapshot.provider = "split";
    const listener = usageListener(clientWith(rig));
    for (const treatment of ["on", "control", "on"]) {
      listener.logImpression({ impression: { feature: "a", treatment, changeNumber: 5 } });
    }
    assert.deepEqual(rig.counts(), { a: [[2, "on", 5]] });
  });

  test("Unleash's SDK: variants where they are asked for; all else is as without", () => {
    const rig = new Rig("a");
    rig.snapshot.provider = "unleash";
    class Sdk {
      isEnabled = (name) => name === "a";
      getVariant = () => ({ name: "blue", feature_enabled: true });
      other() {
        return this === wrapped;
      }
    }
    const sdk = new Sdk();
    const wrapped = withUsage(sdk, clientWith(rig));
    assert.equal(wrapped.isEnabled("a"), true);
    assert.equal(wrapped.isEnabled("b"), false);
    assert.equal(wrapped.getVariant("a").name, "blue");
    assert.equal(wrapped.other(), true);
    assert.deepEqual(rig.counts(), { a: [[1, 1], [1, 1, "blue"]], b: [[1, 0]] });
    assert.equal(withUsage(sdk, {}), sdk);
  });
});

describe("the option", () => {
  const clock = new FakeClock();
  const made = (options) => clientOf(new RecordsStore(clock), clock, options);

  test("is off by default; handlers then stay as they are", () => {
    const plain = made();
    assert.equal(plain.usage, undefined);
    assert.equal(plain.reporting(made), made);
    plain.flush();
    assert.equal(client("").reporting(made), made);
  });

  test("may come from the environment; events are refused with a reason", () => {
    process.env.FLAGSTORE_USAGE = "counts";
    assert.ok(made().usage instanceof UsageCounter);
    assert.equal(made({ usage: "" }).usage, undefined);
    process.env.FLAGSTORE_USAGE = "events";
    const refused = { name: "ConfigurationError", message: /must be counts.*events are for Python/ };
    assert.throws(() => made(), refused);
    assert.throws(() => made({ usage: "all" }), ConfigurationError);
  });
});

describe("a process", () => {
  /** Run code with a counter whose lines go to stdout; return how it ended. */
  function run(code) {
    const script = `
      const { UsageCounter, reporting } = require(${JSON.stringify(LIB)});
      const current = () => ({ provider: "split", token: 1, text: () => "{}" });
      let now = 1000;
      const usage = new UsageCounter("prod", { current, clock: () => now });
      const count = () => usage.count("split", "a", ["on", 5]);
      ${code}`;
    const env = { PATH: process.env.PATH };
    const done = spawnSync(process.execPath, ["-e", script], { encoding: "utf8", env });
    const lines = done.stdout.split("\n").filter((line) => line.includes("flagstore.usage"));
    return { ...done, counts: lines.map((line) => JSON.parse(line).f.a[0][0]) };
  }

  test("prints its counts when it ends or exits", () => {
    for (const end of ["", "process.exit(0);", "setTimeout(() => process.exit(0), 10);"]) {
      const { counts, status, stderr } = run(`count(); count(); ${end}`);
      assert.deepEqual([counts, status, stderr], [[2], 0, ""]);
    }
  });

  test("prints them at SIGTERM, and ends as without them; handlers of others decide", () => {
    const stop = "count(); setTimeout(() => {}, 9_000); process.kill(process.pid, 'SIGTERM');";
    const { counts, signal } = run(stop);
    assert.deepEqual([counts, signal], [[1], "SIGTERM"]);
    const other = run(`process.on("SIGTERM", () => process.exit(3)); ${stop}`);
    assert.deepEqual([other.counts, other.status], [[1], 3]);
  });

  test("with a handler that is reporting prints after three calls, then once a minute", () => {
    const { counts, status, stderr } = run(`
      process.removeAllListeners("exit");
      const calls = { async ok() { count(); return 1; }, async fails() { count(); throw new Error("x"); },
        late: async () => setTimeout(count), sync: () => { count(); return 1; } };
      (async () => {
        for (const name of ["ok", "fails", "late"]) await reporting(calls[name])().catch(() => {});
        console.log("then");
        for (let n = 0; n < 3; n += 1) reporting(calls.sync)();
        now += 61;
        await reporting(calls.ok)();
        reporting(Object.assign(() => {}, { mark: 1 })).mark === 1 || process.exit(4);
      })();`);
    // The last call's evaluation is of the next minute.
    assert.deepEqual([counts, status, stderr], [[1, 1, 1, 3], 0, ""]);
  });

  test("goes on without stdout", () => {
    const { status, stderr } = run("require('fs').closeSync(1); count(); usage.flush(); count();");
    assert.deepEqual([status, stderr], [0, ""]);
  });
});
