"use strict";

/** Split's SDKs with pluggable storage, on a client's flags: see split.d.ts. */

const { ConfigurationError } = require("../index.js");
const { log } = require("../lib/log.js");
const { Latest } = require("./latest.js");

const CONTROL = "control";
const ROOT = "SPLITIO.";
/** First part of a key after its root → section of a flag set. */
const SECTIONS = { split: "flags", rbsegment: "rule_based_segments" };
const COUNTER = /^(?:splits|rbsegments|segment\..+)\.till$/s;

function storageWrapper(client) {
  const latest = new Latest(client, ["split", "Split"], (snapshot) => new View(snapshot));
  const ask = (find) => async (key, item) => find(await latest.now(), key, item);
  // A plain object: the SDK accepts no instance of a class.
  return {
    ...connection(latest),
    get: ask((view, key) => view.get(key)),
    getMany: ask((view, keys) => keys.map((key) => view.get(key))),
    getKeysByPrefix: ask((view, prefix) => view.keys(prefix)),
    itemContains: ask((view, key, item) => view.set(key).has(item)),
    getItems: ask((view, key) => [...view.set(key)]),
    ...DROPPED,
  };
}

function usageListener(client) {
  return {
    logImpression({ impression: { feature, treatment, changeNumber } }) {
      if (treatment === CONTROL) return; // not evaluated
      const result = [treatment, changeNumber >= 0 ? changeNumber : null];
      client.usage?.count("split", feature, result, { known: true });
    },
  };
}

/** What the SDK writes is dropped: impressions, events, counts, telemetry. Queues are empty. */
const DROPPED = {
  set: async () => false,
  getAndSet: async () => null,
  del: async () => false,
  incr: async () => 0,
  decr: async () => 0,
  pushItems: async () => {},
  popItems: async () => [],
  getItemsCount: async () => 0,
  addItems: async () => {},
  removeItems: async () => {},
};

/** Return the methods that open and close a storage. */
function connection(latest) {
  let open = true;
  return {
    async connect() {
      // Once, whatever comes of it: evaluations try again. A process that is frozen between calls
      // would not get far with attempts of its own, and the SDK evaluates nothing before.
      await load(latest);
      if (!open) throw new Error("the client was destroyed"); // or the SDK would start its timers
    },
    async disconnect() {
      open = false;
    },
  };
}

/** Load flags, and log a failure; throw ConfigurationError if trying again is of no use. */
async function load(latest) {
  try {
    await latest.refresh();
  } catch (error) {
    latest.report(error, () => log(error.message));
    if (error instanceof ConfigurationError) throw error;
  }
}

/** One flag set under the SDK's keys; indexes are built on first use. */
class View {
  #members = new Map();
  #index;

  constructor(snapshot) {
    this.snapshot = snapshot;
  }

  /** Return a flag or rule-based segment as JSON, a counter, or null. */
  get(key) {
    const [, kind, name] = parts(key);
    if (Object.hasOwn(SECTIONS, kind)) return this.snapshot.text(SECTIONS[kind], name) ?? null;
    if (kind === "trafficType") return this.#indexes().types.get(name)?.toString() ?? null;
    return COUNTER.test(`${kind}.${name}`) ? String(this.snapshot.revision) : null;
  }

  /** Return the keys of all flags or rule-based segments. */
  keys(prefix) {
    const [before, kind, start] = parts(prefix);
    if (!Object.hasOwn(SECTIONS, kind)) return [];
    const names = this.snapshot.keys(SECTIONS[kind]).filter((name) => name.startsWith(start));
    return names.map((name) => `${before}${kind}.${name}`);
  }

  /**
   * Return a segment's keys, or the names of the flags in a flag set.
   *
   * @throws {NotLoadedError} if a large segment could not be read: the SDK returns control
   */
  set(key) {
    const [, kind, name] = parts(key);
    if (kind === "flagSet") return this.#indexes().sets.get(name) ?? new Set();
    if (kind !== "segment") return new Set();
    const kept = this.#members.get(name);
    if (kept !== undefined) return kept;
    const segment = this.snapshot.item("segments", name);
    if (segment === undefined) return new Set(); // not kept: callers may invent any name
    const members = new Set(segment.keys);
    this.#members.set(name, members);
    return members;
  }

  /** Return the flags of each flag set that the source has, and the flags of each traffic type. */
  #indexes() {
    if (this.#index !== undefined) return this.#index;
    const [sets, types] = [new Map(), new Map()];
    const fetched = this.snapshot.meta.sets;
    for (const flag of this.snapshot.items("flags")) {
      types.set(flag.trafficTypeName, (types.get(flag.trafficTypeName) ?? 0) + 1);
      for (const set of flag.sets ?? []) {
        if (fetched?.length && !fetched.includes(set)) continue;
        sets.set(set, (sets.get(set) ?? new Set()).add(flag.name));
      }
    }
    this.#index = { sets, types };
    return this.#index;
  }
}

/** Split a key into what comes before its kind, its kind, and the rest. */
function parts(key) {
  const start = key.indexOf(ROOT) + ROOT.length;
  const end = key.indexOf(".", start);
  if (end < 0) return [key.slice(0, start), key.slice(start), ""];
  return [key.slice(0, start), key.slice(start, end), key.slice(end + 1)];
}

module.exports = { storageWrapper, usageListener };
