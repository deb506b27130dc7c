"use strict";

/** The preload in processes of their own. They have no source, which each response says. */

const assert = require("node:assert/strict");
const { execFile } = require("node:child_process");
const net = require("node:net");
const { once } = require("node:events");
const { join } = require("node:path");
const { test } = require("node:test");
const { promisify } = require("node:util");

const PRELOAD = join(__dirname, "../../src/node/appconfig/preload.js");
const PATH = "/applications/Shop/environments/prod/configurations/flags";
const TIMEOUT_MS = 20_000;
const ENDS_MS = 4_000;
const ASK = `
  const ask = () => new Promise((resolve, reject) => {
    const url = "http://localhost:" + process.env.AWS_APPCONFIG_EXTENSION_HTTP_PORT + "${PATH}";
    require("node:http").get(url, async (response) => {
      resolve(response.statusCode + " " + Buffer.concat(await response.toArray()));
    }).on("error", reject);
  });
`;

/** Run code with the preload; return what it printed. */
async function run(code, port) {
  const env = { PATH: process.env.PATH, NODE_OPTIONS: `--require ${PRELOAD}` };
  env.AWS_APPCONFIG_EXTENSION_HTTP_PORT = String(port);
  const options = { env, timeout: TIMEOUT_MS };
  return promisify(execFile)(process.execPath, ["-e", `${ASK}\n${code}`], options);
}

async function taken() {
  const server = net.createServer((socket) =>
    socket.end("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nthe"),
  );
  server.listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  return server;
}

async function freePort() {
  const server = await taken();
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

test("a process ends by itself, before and after a request", async () => {
  const port = await freePort();
  assert.deepEqual(await run("", port), { stdout: "", stderr: "" });
  const start = performance.now();
  assert.match((await run("ask().then(console.log)", port)).stdout, /^500 .*FLAGSTORE_SOURCE/);
  assert.ok(performance.now() - start < ENDS_MS); // idle connections are closed after 5 s
});

test("if the extension runs, it answers, and a warning says so", async () => {
  const server = await taken();
  const { stdout, stderr } = await run("ask().then(console.log)", server.address().port);
  server.close();
  assert.equal(stdout, "200 the\n");
  assert.match(stderr, /is taken. Does the function have the extension\?/);
  assert.equal(stderr.trim().split("\n").length, 1);
});

test("child processes and worker threads ask their parent, without a warning", async () => {
  const code = `
    const { Worker } = require("node:worker_threads");
    const { execFile } = require("node:child_process");
    const child = ${JSON.stringify(ASK)} + "ask().then(console.log)";
    const start = () => {
      execFile(process.execPath, ["-e", child], (error, stdout, stderr) => {
        console.log("child", error, stdout, stderr);
      });
    };
    start(); // even before the server listens
    ask().then(() => {
      new Worker(child, { eval: true });
      start();
    });
  `;
  const { stdout, stderr } = await run(code, await freePort());
  assert.equal(stderr, "");
  assert.equal(stdout.match(/500 /g).length, 3, stdout);
  assert.match(stdout, /child null 500 /);
  assert.doesNotMatch(stdout, /taken/);
});

for (const port of ["x", "0", "70000", "-1"]) {
  test(`a port of ${port} is a warning`, async () => {
    const { stdout, stderr } = await run("console.log(1)", port);
    assert.equal(stdout, "1\n");
    assert.match(stderr, /not a port/);
  });
}
