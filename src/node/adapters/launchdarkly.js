"use strict";

/** LaunchDarkly's SDKs for Node.js, 6 to 9, on a client's flags: see launchdarkly.d.ts. */

const { NotLoadedError } = require("../index.js");
const { Latest } = require("./latest.js");

/** LaunchDarkly's kind of data → section of a flag set. */
const SECTIONS = { features: "flags", segments: "segments" };
/** Errors of evaluations that LaunchDarkly does not count. */
const UNCOUNTED = ["CLIENT_NOT_READY", "USER_NOT_SPECIFIED"];

/** Clients whose flags are counted by a hook, which sees no prerequisites: the store counts these. */
const hooked = new WeakSet();

function featureStore(client, sdk) {
  if (typeof sdk?.init !== "function") {
    throw new TypeError("pass LaunchDarkly's SDK as well: featureStore(client, LaunchDarkly)");
  }
  // SDKs 6 and 7 give their configuration, 8 and 9 a context that has it.
  return (given) => {
    const { logger } = given.basicConfiguration ?? given;
    return new SnapshotFeatureStore(client, sdk.PersistentDataStoreWrapper, logger);
  };
}

function usageHook(client) {
  if (client.usage !== undefined) hooked.add(client);
  return {
    getMetadata: () => ({ name: "flagstore" }),
    afterEvaluation({ flagKey, context }, data, { variationIndex, reason }) {
      const { errorKind } = reason;
      if (client.usage === undefined || UNCOUNTED.includes(errorKind)) return data;
      const isFound = errorKind !== "FLAG_NOT_FOUND";
      const version = isFound ? client.current()?.item("flags", flagKey)?.version : undefined;
      count(client, { key: flagKey, variation: variationIndex, version, context });
      return data;
    },
  };
}

function usageEvents(client) {
  return {
    sendEvent({ kind, user, context = user, ...result }) {
      // Without a key, SDK 6 has evaluated nothing.
      if (kind !== "feature" || (context?.kind ?? context?.key ?? null) === null) return;
      count(client, { ...result, context });
    },
    flush: (callback) => (callback ? callback(null) : Promise.resolve()),
    close() {},
  };
}

/** Count an evaluation; without a version, the flag is unknown. */
function count(client, { key, variation, version, context }) {
  const found = Number.isSafeInteger(version) && version >= 0 ? version : null;
  const options = { known: found !== null, kinds: context && kindsOf(context) };
  client.usage?.count("launchdarkly", key, [variation, found], options);
}

function kindsOf({ kind = "user", ...more }) {
  return kind === "multi" ? Object.keys(more) : [kind];
}

class SnapshotFeatureStore {
  #client;
  #latest;
  #logger;
  /** The flag set of the evaluation that is going on in this turn of the event loop. */
  #view;
  /** The prerequisites that it has needed; undefined if they are not counted. */
  #needed;

  // SyncFunction writes the store.
  init = (_data, callback) => callback?.();
  upsert = (_kind, _item, callback) => callback?.();
  delete = (_kind, _key, _version, callback) => callback?.();
  close = () => {};

  constructor(client, Wrapper, logger) {
    this.#client = client;
    const decoder = Wrapper === undefined ? plainItem : wrappedItem(Wrapper);
    const newView = (snapshot) => new View(snapshot, decoder);
    this.#latest = new Latest(client, ["launchdarkly", "LaunchDarkly"], newView);
    this.#logger = logger;
  }

  get(kind, key, callback) {
    if (this.#view === undefined) {
      const isCounted = kind.namespace === "features" && hooked.has(this.#client);
      const needed = isCounted ? [] : undefined;
      this.#evaluate(callback, null, (view) => view.complete(kind, key), needed);
      return;
    }
    const item = this.#related(kind, key);
    const isCounted = item !== null && kind.namespace === "features" && this.#needed !== undefined;
    callback(isCounted ? noting(item, this.#needed) : item);
  }

  all(kind, callback) {
    this.#evaluate(callback, {}, (view) => view.all(kind, (error) => this.#report(error)));
  }

  initialized(callback) {
    this.#latest.now().then(
      () => callback(true),
      () => callback(false),
    );
  }

  /** Call back with what is found, or with *nothing*: the SDK then returns the caller's default. */
  #evaluate(callback, nothing, find, needed) {
    const evaluate = (view) => {
      [this.#view, this.#needed] = [view, needed];
      try {
        callback(find(view));
      } finally {
        [this.#view, this.#needed] = [undefined, undefined];
        for (const result of needed ?? []) count(this.#client, result);
      }
    };
    const fail = (error) => {
      this.#report(error);
      callback(nothing);
    };
    this.#latest.now().then(evaluate).catch(fail);
  }

  /** Return a prerequisite or segment of what is being evaluated. Never throws, which SDK 9 fears. */
  #related(kind, key) {
    try {
      return this.#view.item(kind, key);
    } catch (error) {
      this.#report(error);
      return null;
    }
  }

  #report(error) {
    this.#latest.report(error, () => this.#logger?.error(`flagstore: ${error.message}`));
  }
}

/** One flag set in the SDK's objects, each decoded on first use. */
class View {
  #decode;
  #items = { features: new Map(), segments: new Map() };
  /** Whether all large segments are in memory: one that could not be read may follow. */
  #hasAll = false;

  constructor(snapshot, decoder) {
    this.snapshot = snapshot;
    this.#decode = decoder(snapshot);
  }

  /** Return a flag or segment, or null. */
  item(kind, key) {
    const items = this.#items[kind.namespace];
    const kept = items.get(key);
    if (kept !== undefined) return kept;
    const item = this.#decode(kind, key);
    if (!item || item.deleted) return null; // not kept: callers may invent any number of keys
    const decoded = withCopies(item);
    items.set(key, decoded);
    return decoded;
  }

  /**
   * Return a flag or segment that can be evaluated, or null.
   *
   * @throws {NotLoadedError} if it needs a large segment that could not be read
   */
  complete(kind, key) {
    this.#hasAll ||= [...this.snapshot.large.keys()].every((name) => this.snapshot.hasSegment(name));
    const missing = this.#hasAll ? undefined : unread(this.snapshot, SECTIONS[kind.namespace], key);
    if (missing === undefined) return this.item(kind, key);
    throw new NotLoadedError(`'${key}' needs the large segment '${missing}', which cannot be read`);
  }

  /** Return all of them by key, but those that cannot be decoded or evaluated: these are reported. */
  all(kind, report) {
    return Object.fromEntries(this.#entries(kind, report));
  }

  *#entries(kind, report) {
    for (const key of this.snapshot.keys(SECTIONS[kind.namespace])) {
      try {
        const item = this.complete(kind, key);
        if (item !== null) yield [key, item];
      } catch (error) {
        report(error);
      }
    }
  }
}

/** Return the name of a large segment that is not in memory and that an item may need. */
function unread(snapshot, section, key, seen = new Set()) {
  const place = `${section}/${key}`;
  if (seen.has(place)) return undefined;
  seen.add(place);
  if (section === "segments" && !snapshot.hasSegment(key)) return key;
  const item = snapshot.item(section, key);
  if (section === "flags" && item?.on === false) return undefined; // its off variation needs none
  const clauses = (item?.rules ?? []).flatMap((rule) => rule.clauses ?? []);
  const needed = clauses.filter(({ op }) => op === "segmentMatch").flatMap(({ values }) => values);
  const places = [
    ...(item?.prerequisites ?? []).map((flag) => ["flags", flag.key]),
    ...needed.map((name) => ["segments", name]),
  ];
  for (const [kind, name] of places) {
    const found = unread(snapshot, kind, name, seen);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Return an item whose variations are read as copies: callers may change what they get. */
function withCopies(item) {
  if (!Array.isArray(item.variations)) return item;
  const variations = [...item.variations];
  for (const [index, value] of variations.entries()) {
    if (value === null || typeof value !== "object") continue;
    const get = () => structuredClone(value);
    Object.defineProperty(variations, index, { get, enumerable: true });
  }
  return { ...item, variations };
}

/**
 * Return a flag, of which the SDK reads the variation that it evaluates to, and no other one; add
 * its result to a list.
 */
function noting(flag, results) {
  const result = { key: flag.key, version: flag.version };
  results.push(result);
  const get = (variations, name) => {
    if (typeof name === "string" && /^\d+$/.test(name)) result.variation = Number(name);
    return variations[name];
  };
  return { ...flag, variations: new Proxy(flag.variations ?? [], { get }) };
}

/** Decode as SDKs 6 and 7 do, which evaluate LaunchDarkly's JSON. */
function plainItem(snapshot) {
  return (kind, key) => snapshot.item(SECTIONS[kind.namespace], key);
}

/** Decode as later SDKs do; only their wrapper of persistent stores knows how. */
function wrappedItem(Wrapper) {
  return (snapshot) => {
    const stored = {
      get(kind, key, callback) {
        const serializedItem = snapshot.text(SECTIONS[kind.namespace], key);
        callback(serializedItem && { version: 0, deleted: false, serializedItem });
      },
    };
    const wrapper = new Wrapper(stored, 0);
    return (kind, key) => {
      let found = null;
      wrapper.get(kind, key, (item) => (found = item)); // at once, as the store has no need to wait
      return found;
    };
  };
}

module.exports = { featureStore, usageEvents, usageHook };
