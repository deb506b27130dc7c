"use strict";

/** Unleash's SDK for Node.js on a client's flags: see unleash.d.ts. */

const { EventEmitter } = require("node:events");

const { log } = require("../lib/log.js");
const { Latest } = require("./latest.js");

const RETRY_MS = 1_000;

function repository(client) {
  return new SnapshotRepository(client);
}

function withUsage(unleash, client) {
  if (client.usage === undefined) return unleash;
  const variant = (method) => (name, ...more) => {
    const found = unleash[method](name, ...more);
    client.usage.count("unleash", name, [found.feature_enabled ? 1 : 0, found.name]);
    return found;
  };
  const counting = {
    isEnabled(name, ...more) {
      const isEnabled = unleash.isEnabled(name, ...more);
      client.usage.count("unleash", name, [isEnabled ? 1 : 0]);
      return isEnabled;
    },
    getVariant: variant("getVariant"),
    forceGetVariant: variant("forceGetVariant"),
  };
  const get = (_, name) => (Object.hasOwn(counting, name) ? counting[name] : unleash[name]);
  return new Proxy(unleash, { get });
}

class SnapshotRepository extends EventEmitter {
  #latest;
  /** The view that the SDK has been told of. */
  #announced;
  #retry;
  #stopped = false;

  constructor(client) {
    super();
    const newView = (snapshot) => ({ snapshot });
    this.#latest = new Latest(client, ["unleash", "Unleash"], newView);
  }

  async start() {
    try {
      await this.refresh();
    } catch (error) {
      this.#report(error);
      // Until it is ready, the SDK does not ask for features, so no use of them could try again.
      if (!this.#stopped) this.#retry = setTimeout(() => this.start(), RETRY_MS).unref();
    }
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.removeAllListeners();
  }

  async refresh() {
    const view = await this.#latest.now();
    if (view === this.#announced || this.#stopped) return false;
    const first = this.#announced === undefined;
    this.#announced = view;
    if (first) this.emit("ready");
    if (this.listenerCount("changed") > 0) this.emit("changed", this.getToggles());
    return true;
  }

  getToggle(name) {
    return this.#use()?.item("flags", name);
  }

  getToggles() {
    return this.#use()?.items("flags") ?? [];
  }

  getTogglesWithSegmentData() {
    return this.getToggles().map((toggle) => ({
      ...toggle,
      strategies: toggle.strategies?.map((strategy) => ({
        ...strategy,
        segments: strategy.segments?.map((id) => this.getSegment(id)),
      })),
    }));
  }

  /** Return a segment; undefined, which no context fulfills, also for one that could not be read. */
  getSegment(id) {
    const snapshot = this.#use();
    const key = String(id);
    return snapshot?.hasSegment(key) ? snapshot.item("segments", key) : undefined;
  }

  /** Return the flag set in memory; a check for a newer one, if it is due, goes on meanwhile. */
  #use() {
    if (!this.#stopped) this.refresh().catch((error) => this.#report(error));
    return this.#latest.view?.snapshot;
  }

  #report(error) {
    // A copy, since the SDK changes the message.
    const emit = () => this.emit("error", new Error(error.message, { cause: error }));
    const tell = this.listenerCount("error") > 0 ? emit : () => log(error.message);
    if (!this.#stopped) this.#latest.report(error, tell);
  }
}

module.exports = { repository, withUsage };
