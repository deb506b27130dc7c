"use strict";

/** What AppConfig's agent would say: over HTTP, from flag sets in memory. */

const assert = require("node:assert/strict");
const http = require("node:http");
const { once } = require("node:events");
const { afterEach, test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");

const { Agent } = require("../../src/node/appconfig/agent.js");
const { serve } = require("../../src/node/appconfig/server.js");
const { flagsOf, snapshotOf } = require("./support/appconfig.js");

const IDS = "ba8toh7/pgil2o7/ga3tqep";
const NAMES = "/applications/Shop/environments/prod/configurations/flags";
const META = { profile: IDS, format: "feature-flags" };
const NOW = 1_795_000_000;

const QA = { name: "QA", enabled: true, rule: '(eq $plan "pro")', attributeValues: { dark: true } };
const SPLIT = { name: "Some", enabled: true, rule: "(split pct::20 by::$userId)" };
const DEFAULT = { name: "Default", enabled: false, attributeValues: { dark: false } };
const FLAGS = {
  limits: '{"enabled":true,"limit":5.0,"big":12345678901234567890,"_createdAt":"2026"}',
  off: { enabled: false, limit: 7 },
  refresh: { _variants: [QA, DEFAULT] },
  ["__proto__"]: { enabled: true },
  rollout: { _variants: [SPLIT, DEFAULT] },
  damaged: { enabled: "yes" },
};

const servers = [];

afterEach(() => servers.splice(0).forEach((server) => server.close()));

/** Serve a flag set, or what the client does; return how to ask, and the list of warnings. */
async function served(given, options = {}) {
  const warnings = [];
  const client = {
    snapshot: typeof given === "function" ? given : async () => given,
    info: () => ({ stale: false }),
    ...options.client,
  };
  const agent = new Agent({
    open: () => client,
    warn: (message) => warnings.push(message),
    now: () => NOW,
    ...options,
  });
  const server = serve({ agent, port: 0, onError: assert.fail });
  servers.push(server);
  await once(server, "listening");
  const { port } = server.address();
  return { warnings, agent, ask: (path, headers, method) => ask({ port, path, headers, method }) };
}

async function ask({ port, path = NAMES, headers = {}, method = "GET" }) {
  const request = http.request({ host: "127.0.0.1", port, path, headers, method, agent: false });
  request.end();
  const [response] = await once(request, "response");
  const chunks = await response.toArray();
  const text = Buffer.concat(chunks).toString();
  return {
    status: response.statusCode,
    type: response.headers["content-type"],
    text,
    body: text && JSON.parse(text),
  };
}

function featureFlags(flags = FLAGS, meta = META) {
  return snapshotOf(meta, { flags: flagsOf(flags) });
}

test("flags that are not there fill neither the log nor the memory", async () => {
  const { ask, warnings } = await served(featureFlags());
  for (let time = 0; time < 3; time += 1) {
    const asked = Array.from({ length: 1_000 }, (_, number) => `flag=${time}-${number}`);
    assert.equal((await ask(`${NAMES}?${asked.join("&")}`)).text, "{}");
  }
  assert.equal(warnings.length, 1_000);
});

test("all flags are in one response, those that are off without attributes", async () => {
  const { ask } = await served(featureFlags());
  const { status, type, text, body } = await ask();
  assert.deepEqual([status, type], [200, "application/json"]);
  assert.deepEqual(body.off, { enabled: false });
  assert.deepEqual(body.refresh, { enabled: false, _variant: "Default" });
  assert.match(text, /"limits":\{"limit":5.0,"big":12345678901234567890,"enabled":true\}/);
  assert.match(text, /"__proto__":\{"enabled":true\}/);
});

test("the header Context chooses variants, repeated or separated by commas", async () => {
  const { ask } = await served(featureFlags());
  const expected = { dark: true, enabled: true, _variant: "QA" };
  for (const value of [
    "plan=pro",
    "a=b, plan=pro ,",
    ["a=b=c", "plan=pro"],
    ["plan=free,x=y", "plan=pro"],
  ]) {
    assert.deepEqual((await ask(NAMES, { Context: value })).body.refresh, expected);
  }
  for (const value of ["", "plan=", "plan=Pro", "PLAN=pro"]) {
    assert.equal((await ask(NAMES, { Context: value })).body.refresh._variant, "Default");
  }
  const { status, body } = await ask(NAMES, { Context: "name=Doe, Jane" });
  assert.deepEqual([status, body.error], [400, "CONTEXT_INVALID"]);
});

test("a context is UTF-8, or Latin-1 if it is not", async () => {
  const chosen = { ...QA, rule: '(eq $name "Zoë 👋")' };
  const latin = { ...QA, name: "Latin", rule: '(eq $name "Zoë")' };
  const { ask } = await served(featureFlags({ f: { _variants: [chosen, latin, DEFAULT] } }));
  const utf8 = Buffer.from("name=Zoë 👋").toString("latin1");
  assert.equal((await ask(NAMES, { Context: utf8 })).body.f._variant, "QA");
  assert.equal((await ask(NAMES, { Context: "name=Zoë" })).body.f._variant, "Latin");
});

test("a single flag is the response, several are by key", async () => {
  const { ask, warnings } = await served(featureFlags());
  assert.deepEqual((await ask(`${NAMES}?flag=off`)).body, { enabled: false });
  const refresh = await ask(`${NAMES}?flag=refresh`, { Context: "plan=pro" });
  assert.deepEqual(refresh.body, { dark: true, enabled: true, _variant: "QA" });
  const two = await ask(`${NAMES}?flag=off&flag=refresh`);
  assert.deepEqual(two.body, {
    off: { enabled: false },
    refresh: { enabled: false, _variant: "Default" },
  });
  assert.deepEqual(warnings, []);
  const missing = await ask(`${NAMES}?flag=none`);
  assert.deepEqual([missing.status, missing.body.error], [404, "FLAG_NOT_FOUND"]);
  assert.deepEqual((await ask(`${NAMES}?flag=off&flag=none`)).body, { off: { enabled: false } });
});

test("a flag that cannot be evaluated is left out, with one warning and its remedy", async () => {
  const { ask, warnings } = await served(featureFlags());
  for (let call = 0; call < 3; call += 1) {
    const { body } = await ask(NAMES, { Context: "userId=ada" });
    assert.deepEqual([body.rollout, body.damaged], [undefined, undefined]);
  }
  assert.equal(warnings.length, 2);
  assert.match(
    warnings.join("\n"),
    /"rollout" cannot be evaluated.*split_hash=flagstore[^]*"damaged"/,
  );
  const alone = await ask(`${NAMES}?flag=rollout`, { Context: "userId=ada" });
  assert.deepEqual([alone.status, alone.body.error], [400, "UNSUPPORTED"]);
  assert.match(alone.body.message, /split_hash=flagstore/);
  const damaged = await ask(`${NAMES}?flag=damaged`);
  assert.deepEqual([damaged.status, damaged.body.error], [500, "MALFORMED_FLAG"]);
  // A context without the value needs no hash.
  assert.equal((await ask(`${NAMES}?flag=limits`)).status, 200);
});

test("with the source's option, split is evaluated", async () => {
  const { ask, warnings } = await served(
    featureFlags({ rollout: FLAGS.rollout }, { ...META, split_hash: "flagstore" }),
  );
  const found = new Set();
  for (let user = 0; user < 30; user += 1) {
    found.add((await ask(`${NAMES}?flag=rollout`, { Context: `userId=${user}` })).body._variant);
  }
  assert.deepEqual([...found].sort(), ["Default", "Some"]);
  assert.deepEqual(warnings, []);
});

test("all context is text, so a rule with a number is left to no guess", async () => {
  const rule = { ...QA, rule: "(gt $age 65)" };
  const { ask } = await served(featureFlags({ f: { _variants: [rule, DEFAULT] } }));
  const { status, body } = await ask(`${NAMES}?flag=f`, { Context: "age=70" });
  assert.equal(status, 400);
  assert.match(body.message, /all context is text/);
});

test("a freeform profile is its document", async () => {
  const flags = flagsOf({ 2: "null", featureEnabled: "true", b: '{"c":[1.0]}' });
  const { ask } = await served(snapshotOf({ profile: IDS, format: "freeform" }, { flags }));
  assert.equal((await ask()).text, '{"2":null,"featureEnabled":true,"b":{"c":[1.0]}}');
  assert.equal((await ask(`${NAMES}?flag=b`)).body.error, "NOT_FEATURE_FLAGS");
});

test("other paths, methods and profiles are errors", async () => {
  const { ask } = await served(featureFlags());
  const ids = "/applications/ba8toh7/environments/pgil2o7/configurations/ga3tqep";
  assert.equal((await ask(ids)).status, 200);
  assert.equal((await ask(NAMES)).status, 200);
  assert.equal((await ask(ids)).status, 200);
  const other = await ask(NAMES.replace("Shop", "Other"));
  assert.deepEqual([other.status, other.body.error], [404, "PROFILE_NOT_FOUND"]);
  assert.match(other.body.message, /FLAGSTORE_APPCONFIG_PROFILE/);
  for (const path of ["/", "/applications/a", `${NAMES}/x`]) {
    assert.equal((await ask(path)).body.error, "NOT_FOUND");
  }
  assert.equal((await ask(NAMES.replace("Shop", "%ff"))).body.error, "INVALID_PATH");
  assert.equal((await ask(NAMES, {}, "POST")).status, 405);
});

test("names that are set are the only ones", async () => {
  const { ask } = await served(featureFlags(), { profile: "My Shop/prod/flags" });
  assert.equal((await ask(NAMES.replace("Shop", "My%20Shop"))).status, 200);
  assert.equal((await ask(NAMES)).status, 404);
});

test("without flags, the reason is the response", async () => {
  const fails = (error) => async () => {
    throw error;
  };
  const down = await served(fails(new Error("the store refused: AccessDenied")));
  const { status, body } = await down.ask();
  assert.deepEqual([status, body.error], [503, "NOT_LOADED"]);
  assert.match(body.message, /AccessDenied/);
  const error = Object.assign(new Error("name a source"), { name: "ConfigurationError" });
  const unset = await served(featureFlags(), {
    open: () => {
      throw error;
    },
  });
  assert.deepEqual((await unset.ask()).status, 500);
  const hanging = await served(() => new Promise(() => {}), { deadlineMs: 20 });
  assert.match((await hanging.ask()).body.message, /in time/);
  const other = await served(snapshotOf({}, {}, "split"));
  assert.equal((await other.ask()).body.error, "WRONG_SOURCE");
});

// -- gradual deployments
// ---------------------------------------------------------------------------

function deployed(progress, newLimit = 2, more = {}) {
  const flags = flagsOf({ a: { enabled: true, limit: 1 }, gone: { enabled: true } });
  const newFlags = flagsOf({ a: { enabled: true, limit: newLimit }, added: { enabled: true } });
  const fields = { ConfigurationVersion: "3", PreviousVersion: "2", RemovedFlags: ["gone"], ...more };
  const deployments = flagsOf({ 7: fields });
  return { ...snapshotOf(META, { flags, new_flags: newFlags, deployments }), progress };
}

test("an entity has one of the two versions as a whole, and keeps the new one", async () => {
  const set = deployed('[7,"DEPLOYING",40.0,60.0,0]');
  const { ask } = await served(set);
  const limits = async () => {
    const found = [];
    for (let user = 0; user < 100; user += 1) {
      const { body } = await ask(NAMES, { "Entity-Id": `user-${user}` });
      assert.deepEqual(
        Object.keys(body).sort(),
        body.a.limit === 2 ? ["a", "added"] : ["a", "gone"],
      );
      found.push(body.a.limit);
    }
    return found;
  };
  const first = await limits();
  const share = first.filter((limit) => limit === 2).length;
  assert.ok(share > 25 && share < 55, `${share}`);
  set.progress = '[7,"DEPLOYING",60.0,80.0,0]';
  const second = await limits();
  assert.ok(second.every((limit, user) => limit >= first[user]));
  assert.notDeepEqual(second, first);
  set.progress = "";
  assert.deepEqual(new Set(await limits()), new Set([1]));
});

test("without an entity, all requests of a process have one version", async () => {
  const { ask } = await served(deployed('[7,"DEPLOYING",50.0,60.0,0]'));
  const found = new Set();
  for (let call = 0; call < 20; call += 1) {
    for (const headers of [{}, { "Entity-Id": "" }])
      found.add((await ask(NAMES, headers)).body.a.limit);
  }
  assert.equal(found.size, 1);
});

test("the next step is taken by the clock, but not while the store cannot be read", async () => {
  const progress = `[7,"DEPLOYING",0.0,100.0,${NOW * 1000}]`;
  for (const [stale, limit] of [
    [false, 2],
    [true, 1],
  ]) {
    const { ask } = await served(deployed(progress), { client: { info: () => ({ stale }) } });
    assert.equal((await ask()).body.a.limit, limit);
  }
});

test("a new flag set of a deployment replaces the one before", async () => {
  let set = deployed('[7,"DEPLOYING",100.0,100.0,0]');
  const { ask } = await served(async () => set);
  assert.equal((await ask()).body.a.limit, 2);
  set = deployed('[7,"DEPLOYING",100.0,100.0,0]', 3);
  assert.equal((await ask()).body.a.limit, 3);
});

test("a malformed deployment is for nobody", async () => {
  for (const more of [
    { ConfigurationVersion: "x" },
    { PreviousVersion: undefined },
    { RemovedFlags: null },
  ]) {
    const { ask } = await served(deployed('[7,"DEPLOYING",100.0,100.0,0]', 2, more));
    assert.equal((await ask()).body.a.limit, 1);
  }
});

test("a deployment that cannot be read is ignored, with a warning", async () => {
  const set = {
    ...deployed(""),
    item: () => {
      throw new TypeError("x");
    },
  };
  const { ask, warnings } = await served(set);
  assert.equal((await ask()).body.a.limit, 1);
  assert.equal((await ask()).body.a.limit, 1);
  assert.equal(warnings.length, 1);
});

// -- the server
// ------------------------------------------------------------------------------------

test("only this machine can ask, and its context may be long", async () => {
  const { ask } = await served(featureFlags());
  assert.equal(servers.at(-1).address().address, "127.0.0.1");
  const Context = `plan=pro,${"x".repeat(50_000)}=1`;
  assert.equal((await ask(`${NAMES}?flag=refresh`, { Context })).body._variant, "QA");
});

test("a port that is taken is reported, not thrown", async () => {
  const { agent } = await served(featureFlags());
  const { port } = servers[0].address();
  const error = await new Promise((resolve) => serve({ agent, port, onError: resolve }));
  assert.equal(error.code, "EADDRINUSE");
});

test("an idle connection stays open", async () => {
  await served(featureFlags());
  const { port } = servers[0].address();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const sockets = new Set();
  for (let call = 0; call < 3; call += 1) {
    const request = http.get({ host: "127.0.0.1", port, path: NAMES, agent });
    const [response] = await once(request, "response");
    assert.equal(response.headers["keep-alive"], undefined);
    await response.toArray();
    sockets.add(request.socket);
    await sleep(10);
  }
  assert.equal(sockets.size, 1);
  agent.destroy();
});

test("counts each flag that is answered, or that cannot be evaluated", async () => {
  const counted = [];
  const usage = { count: (provider, key, result) => counted.push([provider, key, ...result]) };
  const { ask } = await served(featureFlags(), { client: { usage } });
  await ask(`${NAMES}?flag=limits&flag=off&flag=unknown`);
  await ask(`${NAMES}?flag=refresh`, { context: "plan=pro" });
  await ask(`${NAMES}?flag=rollout`);
  await ask(`${NAMES}?flag=unknown`);
  assert.deepEqual(counted.splice(0), [
    ["appconfig", "limits", 1, null],
    ["appconfig", "off", 0, null],
    ["appconfig", "refresh", 1, "QA"],
    ["appconfig", "rollout", 0, null],
  ]);
  const document = featureFlags({ a: { x: 1 } }, { ...META, format: "freeform" });
  await (await served(document, { client: { usage } })).ask();
  assert.deepEqual(counted, [["appconfig", "a", 1, null]]);
});
