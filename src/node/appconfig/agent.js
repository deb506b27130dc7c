"use strict";

/**
 * Respond to requests as AppConfig's agent does, from a source in flagstore's store.
 *
 * AWS' user guide: "Retrieving basic and multi-variant feature flags", "How to use AWS AppConfig
 * Agent". Where it is silent, an error names the reason; nothing is guessed.
 */

const { members } = require("../lib/canonical.js");
const { AppConfigEngine, FREEFORM, SPLIT_HASH, objectOf } = require("./engine.js");
const { Rollout } = require("./rollout.js");

const PATH = /^\/applications\/([^/]+)\/environments\/([^/]+)\/configurations\/([^/]+)\/?$/;
const BYTES = "latin1";
/** Requests may name any number of unknown flags. */
const MAX_WARNINGS = 1_000;
/** Maximum time for a response, whatever the store does. */
const DEADLINE_MS = 5_000;

/** An HTTP response other than 200, as JSON. */
class Failure extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message names the reason and a remedy
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @typedef {object} Request
 * @property {string} method
 * @property {string} url path and query
 * @property {Record<string, string | undefined>} headers by lower-case name; bytes as Latin-1
 *
 * @typedef {object} Response
 * @property {number} status
 * @property {string} body JSON
 */

/** Responds to requests for one source's profile. */
class Agent {
  /**
   * Which paths are this source's: its IDs (`<application>/<environment>/<profile>`, as the source
   * is configured), and `profile`. Without `profile`, the first other names that are asked for,
   * since handlers may use names and the store has only IDs; requests for further ones are 404.
   *
   * @param {object} options
   * @param {() => object} options.open returns a client of package flagstore; called until it
   *   succeeds
   * @param {string} [options.profile] the names that handlers use,
   *   `<application>/<environment>/<profile>`
   * @param {(message: string) => void} [options.warn]
   * @param {() => number} [options.now] seconds since the epoch
   * @param {number} [options.deadlineMs]
   */
  constructor({
    open,
    profile = "",
    warn = console.warn,
    now = () => Date.now() / 1000,
    deadlineMs,
  }) {
    this.open = open;
    this.profile = profile;
    this.warn = warn;
    this.now = now;
    this.deadlineMs = deadlineMs ?? DEADLINE_MS;
    this.client = undefined;
    this.rollout = undefined;
    /** Snapshot → engine. */
    this.engines = new WeakMap();
    /** Evaluation → the flag in a response. */
    this.flags = new WeakMap();
    this.warned = new Set();
  }

  /** Start to load the flags, so that the first request need not wait. */
  prepare() {
    this.client ??= this.open();
  }

  /**
   * Respond to a request. Never rejects.
   *
   * @param {Request} request
   * @returns {Promise<Response>}
   */
  async respond(request) {
    try {
      return { status: 200, body: await this.body(request) };
    } catch (error) {
      const failure =
        error instanceof Failure ? error : new Failure(500, "INTERNAL", String(error));
      const { status, code, message } = failure;
      return { status, body: JSON.stringify({ error: code, message }) };
    }
  }

  async body({ method, url, headers }) {
    if (method !== "GET") throw new Failure(405, "METHOD_NOT_ALLOWED", "only GET is supported");
    const { profile, flags } = parseUrl(url);
    const context = parseContext(decoded(headers.context ?? ""));
    const snapshot = await this.load();
    this.checkProfile(profile, snapshot);
    const version = this.versionFor(snapshot, headers["entity-id"]);
    if (version.meta.format === FREEFORM) return this.freeform(version, flags);
    const engine = this.engineOf(version);
    return this.featureFlags(engine, flags, engine.context(context));
  }

  /** Return the flag set; throw a Failure if there is none, however long the store takes. */
  async load() {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(
        () => reject(new Error("the store did not respond in time")),
        this.deadlineMs,
      );
    });
    try {
      this.prepare();
      const snapshot = await Promise.race([this.client.snapshot(), late]);
      if (snapshot.provider === "appconfig") return snapshot;
    } catch (error) {
      const code = error?.name === "ConfigurationError" ? 500 : 503;
      throw new Failure(
        code,
        "NOT_LOADED",
        `flagstore has no flags yet: ${error?.message ?? error}`,
      );
    } finally {
      clearTimeout(timer);
    }
    throw new Failure(
      500,
      "WRONG_SOURCE",
      "the source in FLAGSTORE_SOURCE is not one of AWS AppConfig",
    );
  }

  checkProfile(profile, snapshot) {
    if (profile === snapshot.meta.profile || profile === this.profile) return;
    if (this.profile === "") {
      this.profile = profile;
      return;
    }
    const known = `this source is ${this.profile}, or by its IDs ${snapshot.meta.profile}`;
    const remedy = "set FLAGSTORE_APPCONFIG_PROFILE to the names in the handler's path";
    throw new Failure(
      404,
      "PROFILE_NOT_FOUND",
      `${profile} is not here: ${known}. If it should be, ${remedy}`,
    );
  }

  /** Return the version that an entity has, or without one this process. */
  versionFor(snapshot, header) {
    if (!snapshot.twoVersions) {
      this.rollout = undefined;
      return snapshot;
    }
    try {
      if (this.rollout?.snapshot !== snapshot) this.rollout = new Rollout(snapshot, this.rollout);
      const { stale } = this.client.info();
      const percentage = this.rollout.percentage(snapshot.progress, this.now(), stale);
      const entity = Buffer.from(decoded(header ?? ""));
      return this.rollout.hasNew(entity, percentage) ? this.rollout.new : snapshot;
    } catch (error) {
      this.warnOnce(`a gradual deployment is ignored: ${error?.name}`);
      return snapshot;
    }
  }

  engineOf(snapshot) {
    let engine = this.engines.get(snapshot);
    if (engine === undefined) {
      engine = new AppConfigEngine(snapshot, this.warn);
      this.engines.set(snapshot, engine);
    }
    return engine;
  }

  /** Return all flags or those that are asked for, by key; if one is asked for, only this one. */
  featureFlags(engine, asked, context) {
    if (asked.length === 1) {
      const found = this.evaluate(engine, asked[0], context);
      if (found.error) throw this.failure(engine, asked[0], found.error);
      return this.flagOf(found);
    }
    const flags = [];
    for (const key of asked.length > 0 ? new Set(asked) : engine.items.keys("flags")) {
      const found = this.evaluate(engine, key, context);
      if (found.error === "") flags.push([key, this.flagOf(found)]);
      else this.warnOnce(`${this.failure(engine, key, found.error).message}. Responses lack it`);
    }
    return objectOf(flags);
  }

  evaluate(engine, key, context) {
    const found = engine.evaluate(key, context);
    if (found.error !== "FLAG_NOT_FOUND") {
      this.count(key, found.error === "" && found.config, found.variant);
    }
    return found;
  }

  count(key, isOn, variant) {
    this.client.usage?.count("appconfig", key, [isOn ? 1 : 0, variant], { known: true });
  }

  freeform(snapshot, flags) {
    if (flags.length > 0) {
      throw new Failure(
        400,
        "NOT_FEATURE_FLAGS",
        "flag= is for profiles of feature flags; this is freeform",
      );
    }
    const keys = snapshot.keys("flags");
    for (const key of keys) this.count(key, true, null);
    return objectOf(keys.map((key) => [key, snapshot.text("flags", key)]));
  }

  flagOf(found) {
    let flag = this.flags.get(found);
    if (flag === undefined) {
      const fields = members(found.json);
      fields.set("enabled", String(found.config));
      if (found.variant !== null) fields.set("_variant", JSON.stringify(found.variant));
      flag = objectOf(fields);
      this.flags.set(found, flag);
    }
    return flag;
  }

  failure(engine, key, error) {
    const flag = `flag ${JSON.stringify(key)}`;
    if (error === "FLAG_NOT_FOUND") return new Failure(404, error, `there is no ${flag}`);
    if (error !== "UNSUPPORTED") return new Failure(500, error, `${flag} is damaged`);
    const usesSplit = !engine.ownSplit && engine.items.text("flags", key).includes("split");
    const remedy = usesSplit
      ? `with the source's option split_hash=${SPLIT_HASH}, "split" is evaluated by flagstore's hash`
      : "all context is text here; docs/evaluate.md lists what AWS leaves open";
    return new Failure(
      400,
      error,
      `a rule of ${flag} cannot be evaluated for this context: ${remedy}`,
    );
  }

  warnOnce(message) {
    if (this.warned.has(message) || this.warned.size >= MAX_WARNINGS) return;
    this.warned.add(message);
    this.warn(`flagstore: ${message}`);
  }
}

// -- requests
// --------------------------------------------------------------------------------------

/** Return the profile as `<application>/<environment>/<profile>`, and the flags asked for. */
function parseUrl(url) {
  const [, path, query] = /^([^?]*)\??([^]*)$/.exec(url);
  const names = PATH.exec(path)?.slice(1);
  if (!names) {
    const expected = "/applications/<A>/environments/<E>/configurations/<P>";
    throw new Failure(404, "NOT_FOUND", `the only path is ${expected}`);
  }
  const flags = new URLSearchParams(query).getAll("flag").filter((key) => key !== "");
  try {
    return { profile: names.map(decodeURIComponent).join("/"), flags };
  } catch {
    throw new Failure(400, "INVALID_PATH", "a name in the path is not percent-encoded UTF-8");
  }
}

/** Return the bytes of a header as text: UTF-8, or Latin-1 if they are not. */
function decoded(header) {
  const bytes = Buffer.from(header, BYTES);
  const text = bytes.toString();
  return text.includes("\ufffd") && !Buffer.from(text).equals(bytes) ? header : text;
}

/** Return the context in a header: `key=value[,key=value]`. */
function parseContext(header) {
  const context = new Map();
  for (const field of header.split(",").map((text) => text.trim())) {
    const at = field.indexOf("=");
    if (at > 0) context.set(field.slice(0, at).trim(), field.slice(at + 1).trim());
    else if (field !== "") {
      throw new Failure(400, "CONTEXT_INVALID", "the header Context must be key=value[,key=value]");
    }
  }
  return context;
}

module.exports = { Agent };
