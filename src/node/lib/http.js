"use strict";

/**
 * HTTP/1.1 (RFC 9112) as far as DynamoDB uses it: one request at a time over a reused connection.
 *
 * Not node:https, whose agents have no deadlines and hide when a reused connection was dead.
 */

const { addressOf } = require("./endpoint.js");
const { TimeoutError, at, connect, left, monotonic } = require("./network.js");

/**
 * Of a whole response, headers included: an item has up to 400 KB, and a third as much again in
 * base64. Parsed, the worst JSON of this size takes 70 MB, which a small function can afford.
 */
const MAX_RESPONSE_BYTES = 1_048_576;
const MAX_LINE_BYTES = 65_536;
/**
 * Share of the remaining time in which a reused connection must send the first byte. The server may
 * have gone while Lambda froze the process, and a fresh connection needs time too.
 */
const KEPT_SHARE = 0.4;
const DEFAULT_PORTS = { http: 80, https: 443 };
const STATUS_LINE = /^(HTTP\/1\.\d) (\d{3})/;
const LINE_END = "\r\n";

/** A connected socket that serves one exchange at a time. */
class Stream {
  #socket;
  #parts = [];
  /** Bytes in the parts. */
  #size = 0;
  /** Why nothing more will come. */
  #ended;
  /** The function that continues the reader that waits. */
  #wake;
  #cancel = () => {};
  #deadline = 0;
  /** Bytes that the current exchange has received. */
  #received = 0;
  #isFresh = true;
  #isIdle = true;
  /** Whether the current exchange has received anything. */
  receiving = false;

  constructor(socket) {
    this.#socket = socket;
    socket.on("data", (data) => this.#receive(data));
    socket.on("error", (error) => this.#end(error));
    for (const event of ["close", "end"]) socket.on(event, () => this.close());
    socket.unref();
  }

  /** Whether the server has neither closed it nor sent what nobody asked for. */
  get isOpen() {
    return this.#ended === undefined && this.#size === 0;
  }

  /** Begin an exchange; after the first, an earlier deadline applies to the first byte. */
  begin(deadline) {
    const seconds = left(deadline);
    const share = this.#isFresh ? 1 : KEPT_SHARE;
    this.#isFresh = this.#isIdle = this.receiving = false;
    this.#deadline = deadline;
    this.#received = 0;
    this.#expireAt(monotonic() + share * seconds);
    // An idle connection must not keep the process alive, an exchange has to.
    this.#socket.ref();
  }

  /** End an exchange whose response was read. */
  finish() {
    this.#cancel();
    this.#isIdle = true;
    this.#socket.unref();
  }

  send(data) {
    this.#socket.write(data);
  }

  /** Return the next line, without its end. */
  async line() {
    for (;;) {
      const data = this.#joined();
      const end = data.indexOf(LINE_END);
      if (end >= 0) return this.#take(end + LINE_END.length).toString("latin1", 0, end);
      if (data.length > MAX_LINE_BYTES) throw new Error("the response has a line without an end");
      await this.#more();
    }
  }

  /** Return the next bytes. */
  async exactly(size) {
    while (this.#size < size) await this.#more();
    return this.#take(size);
  }

  /** Close the connection. Idempotent. */
  close() {
    this.#end(new Error("the server closed the connection"));
  }

  #receive(data) {
    this.#parts.push(data);
    this.#size += data.length;
    if (this.#isIdle) {
      this.close(); // nobody asked for it
      return;
    }
    this.#received += data.length;
    if (this.#received > MAX_RESPONSE_BYTES) {
      this.#end(new Error("the response is too long"));
      return;
    }
    if (!this.receiving) this.#expireAt(this.#deadline);
    this.receiving = true;
    this.#wake?.();
  }

  #end(error) {
    this.#ended ??= error;
    this.#cancel();
    this.#socket.destroy();
    this.#wake?.();
  }

  #expireAt(deadline) {
    this.#cancel();
    this.#cancel = at(deadline, () => this.#end(new TimeoutError("out of time")));
  }

  #more() {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const before = this.#size;
    return new Promise((resolve, reject) => {
      this.#wake = () => {
        this.#wake = undefined;
        if (this.#size > before) resolve();
        else reject(this.#ended);
      };
    });
  }

  #joined() {
    if (this.#parts.length !== 1) this.#parts = [Buffer.concat(this.#parts)];
    return this.#parts[0];
  }

  #take(size) {
    const data = this.#joined();
    this.#parts = size < data.length ? [data.subarray(size)] : [];
    this.#size -= size;
    return data.subarray(0, size);
  }
}

/** One connection to a server. */
class Connection {
  #host;
  #stream;

  constructor(host, socket) {
    this.#host = host;
    this.#stream = new Stream(socket);
  }

  /**
   * Connect to a name or address, with an optional port.
   *
   * @param {"http" | "https"} scheme
   * @param {string} host
   * @param {number} deadline
   */
  static async open(scheme, host, deadline) {
    const server = { ...addressOf(host, DEFAULT_PORTS[scheme]), secure: scheme === "https" };
    return new Connection(host, await connect(server, deadline));
  }

  get isOpen() {
    return this.#stream.isOpen;
  }

  /** Whether the last request has received anything. */
  get receiving() {
    return this.#stream.receiving;
  }

  close() {
    this.#stream.close();
  }

  /**
   * Send one request.
   *
   * @param {string} method
   * @param {string} path
   * @param {Record<string, string>} headers
   * @param {string} body
   * @param {number} deadline
   * @returns {Promise<{status: number, body: Buffer}>}
   * @throws {Error} if there is no complete response in time; the connection is closed then
   */
  async request(method, path, headers, body, deadline) {
    try {
      this.#stream.begin(deadline);
      return await this.#exchange(method, path, headers, body);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  async #exchange(method, path, headers, body) {
    const length = String(Buffer.byteLength(body));
    const fields = Object.entries({ host: this.#host, ...headers, "content-length": length });
    if (fields.some(([, value]) => /[\r\n]/.test(value))) {
      throw new Error("a header contains a line break");
    }
    const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    this.#stream.send(`${method} ${path} HTTP/1.1\r\n${lines}\r\n${body}`);
    const { version, status, found } = await this.#head();
    const content = await this.#content(found);
    this.#stream.finish();
    const closes = (found.get("connection") ?? "").toLowerCase() === "close";
    if (closes || version !== "HTTP/1.1") this.close();
    return { status, body: content };
  }

  async #head() {
    const first = STATUS_LINE.exec(await this.#stream.line());
    if (first === null) throw new Error("the response is not HTTP");
    const found = new Map();
    for (;;) {
      const line = await this.#stream.line();
      if (!line) return { version: first[1], status: Number(first[2]), found };
      const colon = line.indexOf(":");
      found.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
    }
  }

  async #content(found) {
    if ((found.get("transfer-encoding") ?? "").toLowerCase() === "chunked") return this.#chunks();
    if (!found.has("content-length")) throw new Error("the response has no length");
    return this.#stream.exactly(lengthOf(found.get("content-length"), 10));
  }

  async #chunks() {
    const parts = [];
    for (;;) {
      const line = await this.#stream.line();
      const length = lengthOf(line.split(";", 1)[0].trim(), 16);
      if (length === 0) break;
      parts.push(await this.#stream.exactly(length));
      await this.#stream.line();
    }
    while (await this.#stream.line()); // trailers
    return Buffer.concat(parts);
  }
}

function lengthOf(text, base) {
  const digits = base === 10 ? /^\d+$/ : /^[\da-f]+$/i;
  const length = digits.test(text) ? parseInt(text, base) : -1;
  if (!(length >= 0 && length <= MAX_RESPONSE_BYTES)) {
    throw new Error("the response has an invalid length");
  }
  return length;
}

module.exports = { Connection };
