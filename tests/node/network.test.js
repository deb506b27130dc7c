"use strict";

/**
 * Reading from DynamoDB over TLS, against a server that plays every fault.
 *
 * FLAGSTORE_CERTIFICATES is a folder of authorities and certificates: see test_reader.py.
 */

const assert = require("node:assert/strict");
const { execFile } = require("node:child_process");
const dns = require("node:dns");
const { readFileSync } = require("node:fs");
const net = require("node:net");
const { join } = require("node:path");
const { afterEach, before, beforeEach, describe, test } = require("node:test");
const { promisify } = require("node:util");

const { ScriptedServer, fault, http, plays } = require("./support/server.js");
const { publish, typed } = require("./support/publish.js");
const { placeOf } = require("./support/store.js");

const folder = process.env.FLAGSTORE_CERTIFICATES;
const read = (name) => readFileSync(join(folder, name), "utf8");
const leaf = (name) => ({ key: read(`${name}.key`), cert: read(`${name}.pem`) });

const ROOTS = require.resolve("../../src/node/lib/amazon_roots.js");
require.cache[ROOTS] = { id: ROOTS, filename: ROOTS, loaded: true, exports: read("amazon-ca.pem") };

const { Client, StoreUnavailableError } = require("../../src/node/index.js");
const { openReader } = require("../../src/node/lib/dynamodb.js");
const { monotonic } = require("../../src/node/lib/network.js");

const KEY = { namespace: "n", key: "k" };
const RECORD = { namespace: "n", key: "k", token: 7 };
const FOUND = http(200, JSON.stringify({ Item: typed(RECORD) }));
const KEYS = {
  AWS_ACCESS_KEY_ID: "AKIDEXAMPLE",
  AWS_SECRET_ACCESS_KEY: "secret",
  AWS_SESSION_TOKEN: "token",
  AWS_REGION: "eu-west-1",
  FLAGSTORE_TABLE: "flags",
};
/** A busy machine may be late by so much. */
const LATE_S = 0.6;

console.warn = () => {};

let server;
let reader;

async function serve(certificate = leaf("amazon"), environ = KEYS) {
  server = await new ScriptedServer(FOUND, certificate).listen();
  reader = openReader({ ...environ, AWS_ENDPOINT_URL: server.url });
}

function get(seconds = 5, consistent = false) {
  return reader.read(KEY, { consistent, deadline: monotonic() + seconds });
}

/** Expect a failure by a deadline, and return the error. */
async function fails(seconds, atLeast = 0.8 * seconds) {
  const start = monotonic();
  const error = await get(seconds).then(assert.fail, (reason) => reason);
  const took = monotonic() - start;
  assert.ok(error instanceof StoreUnavailableError, error.stack);
  assert.ok(took >= atLeast && took < seconds + LATE_S, `took ${took} s`);
  return error;
}

afterEach(async () => {
  reader?.close();
  await server?.close();
});

describe("a request", () => {
  beforeEach(() => serve());

  test("is one signed GetItem", async () => {
    assert.deepEqual(await get(5, true), RECORD);
    const [{ method, path, headers, body }] = server.requests;
    assert.deepEqual([method, path], ["POST", "/"]);
    assert.deepEqual(JSON.parse(body), {
      TableName: "flags",
      Key: { namespace: { S: "n" }, key: { S: "k" } },
      ConsistentRead: true,
    });
    assert.equal(headers["x-amz-target"], "DynamoDB_20120810.GetItem");
    assert.equal(headers["x-amz-security-token"], "token");
    assert.equal(headers.host, `127.0.0.1:${server.port}`);
    const scope = `${headers["x-amz-date"].slice(0, 8)}/eu-west-1/dynamodb/aws4_request`;
    assert.ok(headers.authorization.includes(`Credential=AKIDEXAMPLE/${scope}, SignedHeaders=`));
  });

  test("gives values of their types", async () => {
    const data = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const item = { n: { N: "-12" }, s: { S: "größe 😀" }, b: { B: data.toString("base64") }, m: { M: {} } };
    server.due = [http(200, JSON.stringify({ Item: item })), http(200, "{}")];
    assert.deepEqual(await get(), { n: -12, s: "größe 😀", b: data });
    assert.equal(await get(), undefined);
  });

  test("leaves out values of wrong types, whatever they claim to be", async () => {
    const item = { n: { N: 1 }, s: { S: ["x"] }, b: { B: { length: 1e9 } } };
    server.due = [http(200, JSON.stringify({ Item: item }))];
    assert.deepEqual(await get(), {});
  });

  test("reads keys at each signing", async () => {
    const environ = { ...KEYS, AWS_ENDPOINT_URL: server.url };
    reader = openReader(environ);
    await get();
    environ.AWS_ACCESS_KEY_ID = "AKIDROTATED";
    await get();
    assert.match(server.requests[1].headers.authorization, /Credential=AKIDROTATED\//);
  });

  test("never splits a header", async () => {
    await server.close();
    await serve(null); // a TLS handshake may take longer than the time limit
    reader = openReader({ ...KEYS, AWS_SESSION_TOKEN: "a\r\nx: y", AWS_ENDPOINT_URL: server.url });
    assert.match((await fails(1, 0)).message, /a header contains a line break/);
    assert.deepEqual(server.requests, []);
  });
});

describe("a connection", () => {
  beforeEach(() => serve());

  test("is reused", async () => {
    for (let time = 0; time < 5; time += 1) assert.deepEqual(await get(), RECORD);
    assert.equal(server.connections, 1);
  });

  test("is opened again after close()", async () => {
    for (const connections of [1, 2]) {
      assert.deepEqual(await get(), RECORD);
      assert.equal(server.connections, connections);
      reader.close();
      reader.close();
    }
  });

  test("that the server has closed meanwhile costs nothing", async () => {
    await get();
    server.dropConnections();
    const start = monotonic();
    assert.deepEqual(await get(1.5), RECORD);
    assert.ok(monotonic() - start < 0.5); // nobody waited for the first byte
  });

  test("that dies at the next request is replaced at once", async () => {
    for (const play of [plays.cut, plays.reset, plays.thenClosed(FOUND.slice(0, 60))]) {
      await get();
      server.due = [play];
      assert.deepEqual(await get(1.5), RECORD);
    }
  });

  test("that is silent after a freeze leaves time for a fresh one", async () => {
    await get();
    server.due = [plays.hang];
    const start = monotonic();
    assert.deepEqual(await get(1.5), RECORD);
    const took = monotonic() - start;
    assert.ok(took >= 0.59 && took < 1.5, `took ${took} s`);
    assert.equal(server.connections, 2);
  });

  test("that has answered has all the time for the rest", async () => {
    await get();
    server.due = [
      (socket) => {
        socket.write(FOUND.slice(0, 70), "latin1");
        plays.late(0.8, FOUND.slice(70))(socket);
      },
    ];
    assert.deepEqual(await get(1.5), RECORD);
    assert.equal(server.connections, 1);
  });

  test("is closed if the server sends what nobody asked for", async () => {
    await get();
    for (const socket of server.sockets) if (socket.encrypted) socket.write(FOUND);
    await new Promise((resolve) => setTimeout(resolve, 50));
    server.due = [http(200, "{}")];
    assert.equal(await get(), undefined);
    assert.equal(server.connections, 2);
  });

  test("does not give what follows a response to another request", async () => {
    server.due = [FOUND + http(200, JSON.stringify({ Item: { other: { N: "1" } } }))];
    for (let time = 0; time < 2; time += 1) assert.deepEqual(await get(), RECORD);
    assert.equal(server.connections, 2);
  });

  test("does not give a late response to another request", async () => {
    server.due = [plays.late(0.3, http(200, JSON.stringify({ Item: { late: { N: "1" } } })))];
    await fails(0.1);
    server.due = [];
    assert.deepEqual(await get(), RECORD);
  });

  test("is not reused if the server does not want it", async () => {
    const body = "Content-Length: 2\r\n\r\n{}";
    for (const head of ["HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n"]) {
      server.due = [head + body];
      assert.equal(await get(), undefined);
      const { connections } = server;
      await get();
      assert.equal(server.connections, connections + 1);
    }
  });
});

describe("deadlines", () => {
  beforeEach(() => serve());

  test("end with a silent server", async () => {
    server.default = plays.hang;
    for (const seconds of [0.4, 0.8]) {
      const error = await fails(seconds);
      assert.match(error.message, /^DynamoDB at 127\.0\.0\.1:\d+: TimeoutError: out of time/);
      assert.equal(error.receiving, false);
    }
  });

  test("end while a body arrives slowly, and say that it did", async () => {
    server.default = plays.drip;
    assert.equal((await fails(0.8)).receiving, true);
  });

  test("end in the middle of a body", async () => {
    server.default = FOUND.slice(0, -5);
    assert.equal((await fails(0.8)).receiving, true);
  });

  test("end during a TLS handshake", async () => {
    const silent = net.createServer((socket) => socket.resume());
    await new Promise((resolve) => silent.listen(0, "127.0.0.1", resolve));
    reader = openReader({ ...KEYS, AWS_ENDPOINT_URL: `https://127.0.0.1:${silent.address().port}` });
    assert.match((await fails(0.2)).message, /TLS handshake took too long/);
    await new Promise((resolve) => silent.close(resolve));
  });
});

describe("an attempt that fails", () => {
  beforeEach(() => serve());

  const faults = {
    "a closed connection": plays.cut,
    "a reset connection": plays.reset,
    "half a response": plays.thenClosed(FOUND.slice(0, -5)),
    "half a head": plays.thenClosed("HTTP/1.1 200 O"),
    "an empty 200": http(200),
    "a 200 that is not JSON": http(200, "<html>"),
    "a 200 of null": http(200, "null"),
    "another protocol": "SSH-2.0-x\r\n\r\n",
    "a response without a length": "HTTP/1.1 200 OK\r\n\r\n",
    "an invalid length": "HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
    "a negative length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "an enormous length": "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
    "an invalid chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n",
    "a head of a megabyte": `HTTP/1.1 200 OK\r\n${`x: ${"y".repeat(995)}\r\n`.repeat(1_100)}Content-Length: 2\r\n\r\n{}`,
    "a megabyte of extensions of chunks": `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n${`1;x=${"y".repeat(990)}\r\n \r\n`.repeat(1_100)}1\r\n}\r\n0\r\n\r\n`,
    "a body of two megabytes": http(200, `{"Item":${" ".repeat(2_000_000)}{}}`),
    "a line without an end": `HTTP/1.1 200 OK\r\nx: ${"y".repeat(200_000)}`,
    "a 500": http(500),
    "a 503 that is not JSON": http(503, "Slow Down\r\n"),
    "an internal error": fault("InternalServerError", "", 400),
    "throttling": fault("ThrottlingException"),
    "too many reads": fault("ProvisionedThroughputExceededException"),
  };
  for (const [name, play] of Object.entries(faults)) {
    test(`is followed by another: ${name}`, async () => {
      server.due = [play, play];
      assert.deepEqual(await get(), RECORD);
    });
  }

  test("is the last one if DynamoDB refuses", async () => {
    server.default = fault("AccessDeniedException", "not authorized\nThe token: secret-token");
    const error = await fails(5, 0);
    assert.match(error.message, /refused: AccessDeniedException: not authorized$/);
    assert.equal(server.requests.length, 1);
    server.default = fault("ResourceNotFoundException", "not found");
    assert.match((await fails(5, 0)).message, /not found: check the table .* and the region/);
    server.default = fault("ValidationException", "x".repeat(10_000));
    assert.ok((await fails(5, 0)).message.length < 600);
    server.default = fault("ExpiredTokenException");
    await fails(5, 0);
  });

  test("is counted if DynamoDB throttles; the error names the remedy", async () => {
    server.default = fault("ThrottlingException");
    const error = await fails(1, 0.1);
    assert.match(error.message, /ThrottlingException: .*raise SnapshotReplicas/);
    assert.ok(reader.throttled > 2 && reader.throttled === server.requests.length);
    assert.ok(reader.throttled < 12, "pauses do not double");
  });

  test("has its reason in the error if the last one timed out", async () => {
    server.due = [fault("ThrottlingException")];
    server.default = plays.hang;
    assert.match((await fails(0.8)).message, /TimeoutError.*\(before that: ThrottlingException/);
  });

  test("says that nobody listens", async () => {
    const { port } = server;
    await server.close();
    const error = await fails(0.2, 0);
    assert.match(error.message, new RegExp(`ECONNREFUSED 127.0.0.1:${port}`));
    await serve();
  });
});

test("a chunked response is read", async () => {
  await serve();
  const text = JSON.stringify({ Item: typed(RECORD) });
  const [first, second] = [text.slice(0, 20), text.slice(20)];
  const chunks = [first, second].map((each) => `${each.length.toString(16).toUpperCase()};x=y\r\n${each}\r\n`);
  server.due = [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunks.join("")}0\r\nx: y\r\n\r\n`,
  ];
  assert.deepEqual(await get(), RECORD);
  assert.deepEqual(await get(), RECORD);
  assert.equal(server.connections, 1);
});

describe("certificates", () => {
  test("of Amazon's roots need no other store", async () => {
    await serve(leaf("amazon"));
    await get();
    assert.equal(server.connections, 1);
  });

  for (const [name, message] of [
    ["unknown", /certificate/],
    ["expired", /expired/],
    ["other-name", /does not match certificate's altnames|IP: 127/],
  ]) {
    test(`are refused at once: ${name}`, async () => {
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
      try {
        await serve(leaf(name));
        const error = await fails(60, 0);
        assert.match(error.message, message);
        assert.match(error.message, /SSL_CERT_FILE or NODE_EXTRA_CA_CERTS/);
        assert.ok(server.connections <= 2);
      } finally {
        delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
      }
    });
  }

  test("of the system's authorities are trusted; from the second connection on at once", async () => {
    await serve(leaf("system"));
    for (const connections of [2, 3]) {
      assert.deepEqual(await get(), RECORD);
      assert.equal(server.connections, connections);
      reader.close();
    }
  });
});

describe("names", () => {
  const lookup = dns.lookup;
  let asked = 0;
  let answers = () => {};
  let addresses = [];

  beforeEach(async () => {
    await serve(leaf("store"));
    [asked, addresses] = [0, [{ address: "127.0.0.1", family: 4 }]];
    answers = (callback) => callback(null, addresses);
    dns.lookup = (name, options, callback) => {
      asked += 1;
      setImmediate(() => answers(callback));
    };
    reader = openReader({ ...KEYS, AWS_ENDPOINT_URL: `https://store.example:${server.port}` });
  });
  afterEach(() => {
    dns.lookup = lookup;
  });

  test("a silent name server costs the deadline, and is never asked twice at once", async () => {
    const waiting = [];
    answers = (callback) => waiting.push(callback);
    for (let time = 0; time < 2; time += 1) {
      assert.match((await fails(0.15)).message, /store\.example took too long/);
    }
    assert.equal(asked, 1);
    for (const callback of waiting.splice(0)) callback(null, addresses);
    answers = (callback) => waiting.push(callback); // silent again: what came late serves
    assert.deepEqual(await get(1.5), RECORD);
    for (const callback of waiting) callback(null, addresses);
  });

  test("a lookup that fails after the deadline is nobody's", async () => {
    answers = (callback) => callback(new Error("no such host"));
    await assert.rejects(get(-0.01), /out of time/);
    await new Promise((resolve) => setTimeout(resolve, 20)); // a rejection that nobody handles
    assert.equal(asked, 0);
  });

  test("known addresses serve if the name server fails", async () => {
    await get();
    reader.close();
    answers = (callback) => callback(new Error("no such host"));
    assert.deepEqual(await get(), RECORD);
    assert.equal(asked, 2);
  });

  test("an address that drops packets leaves time for the next one", async () => {
    const { connect } = net;
    net.connect = (options) => (options.host === "192.0.2.1" ? new net.Socket() : connect(options));
    addresses = [{ address: "192.0.2.1", family: 4 }, ...addresses];
    try {
      assert.deepEqual(await get(1), RECORD);
    } finally {
      net.connect = connect;
    }
  });

  test("are sent to servers that have several certificates", async () => {
    let sent;
    server.default = (socket) => {
      sent = socket.servername;
      return FOUND;
    };
    await get();
    assert.equal(sent, "store.example");
  });

  test("the next address is tried if one does not accept", async () => {
    addresses = [{ address: "127.0.0.2", family: 4 }, ...addresses];
    assert.deepEqual(await get(), RECORD);
  });
});

describe("keys of a container", () => {
  const grant = (key) =>
    http(200, JSON.stringify({ AccessKeyId: key, SecretAccessKey: "b", Token: "c", Expiration: "2999-01-01T00:00:00Z" }));

  test("are fetched once, and again if they are refused", async () => {
    await serve(null);
    reader = openReader({
      AWS_REGION: "eu-west-1",
      FLAGSTORE_TABLE: "flags",
      AWS_ENDPOINT_URL: server.url,
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${server.url}/keys`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: "let-me-in",
    });
    server.due = [grant("FIRST"), FOUND, FOUND, fault("ExpiredTokenException"), grant("SECOND"), FOUND];
    for (let time = 0; time < 3; time += 1) assert.deepEqual(await get(), RECORD);
    const seen = server.requests.map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(seen, ["GET /keys", "POST /", "POST /", "POST /", "GET /keys", "POST /"]);
    assert.equal(server.requests[0].headers.authorization, "let-me-in");
    assert.match(server.requests[5].headers.authorization, /Credential=SECOND\//);
  });

  test("that cannot be had are an error without a secret", async () => {
    await serve(null);
    const uri = `${server.url}/keys`;
    reader = openReader({
      AWS_REGION: "x",
      FLAGSTORE_TABLE: "t",
      AWS_ENDPOINT_URL: server.url,
      AWS_CONTAINER_CREDENTIALS_FULL_URI: uri,
    });
    server.default = http(200, '{"AccessKeyId": "secret"}');
    const error = await fails(5, 0);
    assert.equal(error.message, `no keys from ${uri}: Error`);
  });
});

describe("a process", () => {
  const records = new Map();
  before(() => publish(records, { flags: { a: 1 } }, { token: 1 }));

  function answer(_, { body }) {
    const { namespace, key } = JSON.parse(body).Key;
    const record = records.get(placeOf(namespace.S, key.S));
    return http(200, JSON.stringify(record ? { Item: typed(record) } : {}));
  }

  async function run(code) {
    const started = monotonic();
    const sources = JSON.stringify(join(__dirname, "../../src/node"));
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      ["-e", `const { client } = require(${sources}); ${code}`],
      {
        env: { PATH: process.env.PATH, ...KEYS, AWS_ENDPOINT_URL: server.url, SSL_CERT_FILE: join(folder, "system-ca.pem") },
      },
    );
    return { printed: stdout + stderr, seconds: monotonic() - started };
  }

  for (const certificate of ["system", null]) {
    test(`ends with an idle connection, ${certificate ? "TLS" : "plain"}`, async () => {
      await serve(certificate && leaf(certificate));
      server.default = answer;
      const code = 'client("prod").snapshot().then((found) => console.log(found.item("flags", "a")))';
      const { printed, seconds } = await run(code);
      assert.equal(printed, "1\n");
      assert.ok(seconds < 3, `${seconds} s`);
      assert.ok(server.connections);
    });
  }

  test("does not end before a read that somebody awaits", async () => {
    await serve(null);
    server.default = (socket, request) => plays.late(0.3, answer(socket, request))(socket);
    const { printed } = await run('client("prod").snapshot().then((found) => console.log(found.token))');
    assert.equal(printed, "1\n");
  });

  test("counts what has arrived while other code kept it busy", async () => {
    await serve(null);
    server.default = answer;
    const { printed } = await run(`
      const flags = client("prod", { ttlS: 0 });
      flags.snapshot().then(() => {
        const refresh = flags.snapshot();
        setImmediate(() => {
          for (const end = Date.now() + 500; Date.now() < end; );
          refresh.then(() => console.log(flags.info().error || "fresh"));
        });
      });`);
    assert.equal(printed, "fresh\n");
  });

  test("with a client reads by one connection, and close() ends that", async () => {
    await serve(leaf("system"));
    server.default = answer;
    Object.assign(process.env, KEYS, { AWS_ENDPOINT_URL: server.url });
    const shared = new Client("prod", { ttlS: 0, table: "flags" });
    await shared.snapshot();
    const { connections } = server; // of both kinds of authorities, if it is the first one
    for (let time = 0; time < 2; time += 1) await shared.snapshot();
    assert.equal(server.connections, connections);
    assert.deepEqual(
      server.requests.map(({ body }) => JSON.parse(body).Key.namespace.S),
      ["prod:$snapshot", "prod:$state", "prod:$state"],
    );
    shared.close();
    await shared.snapshot();
    assert.equal(server.connections, connections + 1);
    shared.close();
  });
});
