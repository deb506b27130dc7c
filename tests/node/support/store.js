"use strict";

/** What a reader reads, from records in memory, by a clock that only tests move. */

const { Client } = require("../../../src/node/index.js");

/** A clock that moves only by `advance`; both kinds of seconds. */
class FakeClock {
  #now = 1_795_000_000;

  wall = () => this.#now;
  monotonic = () => this.#now - 1_700_000_000;

  advance(seconds) {
    this.#now += seconds;
  }
}

/**
 * A store of records, which notes each call before it returns or fails: `read <namespace>`, or
 * `chunk <token>/<number>`; `read!` and `chunk!` where it is consistent.
 */
class RecordsStore {
  throttled = 0;
  calls = [];
  /** Key as one text → record. */
  records = new Map();
  /** What reads that are not consistent still see of some records. */
  lag = new Map();
  error;
  /** How long a response takes, by the clock; past the deadline there is none. */
  latencyS = 0;
  /** Whether data is still arriving when time runs out. */
  receiving = false;
  /** Called at every call, and awaited. */
  onCall = () => {};
  #clock;

  constructor(clock) {
    this.#clock = clock;
  }

  async read({ namespace, key }, { consistent, deadline }) {
    const place = placeOf(namespace, key);
    const name = `${callOf(namespace, key, consistent)}`;
    this.calls.push(name);
    await this.onCall(name);
    this.#wait(name, deadline);
    if (this.error !== undefined) throw this.error;
    const record = this.records.get(place);
    const found = consistent ? record : (this.lag.get(place) ?? record);
    return found === undefined ? undefined : { ...found };
  }

  prepare() {
    this.calls.push("prepare");
  }

  close() {
    this.calls.push("close");
  }

  /** Return the calls since the last time. */
  taken() {
    return this.calls.splice(0);
  }

  #wait(name, deadline) {
    if (!this.latencyS) return;
    const left = deadline - this.#clock.monotonic();
    this.#clock.advance(Math.max(0, Math.min(left, this.latencyS)));
    if (left < this.latencyS) {
      const { StoreUnavailableError } = require("../../../src/node/index.js");
      const { receiving } = this;
      throw new StoreUnavailableError(`${name}: no response in time`, { receiving });
    }
  }
}

function callOf(namespace, key, consistent) {
  const mark = consistent ? "!" : "";
  if (!namespace.includes("$body")) return `read${mark} ${namespace}`;
  const [token, , number] = key.split("/");
  return `chunk${mark} ${Number(token)}/${Number(number)}`;
}

/** Return a key as one text. */
function placeOf(namespace, key) {
  return `${namespace}\n${key}`;
}

/** Return a record from values typed as DynamoDB's, as the vectors have them. */
function recordOf(typed) {
  const read = { N: Number, S: String, B: (text) => Buffer.from(text, "base64") };
  return Object.fromEntries(
    Object.entries(typed).map(([name, value]) => {
      const [[kind, text]] = Object.entries(value);
      return [name, read[kind](text)];
    }),
  );
}

/** Bring a store to the next step of a vector. */
function applyStep(store, step) {
  for (const [namespace, key, record] of step.records) {
    if (record === null) store.records.delete(placeOf(namespace, key));
    else store.records.set(placeOf(namespace, key), recordOf(record));
  }
  store.lag = new Map(
    step.lag.map(([namespace, key, record]) => [placeOf(namespace, key), recordOf(record)]),
  );
}

/** Return a client of a store by its clock. */
function clientOf(store, clock, options = {}) {
  const clocks = { clock: clock.wall, monotonic: clock.monotonic };
  return new Client("prod", { store, replicas: 1, ...clocks, ...options });
}

module.exports = { FakeClock, RecordsStore, applyStep, clientOf, placeOf };
