"use strict";

/** Clients: one per source, shared by the process. */

const { SnapshotCache } = require("./cache.js");
const { ConfigurationError } = require("./errors.js");
const { checkSource } = require("./keys.js");
const { FIRST_LOAD_S } = require("./limits.js");

/** Default of the minimum seconds between freshness checks. */
const TTL_S = 30;
/** A variable that only AWS Lambda sets. */
const ON_LAMBDA = "AWS_LAMBDA_FUNCTION_NAME";

const DEFAULTS = {
  table: undefined,
  region: undefined,
  endpoint: undefined,
  ttlS: TTL_S,
  maxAgeS: Infinity,
  replicas: undefined,
  preload: undefined,
  usage: undefined,
  store: undefined,
  clock: () => Date.now() / 1000,
  monotonic: () => performance.now() / 1000,
};

/** Reads the flags of one source: see index.d.ts. */
class Client {
  #cache;
  #maxAgeS;
  #monotonic;
  /** Counts evaluations, for adapters; undefined unless `usage` is on. Internal. */
  usage;

  /**
   * @param {string} source
   * @param {import("../index.js").Options} [options]
   * @throws {ConfigurationError} if the name or an option is invalid
   */
  constructor(source, options = {}) {
    const given = checkOptions(options);
    this.source = checkSource(source);
    this.#maxAgeS = given.maxAgeS;
    this.#monotonic = given.monotonic;
    this.#cache = new SnapshotCache(source, {
      open: () => given.store ?? openStore(process.env, given),
      ttlS: given.ttlS,
      replicas: given.replicas ?? replicasOf(process.env),
      clock: given.clock,
      monotonic: given.monotonic,
    });
    if (usageOf(process.env, given) !== "") {
      const { UsageCounter } = require("./usage.js"); // only where it is used
      this.usage = new UsageCounter(source, { current: () => this.current(), clock: given.clock });
    }
  }

  snapshot(options) {
    return this.#cache.snapshot(options);
  }

  current() {
    return this.#cache.current;
  }

  loaded() {
    return this.#cache.preloaded();
  }

  info() {
    const cache = this.#cache;
    const found = cache.current;
    const publishedAt = found?.publishedAt ?? 0;
    return {
      source: this.source,
      provider: found?.provider ?? "",
      token: found?.token ?? 0,
      digest: found?.digest ?? "",
      counts: found?.counts ?? {},
      revision: found?.revision ?? 0,
      publishedAt,
      checkedAt: Math.max(cache.checkedAt / 1000, publishedAt),
      ageS: found === undefined ? Infinity : cache.ageS(),
      stale: found === undefined || cache.stale,
      error: cache.error(),
      throttled: cache.throttled(),
    };
  }

  health() {
    if (this.#cache.current === undefined) return "NOT_LOADED";
    if (this.#cache.ageS() > this.#maxAgeS) return "TOO_OLD";
    return this.#cache.stale ? "STALE" : "";
  }

  flush() {
    this.usage?.flush();
  }

  reporting(handler) {
    return this.usage === undefined ? handler : require("./usage.js").reporting(handler);
  }

  close() {
    this.flush();
    this.#cache.close();
  }

  /** Load now, or prepare for the first read. Never throws: the first use does. Internal. */
  start({ loads }) {
    const now = this.#monotonic();
    preloadBy ??= now + FIRST_LOAD_S;
    if (loads && now < preloadBy) {
      this.#cache.preload(preloadBy);
      return;
    }
    try {
      this.#cache.prepare();
    } catch {
      // Whatever it is, the first use says it.
    }
  }
}

/** A client without a source: throws on use, not on import, so that modules can be loaded. */
class Nameless extends Client {
  constructor() {
    super("nameless", { usage: "" });
    this.source = "";
  }

  async snapshot() {
    throw noName();
  }

  current() {
    throw noName();
  }

  async loaded() {}

  info() {
    throw noName();
  }

  health() {
    throw noName();
  }

  close() {}
}

function noName() {
  return new ConfigurationError('name a source: client("prod"), or set FLAGSTORE_SOURCE');
}

/** Name → the client and its options. */
const clients = new Map();
/** The deadline of all clients that load at the start, set by the first one. */
let preloadBy;

/**
 * Return the client of a source; the same one for the same name: see index.d.ts.
 *
 * @param {string} [source]
 * @param {import("../index.js").Options} [options]
 * @returns {Client}
 */
function client(source = process.env.FLAGSTORE_SOURCE ?? "", options = {}) {
  if (source === "") return new Nameless();
  let entry = clients.get(source);
  if (entry === undefined) {
    const loads = options.preload ?? loadsAtOnce(process.env);
    entry = { made: new Client(source, options), options };
    clients.set(source, entry);
    if (loads || ON_LAMBDA in process.env) entry.made.start({ loads });
  } else if (!sameOptions(options, entry.options)) {
    throw new ConfigurationError(
      `the client of '${source}' already exists with other options: pass them where it is first ` +
        "requested, or create a separate one with new Client",
    );
  }
  return entry.made;
}

/** Whether options equal those of the first call, or there are none. */
function sameOptions(options, first) {
  const names = Object.keys(options);
  if (names.length === 0) return true;
  return (
    names.length === Object.keys(first).length &&
    names.every((name) => Object.is(options[name], first[name]))
  );
}

function loadsAtOnce(environ) {
  const value = (environ.FLAGSTORE_PRELOAD ?? "").toLowerCase();
  if (!["", "true", "false"].includes(value)) {
    throw new ConfigurationError(`FLAGSTORE_PRELOAD must be true or false, not '${value}'`);
  }
  return value ? value === "true" : ON_LAMBDA in environ;
}

function openStore(environ, options) {
  const { openReader } = require("./dynamodb.js"); // tests bring their own store
  return openReader(environ, options);
}

function replicasOf(environ) {
  const name = "FLAGSTORE_SNAPSHOT_REPLICAS";
  const text = environ[name] || "1";
  return checkCount(name, /^\d+$/.test(text) ? Number(text) : text);
}

function usageOf(environ, { usage = environ.FLAGSTORE_USAGE ?? "" }) {
  if (usage === "" || usage === "counts") return usage;
  const remedy = usage === "events" ? ": exposures and events are for Python" : "";
  throw new ConfigurationError(
    `usage (FLAGSTORE_USAGE) must be counts, not ${JSON.stringify(usage)}${remedy}`,
  );
}

function checkOptions(options) {
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(DEFAULTS, name)) {
      const known = Object.keys(DEFAULTS).join(", ");
      throw new ConfigurationError(`${name} is not an option; there are ${known}`);
    }
  }
  const given = { ...DEFAULTS };
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined) given[name] = value;
  }
  checkSeconds("ttlS", given.ttlS);
  checkSeconds("maxAgeS", given.maxAgeS);
  if (given.replicas !== undefined) checkCount("replicas", given.replicas);
  return given;
}

function checkSeconds(name, value) {
  if (typeof value !== "number" || !(value >= 0)) {
    throw new ConfigurationError(
      `${name} must be a number of seconds of at least 0, not ${JSON.stringify(value)}`,
    );
  }
}

function checkCount(name, value) {
  if (!Number.isInteger(value) || value < 1) {
    throw new ConfigurationError(
      `${name} must be a whole number of at least 1, not ${JSON.stringify(value)}`,
    );
  }
  return value;
}

module.exports = { Client, client };
