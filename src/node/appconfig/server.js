"use strict";

/** The agent's local HTTP server. It keeps no process running. */

const http = require("node:http");

const HOST = "127.0.0.1";
/** Of a request: contexts may be long. */
const MAX_HEADER_BYTES = 65_536;

/**
 * Start a server for an agent; return it.
 *
 * @param {object} options
 * @param {{respond(request: object): Promise<{status: number, body: string}>}} options.agent
 * @param {number} options.port
 * @param {() => void} [options.onListening]
 * @param {(error: Error) => void} options.onError such as EADDRINUSE
 */
function serve({ agent, port, onListening = () => {}, onError }) {
  const server = http.createServer({ maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
    const { method, url, headers } = request;
    agent.respond({ method, url, headers }).then(({ status, body }) => {
      const bytes = Buffer.from(body);
      response.writeHead(status, {
        "Content-Type": "application/json",
        "Content-Length": bytes.length,
      });
      response.end(bytes);
    });
  });
  // While the process is frozen between invocations, time passes: an idle connection would be
  // closed just when a handler uses it again.
  server.keepAliveTimeout = 0;
  server.on("connection", (socket) => socket.unref());
  server.on("error", onError);
  server.on("listening", onListening);
  // `exclusive`: a worker of node:cluster must not ask its primary for the port.
  server.listen({ host: HOST, port, exclusive: true });
  server.unref();
  return server;
}

module.exports = { serve };
