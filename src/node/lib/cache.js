"use strict";

/**
 * The flag set in memory: loaded once, refreshed when it is used, never replaced by an older one.
 *
 * Nothing runs between calls, because Lambda freezes an idle process. A call checks for fresh flags
 * first, at most once per TTL. The same rules as flagstore/cache.py.
 */

const { applyDeltas } = require("./deltas.js");
const { ConfigurationError, NotLoadedError } = require("./errors.js");
const { samePublication } = require("./keys.js");
const {
  FIRST_LOAD_S,
  REFRESH_S,
  between,
  nextBudget,
  notLoaded,
  pauseAfter,
} = require("./limits.js");
const { Loader } = require("./loader.js");
const { log } = require("./log.js");
const { Segments } = require("./segments.js");
const { Turns } = require("./turns.js");

/** Holds the flag set of one source. */
class SnapshotCache {
  /** The flag set in memory; undefined before the first load. */
  current;
  /** Whether the last attempt to reach the store failed. */
  stale = false;
  /** Start of the last check with the provider that is known, in milliseconds since the epoch. */
  checkedAt = 0;

  #source;
  #open;
  #ttlS;
  #replicas;
  #clock;
  #monotonic;
  #store;
  #loader;
  #turns = new Turns();
  #segments;
  #error;
  #failures = 0;
  /** How many chunks had been read at the last failure. */
  #kept = 0;
  #stalenessLogged = false;
  #budgetS = REFRESH_S;
  #due = { wall: 0, monotonic: 0 };
  #heard = { wall: 0, monotonic: 0 };
  // What is under way: calls at the same time share it.
  #preloading;
  #preloaded;
  #loading;
  #refreshing;

  /**
   * @param {string} source
   * @param {object} options
   * @param {() => import("../index.js").Store} options.open returns the store; called once
   * @param {number} options.ttlS
   * @param {number} options.replicas
   * @param {() => number} options.clock seconds since the epoch
   * @param {() => number} options.monotonic seconds, as in the store's deadlines
   */
  constructor(source, { open, ttlS, replicas, clock, monotonic }) {
    this.#source = source;
    this.#open = open;
    this.#ttlS = ttlS;
    this.#replicas = replicas;
    this.#clock = clock;
    this.#monotonic = monotonic;
    this.#segments = new Segments(this.#turns, monotonic, {
      current: () => this.current,
      read: (segment, deadline) => this.#opened().segment(segment, deadline),
    });
  }

  /**
   * Return the current flag set, after a freshness check if one is due.
   *
   * @throws {NotLoadedError} while none has been loaded
   */
  async snapshot({ segments = false } = {}) {
    const by = this.current === undefined ? this.#monotonic() + FIRST_LOAD_S : undefined;
    await this.#upToDate();
    if (segments) await this.#segments.loadAll(by).catch(() => undefined);
    return this.current;
  }

  /**
   * Start to load the flag set and then its large segments by a deadline. A first use meanwhile waits
   * for the flag set, and tries again what failed. Logs a failure.
   */
  preload(deadline) {
    const flags = this.#loadInTurn(deadline);
    this.#preloading = flags.catch(() => undefined);
    const all = flags.then(() => this.#segments.loadAll(deadline));
    this.#preloaded = all.catch((error) => {
      log(
        `flags of '${this.#source}' could not be loaded at the start, the first use will retry: ` +
          `${error?.name}: ${error?.message}`,
      );
    });
  }

  /** Resolve once what `preload` started has ended, whatever came of it. */
  async preloaded() {
    await this.#preloaded;
  }

  /** Prepare the first read (TLS context) without reading. */
  prepare() {
    this.#opened();
    this.#store.prepare();
  }

  /** Close the connection to the store. Idempotent. */
  close() {
    void this.#turns.take(async () => this.#store?.close(), FIRST_LOAD_S);
  }

  /** Return how often the store has asked to slow down. */
  throttled() {
    return this.#store?.throttled ?? 0;
  }

  /** Return why the flags are stale, or a large segment could not be read; "" if all is well. */
  error() {
    return String((this.#error ?? this.#segments.error())?.message ?? "");
  }

  /**
   * Return the seconds since the store last confirmed the flag set.
   *
   * By the clock that has advanced further: the wall clock may be set back, the other may stop.
   */
  ageS() {
    const wall = this.#clock() - this.#heard.wall;
    return Math.max(wall, this.#monotonic() - this.#heard.monotonic, 0);
  }

  // -- freshness ----------------------------------------------------------------------------------

  async #upToDate() {
    if (this.current === undefined) {
      this.#loading ??= this.#firstLoad().finally(() => {
        this.#loading = undefined;
      });
      await this.#loading;
    } else if (this.#isDue()) {
      this.#refreshing ??= this.#refreshInTurn().finally(() => {
        this.#refreshing = undefined;
      });
      await this.#refreshing;
    }
  }

  async #firstLoad() {
    const deadline = this.#monotonic() + FIRST_LOAD_S;
    await this.#preloading;
    if (this.current !== undefined) return;
    if (this.#error !== undefined && !this.#isDue()) throw this.#error;
    try {
      await this.#loadInTurn(deadline);
    } catch (error) {
      if (error instanceof ConfigurationError) throw error;
      const reason = notLoaded(error);
      this.#failed(reason);
      throw reason;
    }
  }

  /** Load the first flag set by a deadline, which includes the wait for the turn. */
  async #loadInTurn(deadline) {
    const found = await this.#turns.take(async () => {
      const begun = this.#now();
      if (this.current === undefined) await this.#loaded(await this.#load(deadline), begun);
      return this.current;
    }, deadline - this.#monotonic());
    if (found === undefined) {
      throw new NotLoadedError(`another call is still reading '${this.#source}'`);
    }
  }

  async #load(deadline, options) {
    const found = await this.#opened().load(deadline, options);
    if (found !== options?.current) this.#segments.forgetDamage();
    return found;
  }

  async #loaded(found, begun) {
    this.current = found;
    this.#succeeded(begun);
    // The source state knows who has which version.
    if (found.twoVersions) await this.#refresh(found);
  }

  async #refreshInTurn() {
    await this.#turns.take(async () => {
      if (this.#isDue()) await this.#refresh(this.current);
    }, 0);
  }

  /** Check for a newer flag set, and load it. Never rejects. */
  async #refresh(current) {
    const [budgetS, begun] = [this.#budgetS, this.#now()];
    this.#budgetS = REFRESH_S;
    try {
      await this.#ask(current, this.#monotonic() + budgetS, begun);
    } catch (error) {
      this.#budgetS = nextBudget(budgetS, error);
      this.#failed(notLoaded(error));
      return;
    }
    this.#succeeded(begun);
  }

  async #ask(current, deadline, begun) {
    const loader = this.#opened();
    let state = await loader.state(deadline);
    const goesBack =
      !samePublication(state.publication, current) && state.published <= current.token;
    // Either a replica lags, or the store has lost its history: consistent reads decide, of the
    // state and the record loaded last, which may reach another region before the state.
    if (goesBack) state = await loader.state(deadline, { consistent: true });
    if (samePublication(state.publication, current)) {
      this.checkedAt = Math.max(this.checkedAt, state.checkedAt);
      this.#heard = begun;
      current.progress = state.deployment;
      await this.#replace(current.standIns.size ? current.again() : current, current, deadline);
      return;
    }
    const found =
      (state.deltas.length && applyDeltas(current, state)) ||
      (await this.#load(deadline, {
        current,
        atLeast: state.publication,
        consistent: goesBack,
      }));
    this.checkedAt = state.checkedAt;
    this.#heard = begun;
    found.progress = state.deployment;
    // A restored source state may be older than the snapshot record.
    if (samePublication(found, current)) return;
    await this.#replace(found, current, deadline);
    if (goesBack && found.token <= current.token) {
      log(
        `the store of '${this.#source}' has lost its history: version ${found.token} follows ` +
          `version ${current.token}`,
      );
    }
  }

  /**
   * Switch to another flag set, after reading those large segments in memory that changed.
   *
   * If one cannot be read, keep its earlier version, so that every flag that could be evaluated
   * still can; then throw the error.
   */
  async #replace(found, current, deadline) {
    if (found === current) return;
    const failed = await this.#segments.carryOver(found, current, deadline);
    if (!samePublication(found, current) || !sameKeys(found.standIns, current.standIns)) {
      this.current = found;
    }
    if (failed !== undefined) throw failed;
  }

  #isDue() {
    return this.#clock() >= this.#due.wall || this.#monotonic() >= this.#due.monotonic;
  }

  #now() {
    return { wall: this.#clock(), monotonic: this.#monotonic() };
  }

  #askAgainIn(seconds, { wall, monotonic } = this.#now()) {
    this.#due = { wall: wall + seconds, monotonic: monotonic + seconds };
  }

  /** Succeed with a read that began then: a process may be frozen before the response arrives. */
  #succeeded(begun) {
    this.#failures = this.#kept = 0;
    this.stale = false;
    this.#error = undefined;
    this.#heard = begun;
    this.#askAgainIn(between(0.9 * this.#ttlS, 1.1 * this.#ttlS), begun);
    if (this.#stalenessLogged) {
      this.#stalenessLogged = false;
      log(`flags of '${this.#source}' are fresh again`);
    }
  }

  #failed(error) {
    // A large set that is throttled loads chunk by chunk: progress keeps the pauses short.
    const kept = this.#loader?.chunksKept ?? 0;
    this.#failures = kept > this.#kept ? 1 : this.#failures + 1;
    this.#kept = kept;
    this.stale = true;
    this.#error = error;
    this.#askAgainIn(pauseAfter(this.#failures));
    if (!this.#stalenessLogged && this.current !== undefined) {
      this.#stalenessLogged = true;
      log(`flags of '${this.#source}' are stale: ${error.message}`);
    }
  }

  /** Return what reads the store, which is opened at the first read. */
  #opened() {
    if (this.#loader === undefined) {
      this.#store = this.#open();
      this.#loader = new Loader(this.#source, this.#store, this.#replicas, (segment) =>
        this.#segments.load(segment),
      );
    }
    return this.#loader;
  }
}

function sameKeys(one, other) {
  return one.size === other.size && [...one.keys()].every((key) => other.has(key));
}

module.exports = { SnapshotCache };
