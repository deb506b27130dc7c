"use strict";

/** Read from DynamoDB: one signed request over a reused connection. */

const { randomBytes } = require("node:crypto");
const { setTimeout: sleep } = require("node:timers/promises");

const { findKeys } = require("./credentials.js");
const { endpointOf } = require("./endpoint.js");
const { ConfigurationError, StoreUnavailableError } = require("./errors.js");
const { Connection } = require("./http.js");
const { log } = require("./log.js");
const { TimeoutError, monotonic, prepareTls } = require("./network.js");
const { sign, timestampOf } = require("./sigv4.js");

const OK = 200;
const REFUSED = 400;
/** Maximum pause before the second attempt; it doubles each time. */
const FIRST_PAUSE_S = 0.05;
const MAX_MESSAGE = 500;
const KEYS_REFUSED = new Set([
  "ExpiredTokenException",
  "InvalidSignatureException",
  "UnrecognizedClientException",
]);
const THROTTLED = new Set([
  "ProvisionedThroughputExceededException",
  "RequestLimitExceeded",
  "ThrottlingException",
]);
const REMEDIES = {
  ResourceNotFoundException: ": check the table (FLAGSTORE_TABLE) and the region (AWS_REGION)",
};
const CAPACITY =
  "more readers at once than a partition serves: raise SnapshotReplicas " +
  "(docs/cost-and-capacity.md, Capacity)";
const TRUST =
  "check the host in AWS_ENDPOINT_URL, and set SSL_CERT_FILE or NODE_EXTRA_CA_CERTS if its " +
  "authority is private";

/**
 * Return a reader for the table that options or the environment name.
 *
 * @param {NodeJS.ProcessEnv} environ
 * @param {import("../index.js").Options} [options]
 * @throws {ConfigurationError} if a setting is missing, or names a store that is not read here
 */
function openReader(environ, { table, region, endpoint } = {}) {
  for (const name of ["FLAGSTORE_REDIS_URL", "FLAGSTORE_FILE"]) {
    if (environ[name]) {
      throw new ConfigurationError(
        `${name} is set, but flagstore for Node.js reads DynamoDB only: unset it, and set ` +
          "FLAGSTORE_TABLE",
      );
    }
  }
  for (const name of ["FLAGSTORE_OVERRIDES", "FLAGSTORE_BOOTSTRAP"]) {
    if (environ[name]) log(`${name} is set, but has no effect in Node.js`);
  }
  const named = table || environ.FLAGSTORE_TABLE;
  if (!named) {
    throw new ConfigurationError(
      "set FLAGSTORE_TABLE to the name of the table (output TableName of the stack)",
    );
  }
  const place = region || environ.AWS_REGION || environ.AWS_DEFAULT_REGION;
  if (!place) throw new ConfigurationError("set AWS_REGION to the region of the table");
  const address = endpointOf(environ, place, endpoint);
  return new DynamoDBReader(named, place, address, findKeys(environ));
}

/** Reads records of one table, one at a time: see `Store` in index.d.ts. */
class DynamoDBReader {
  throttled = 0;

  #table;
  #region;
  #scheme;
  #host;
  #keys;
  #connection;

  constructor(table, region, endpoint, keys) {
    this.#table = table;
    this.#region = region;
    [this.#scheme, this.#host] = endpoint.split("://");
    this.#keys = keys;
  }

  /**
   * Return one record, undefined if there is none: one GetItem.
   *
   * @throws {StoreUnavailableError} if there is no response in time
   */
  async read({ namespace, key }, { consistent, deadline }) {
    const body = JSON.stringify({
      TableName: this.#table,
      Key: { namespace: { S: namespace }, key: { S: key } },
      ConsistentRead: consistent,
    });
    const reply = await this.#repeat("GetItem", body, deadline);
    return reply.Item === undefined ? undefined : recordOf(reply.Item);
  }

  /** Prepare a connection (TLS context) without connecting. */
  prepare() {
    if (this.#scheme === "https") prepareTls();
  }

  /** Close the connection; the next read opens another. Idempotent. */
  close() {
    this.#connection?.close();
    this.#connection = undefined;
  }

  /** Return the response to an operation, repeated while another attempt may help. */
  async #repeat(operation, body, deadline) {
    let earlier = "";
    for (let attempt = 0; ; ) {
      const kept = this.#connection?.isOpen ?? false;
      if (!kept) this.close();
      let [receiving, problem] = [false, ""];
      try {
        const { status, response } = await this.#exchange(operation, body, deadline);
        problem = this.#problem(status, response);
        if (!problem) return response;
        // If the last attempt merely timed out, an earlier response has the reason.
        earlier = ` (before that: ${problem})`;
      } catch (error) {
        if (error instanceof StoreUnavailableError) throw error;
        receiving = error instanceof TimeoutError && (this.#connection?.receiving ?? false);
        this.close();
        problem = this.#describe(error) + earlier;
        // The reused connection was dead: try a fresh one at once.
        if (kept && monotonic() < deadline) continue;
      }
      const pause = (FIRST_PAUSE_S * 2 ** attempt * randomBytes(1)[0]) / 256;
      if (monotonic() + pause >= deadline) {
        throw new StoreUnavailableError(`${this.#title}: ${problem}`, { receiving });
      }
      await sleep(pause * 1000);
      attempt += 1;
    }
  }

  get #title() {
    return `DynamoDB at ${this.#host}`;
  }

  async #exchange(operation, body, deadline) {
    const headers = sign(await this.#keys.current(deadline), {
      region: this.#region,
      service: "dynamodb",
      host: this.#host,
      timestamp: timestampOf(new Date()),
      headers: {
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": `DynamoDB_20120810.${operation}`,
      },
      body,
    });
    this.#connection ??= await Connection.open(this.#scheme, this.#host, deadline);
    const found = await this.#connection.request("POST", "/", headers, body, deadline);
    return { status: found.status, response: parse(found) };
  }

  /** Describe an error after which another attempt may help; throw for one that needs a remedy. */
  #describe(error) {
    const problem = `${error.name}: ${error.message}`;
    if (!error.isUntrusted) return problem;
    throw new StoreUnavailableError(`${this.#title}: ${problem}; ${TRUST}`, { cause: error });
  }

  /**
   * Return the error if another attempt may help; "" without an error.
   *
   * @throws {StoreUnavailableError} for any other error
   */
  #problem(status, response) {
    if (status === OK) return "";
    const code = String(response.__type ?? "").replace(/^.*#/, "") || `HTTP ${status}`;
    if (KEYS_REFUSED.has(code) && this.#keys.refused()) return code;
    if (THROTTLED.has(code)) {
      this.throttled += 1;
      return `${code}: ${CAPACITY}`;
    }
    if (status === REFUSED && code !== "InternalServerError") {
      // Further lines may hold the session token.
      const [text] = String(response.message ?? response.Message ?? "").split("\n", 1);
      const reason = `${code}: ${text.slice(0, MAX_MESSAGE)}${REMEDIES[code] ?? ""}`;
      throw new StoreUnavailableError(`DynamoDB refused: ${reason}`);
    }
    return code;
  }
}

function parse({ status, body }) {
  // Only failures may have no body: an empty 200 was cut off.
  const text = body.toString() || (status === OK ? "" : "{}");
  try {
    const found = JSON.parse(text);
    if (found !== null && typeof found === "object") return found;
  } catch {
    // As any other text.
  }
  throw new Error(`the response is not JSON (HTTP ${status})`);
}

/** Read a record from typed attributes; other types are left out. */
function recordOf(item) {
  const record = {};
  for (const [name, attribute] of Object.entries(item)) {
    const [[kind, value]] = Object.entries(attribute);
    if (typeof value !== "string") continue; // Buffer.from would make as many bytes as it says
    if (kind === "N") record[name] = Number(value);
    else if (kind === "B") record[name] = Buffer.from(value, "base64");
    else if (kind === "S") record[name] = value;
  }
  return record;
}

module.exports = { openReader };
