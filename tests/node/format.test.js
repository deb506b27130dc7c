"use strict";

/** What Python's reader, its writer and AWS' own signer say of the same: see test_reader.py. */

const assert = require("node:assert/strict");
const { readFileSync } = require("node:fs");
const { test } = require("node:test");

const json = require("../../src/node/lib/canonical.js");
const { contentDigest } = require("../../src/node/lib/deltas.js");
const { addressOf, endpointOf } = require("../../src/node/lib/endpoint.js");
const { sign, timestampOf } = require("../../src/node/lib/sigv4.js");

const cases = JSON.parse(readFileSync(process.env.FLAGSTORE_CASES, "utf8"));

test("signatures equal botocore's", () => {
  for (const { credentials, request, body, signed } of cases.signatures) {
    const found = sign(credentials, { ...request, body: Buffer.from(body, "base64") });
    assert.deepEqual(found, signed);
  }
  assert.equal(timestampOf(new Date(Date.UTC(2020, 0, 2, 3, 4, 5, 678))), "20200102T030405Z");
});

test("endpoints of all regions equal botocore's", () => {
  assert.ok(cases.endpoints.length > 4 * 46);
  for (const { environ, region, url } of cases.endpoints) {
    assert.equal(endpointOf(environ, region), url);
  }
});

test("endpoints follow the option, then the variables of AWS", () => {
  const environ = { AWS_ENDPOINT_URL: "http://a", AWS_ENDPOINT_URL_DYNAMODB: "http://b" };
  assert.equal(endpointOf(environ, "x", "HTTPS://c:8000/"), "https://c:8000");
  assert.equal(endpointOf(environ, "x"), "http://b");
  assert.equal(endpointOf({ AWS_ENDPOINT_URL: "http://[::1]:8000/" }, "x"), "http://[::1]:8000");
  const wrong = ["localhost:8000", "https://", "https://a/b", "https://u:p@a", "http://a:99999"];
  for (const url of [...wrong, "http://a:0", "ftp://a", "http://a b"]) {
    assert.throws(() => endpointOf({ AWS_ENDPOINT_URL: url }, "x"), /^.*AWS_ENDPOINT_URL must be/);
  }
});

test("addresses have a port, or the default", () => {
  assert.deepEqual(addressOf("name", 443), { name: "name", port: 443 });
  assert.deepEqual(addressOf("name:8000", 443), { name: "name", port: 8000 });
  assert.deepEqual(addressOf("[::1]", 80), { name: "::1", port: 80 });
  assert.deepEqual(addressOf("[fd00:ec2::23]:8000", 80), { name: "fd00:ec2::23", port: 8000 });
});

test("JSON is canonical as Python writes it", () => {
  for (const { stored, canonical, digest } of cases.items) {
    assert.equal(json.canonical(stored), canonical);
    assert.equal(contentDigest(new Map([["flags", new Map([["é", stored]])]])), digest);
  }
});

test("strings are written and ordered as in Python", () => {
  for (const { text, ascii } of cases.strings) assert.equal(json.asciiJson(text), ascii);
  const sorted = cases.strings.map(({ text }) => text);
  const found = [...sorted].reverse().sort(json.compareCodePoints);
  assert.deepEqual(found, sorted);
});

test("digests of changes equal those of the whole", () => {
  for (const { before, replaced, added, after } of cases.changes) {
    const sections = (items) => new Map([["flags", new Map(Object.entries(items))]]);
    const found = contentDigest(sections(added), { digest: before, replaced: sections(replaced) });
    assert.equal(found, after);
  }
});

test("members and elements are verbatim", () => {
  const text = '{"a":{"b":[1.0,{"c":"}"}]},"\\u00e9\\"":-0.0,"x":[]}';
  const expected = [["a", '{"b":[1.0,{"c":"}"}]}'], ['é"', "-0.0"], ["x", "[]"]];
  assert.deepEqual([...json.members(text)], expected);
  assert.deepEqual(json.elements('[1.0,"a,]",{"b":[]},[]]'), ["1.0", '"a,]"', '{"b":[]}', "[]"]);
  assert.deepEqual(json.elements("[]"), []);
});

test("what is no JSON is an error, not a loop", () => {
  for (const text of ["", "{", "[", '{"a"', '{"a":', '{"a":1', "[1", '["', "[1 2", "nul,", "{a:1}"]) {
    assert.throws(() => json.canonical(text), SyntaxError, text);
  }
  assert.throws(() => json.members("[]"), SyntaxError);
  assert.throws(() => json.elements("{}"), SyntaxError);
  assert.throws(() => json.canonical("[".repeat(200_000)), RangeError);
});
