"use strict";

/** A server whose responses a test scripts: it plays DynamoDB, over TLS or without. */

const net = require("node:net");
const tls = require("node:tls");

const HEAD_END = "\r\n\r\n";

/** Plays what is due for each request, or else the default. */
class ScriptedServer {
  /** Text to send; or a function that acts on the connection and may return some. */
  due = [];
  requests = [];
  connections = 0;
  sockets = new Set();
  #server;

  /** @param {object} [certificate] `key` and `cert` for TLS */
  constructor(play, certificate) {
    this.default = play;
    this.isSecure = Boolean(certificate);
    this.#server = this.isSecure ? tls.createServer(certificate) : net.createServer();
    this.#server.on("connection", (socket) => {
      this.connections += 1;
      this.#keep(socket);
    });
    const ready = this.isSecure ? "secureConnection" : "connection";
    this.#server.on(ready, (socket) => this.#serve(socket));
    this.#server.on("tlsClientError", () => {});
  }

  async listen() {
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.port = this.#server.address().port;
    this.url = `${this.isSecure ? "https" : "http"}://127.0.0.1:${this.port}`;
    return this;
  }

  /** Close all connections, as a server does that has waited for long. */
  dropConnections() {
    for (const socket of this.sockets) socket.destroy();
  }

  async close() {
    this.dropConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #keep(socket) {
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("error", () => {});
  }

  #serve(socket) {
    this.#keep(socket);
    let buffer = "";
    socket.on("data", (data) => {
      buffer += data.toString("latin1");
      for (let request; (request = requestOf(buffer)) !== undefined; ) {
        buffer = buffer.slice(request.size);
        this.requests.push(request);
        this.#play(socket, request);
      }
    });
  }

  #play(socket, request) {
    const play = this.due.length ? this.due.shift() : this.default;
    const data = typeof play === "function" ? play(socket, request) : play;
    if (typeof data === "string" && !socket.destroyed) socket.write(data, "latin1");
  }
}

function requestOf(text) {
  const end = text.indexOf(HEAD_END);
  if (end < 0) return undefined;
  const [first, ...lines] = text.slice(0, end).split("\r\n");
  const [method, path] = first.split(" ");
  const headers = Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const start = end + HEAD_END.length;
  const size = start + Number(headers["content-length"] ?? 0);
  if (text.length < size) return undefined;
  return { method, path, headers, body: text.slice(start, size), size };
}

/** Return a response; `length` may promise another size than it has. */
function http(status, body = "", length = Buffer.byteLength(body)) {
  const text = Buffer.from(body).toString("latin1");
  return `HTTP/1.1 ${status} Played\r\nContent-Length: ${length}\r\n\r\n${text}`;
}

/** Return an error as DynamoDB words it. */
function fault(code, message = "", status = 400) {
  const name = `com.amazonaws.dynamodb.v20120810#${code}`;
  return http(status, JSON.stringify({ __type: name, message }));
}

const plays = {
  hang: () => undefined,
  cut: (socket) => socket.destroy(),
  reset: (socket) => (socket.resetAndDestroy ? reset(socket) : socket.destroy()),
  thenClosed: (data) => (socket) => socket.end(data, "latin1"),
  late: (seconds, data) => (socket) => {
    setTimeout(() => socket.destroyed || socket.write(data, "latin1"), seconds * 1000).unref();
  },
  drip: (socket) => {
    socket.write(http(200, "{", 1_000), "latin1");
    const timer = setInterval(() => socket.write(" "), 20);
    socket.on("close", () => clearInterval(timer));
  },
};

function reset(socket) {
  // Of a TLS socket, the one below.
  (socket._parent ?? socket).resetAndDestroy();
}

module.exports = { ScriptedServer, fault, http, plays };
