"use strict";

/** What tests/differential/test_appconfig_node.py, which compares with Python, does not. */

const assert = require("node:assert/strict");
const { test } = require("node:test");

const { AppConfigEngine } = require("../../src/node/appconfig/engine.js");
const { portableMatchers } = require("../../src/node/appconfig/patterns.js");
const { compileRule } = require("../../src/node/appconfig/rules.js");
const { flagsOf, snapshotOf } = require("./support/appconfig.js");

const PER_PERCENT = 1_000_000;
const WORST_MS = 100;

/** Flag, seed, value and bucket: of docs/evaluate.md, and computed by sha256sum. */
const BUCKETS = [
  ["new-checkout", "abc", "ada", 37307840],
  ["another-flag", "abc", "ada", 37307840],
  ["any", "grüezi", "Zoë 👋", 48800125],
  ["abc", undefined, "ada", 87425516],
  ["new-checkout", undefined, 42, 42174975],
  ["new-checkout", undefined, 42n, 42174975],
  ["new-checkout", "", "ada", 47036543],
  ["new-checkout", "a:1:b", "c", 57248698],
  ["new-checkout", undefined, -7, 67686842],
  ["new-checkout", undefined, -0, 89275025],
  ["new-checkout", undefined, Number.MAX_SAFE_INTEGER, 96733776],
  ["new-checkout", undefined, true, 64267836],
  ["new-checkout", undefined, false, 8970485],
];

function engineOf(flags, meta = {}) {
  return new AppConfigEngine(snapshotOf(meta, { flags: flagsOf(flags) }));
}

function variants(rule) {
  const chosen = { name: "Chosen", enabled: true, rule, attributeValues: { limit: 1 } };
  return { _variants: [chosen, { name: "Default", enabled: false }] };
}

function evaluated(flag, context, key = "f", meta = {}) {
  const engine = engineOf({ [key]: flag }, meta);
  return engine.evaluate(key, engine.context(context));
}

for (const [key, seed, value, bucket] of BUCKETS) {
  test(`the hash of ${key}, ${seed} and ${value} is as documented`, () => {
    for (const [limit, variant] of [
      [bucket, "Default"],
      [bucket + 1, "Chosen"],
    ]) {
      const pct = (limit / PER_PERCENT).toFixed(6);
      const suffix = seed === undefined ? "" : ` seed::"${seed}"`;
      const flag = variants(`(split pct::${pct} by::$v${suffix})`);
      const found = evaluated(flag, { v: value }, key, { split_hash: "flagstore" });
      assert.equal(found.variant, variant);
      assert.equal(found.rule, "split (flagstore's hash)");
      assert.equal(evaluated(flag, { v: value }, key).error, "UNSUPPORTED");
      const other = evaluated(flag, { v: value }, key, { split_hash: "another" });
      assert.equal(other.error, "UNSUPPORTED");
    }
  });
}

test("a percentage is rounded to six decimals", () => {
  const context = new Map([["v", "ada"]]);
  const rule = (pct) => compileRule(`(split pct::${pct} by::$v seed::"abc")`, "f")(context);
  assert.deepEqual(["37.3078407", "37.3078404", "373.078404e-1"].map(rule), [true, false, false]);
});

test("numbers of JavaScript are whole numbers of Python, where they are", () => {
  const verdict = (rule, value) => evaluated(variants(rule), { n: value }).variant;
  assert.equal(verdict("(lt $n 9223372036854775807)", 1), "Chosen");
  assert.equal(verdict("(eq $n 65.0)", 65), "Chosen");
  assert.equal(verdict("(eq $n 9223372036854775807)", 2n ** 63n - 1n), "Chosen");
  assert.equal(verdict("(eq $n 9223372036854775807)", 2 ** 63), null);
});

test("a context is an object or a Map, and its empty values are missing", () => {
  const flag = variants('(exists key::"country")');
  for (const value of [null, undefined]) {
    assert.equal(evaluated(flag, { country: value }).variant, "Default");
  }
  assert.equal(evaluated(flag, new Map([["country", ""]])).variant, "Chosen");
  assert.equal(evaluated(flag, Object.create({ country: "CH" })).variant, "Default");
  for (const given of [undefined, null, 7, "a", []]) {
    assert.throws(() => engineOf({}).context(given), TypeError);
  }
});

test("a value is JSON as it is stored", () => {
  const json =
    '{"enabled":true,"big":12345678901234567890,"one":1.0,"b-c":{"__proto__":[1e22,"}"]},"_a":1}';
  const found = evaluated(json, {});
  assert.equal(found.json, '{"big":12345678901234567890,"one":1.0,"b-c":{"__proto__":[1e22,"}"]}}');
  assert.equal(evaluated("5.0", {}, "f", { format: "freeform" }).json, "5.0");
});

test("an unexpected error is a result, and its text is not logged", () => {
  const warnings = [];
  const items = {
    meta: {},
    text: () => {
      throw new RangeError("ada@example.org");
    },
  };
  const engine = new AppConfigEngine(items, (message) => warnings.push(message));
  assert.equal(engine.evaluate("f", engine.context({})).error, "EXCEPTION");
  assert.deepEqual(warnings, ['flagstore: flag "f" was not evaluated: RangeError']);
});

for (const [pattern, pumped, length] of [
  ["^[^@]+@[^@]+\\.[^@]+$", "a.", 30_000],
  ["^.+@.+\\..+$", "a@", 30_000],
  ["[a-z]+[0-9]+x", "a1", 3_000],
  ["^.*a.*b.*c", "ab", 50],
  ["\\d+\\d+\\d+$", "1", 300],
  ["foo.*bar.*baz", "foobar", 300],
  ["^(\\d{1,3}\\.){3}\\d{1,3}$", "1.", 30_000],
]) {
  test(`no text of ${length} characters is slow for ${pattern}`, () => {
    const text = pumped.repeat(length).slice(0, length - 1) + "~";
    for (const matches of portableMatchers(pattern)) {
      const times = [1, 2, 3].map(() => {
        const start = performance.now();
        try {
          assert.equal(matches(text), false);
        } catch (error) {
          assert.match(error.message, /too long/);
        }
        return performance.now() - start;
      });
      assert.ok(Math.min(...times) < WORST_MS, `${times} ms`); // a busy machine may be late once
    }
  });
}
