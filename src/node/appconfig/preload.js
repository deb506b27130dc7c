"use strict";

/**
 * Serves handlers that call AppConfig's agent, in a function without its extension.
 *
 * Loaded by `NODE_OPTIONS=--require /opt/nodejs/node_modules/flagstore/appconfig/preload.js`, it
 * opens a server on 127.0.0.1 in the function's own process, so handlers stay as they are.
 * Variables:
 *
 * - `FLAGSTORE_SOURCE` and others of the package: where the flags are
 * - `AWS_APPCONFIG_EXTENSION_HTTP_PORT`: as the extension's, by default 2772
 * - `FLAGSTORE_APPCONFIG_PROFILE`: `<application>/<environment>/<profile>` as in the handler's
 *   path, if it uses names; without it, the first names requested are taken as this source's
 *
 * Child processes of Node.js inherit NODE_OPTIONS: where the parent has the port, they ask the
 * parent. Worker threads ask the main thread. Errors here are logged, and the function
 * continues.
 */

const { isMainThread } = require("node:worker_threads");

const DEFAULT_PORT = "2772";
const MAX_PORT = 65_535;
/** Tells child processes that their parent has the port, or has warned that it has not. */
const SERVED = "FLAGSTORE_APPCONFIG_SERVED_PORT";

function warn(message) {
  console.warn(`flagstore: AppConfig's agent is not replaced: ${message}`);
}

function start(env) {
  const port = env.AWS_APPCONFIG_EXTENSION_HTTP_PORT || DEFAULT_PORT;
  if (!/^\d{1,5}$/.test(port) || Number(port) === 0 || Number(port) > MAX_PORT) {
    warn(`AWS_APPCONFIG_EXTENSION_HTTP_PORT is not a port: ${port}`);
    return;
  }
  const served = env[SERVED];
  env[SERVED] = port; // before it is: a child that starts now may look for it
  const { Agent } = require("./agent.js");
  const { serve } = require("./server.js");
  const agent = new Agent({
    open: () => require("../index.js").client(),
    profile: env.FLAGSTORE_APPCONFIG_PROFILE,
  });
  serve({
    agent,
    port: Number(port),
    onListening: () => prepare(agent),
    onError: (error) => {
      if (error.code !== "EADDRINUSE") warn(error.message);
      else if (served !== port)
        warn(`port ${port} is taken. Does the function have the extension?`);
    },
  });
}

function prepare(agent) {
  try {
    agent.prepare();
  } catch (error) {
    console.warn(`flagstore: ${error?.message}`); // each request will say so, too
  }
}

try {
  if (isMainThread) start(process.env);
} catch (error) {
  warn(error?.message);
}
