"use strict";

/** Large segments of the flag set in memory: read when they are first needed, and kept. */

const { ConfigurationError, CorruptSnapshotError, StoreUnavailableError } = require("./errors.js");
const { COOL_DOWN_S, REFRESH_S, nextBudget, notLoaded } = require("./limits.js");

/** In the place of a digest: a pause for all segments. */
const ALL = "";

class Segments {
  #turns;
  #monotonic;
  #current;
  #read;
  #budgetS = REFRESH_S;
  /** Digest of a damaged segment, or ALL → end and reason of the pause. */
  #pauses = new Map();
  /** Digest → the read under way: calls at the same time share it. */
  #underWay = new Map();

  /**
   * @param {import("./turns.js").Turns} turns of the store
   * @param {() => number} monotonic seconds
   * @param {object} cache
   * @param {() => import("./snapshot.js").Snapshot | undefined} cache.current
   * @param {(segment: object, deadline: number) => Promise<object>} cache.read a `HeldSegment`
   */
  constructor(turns, monotonic, { current, read }) {
    this.#turns = turns;
    this.#monotonic = monotonic;
    this.#current = current;
    this.#read = read;
  }

  /**
   * Return a large segment, from memory or else from the store.
   *
   * Without a deadline, the time limit is that of a refresh, and a failure starts a pause.
   *
   * @throws {NotLoadedError} if it cannot be read now
   */
  async load(segment, deadline) {
    const digest = segment.dataDigest;
    const held = this.#current()?.memory.get(digest); // perhaps read for a newer flag set
    if (held !== undefined) return held;
    if (!this.#underWay.has(digest)) {
      const reading = this.#load(segment, deadline).finally(() => this.#underWay.delete(digest));
      this.#underWay.set(digest, reading);
    }
    return this.#underWay.get(digest);
  }

  /**
   * Load those that are not in memory, each as {@link load} does.
   *
   * @throws {NotLoadedError} the first failure, after trying all
   */
  async loadAll(deadline) {
    let failed;
    for (const segment of this.#missing()) {
      try {
        await this.load(segment, deadline);
      } catch (error) {
        failed ??= error;
      }
    }
    if (failed !== undefined) throw failed;
  }

  /**
   * Read those segments of a new flag set whose earlier versions are in memory; if one cannot be
   * read, let the earlier one stand in. Within a turn.
   *
   * @returns {Promise<Error | undefined>} the first failure
   */
  async carryOver(found, current, deadline) {
    let failed;
    for (const [key, segment] of found.large) {
      const earlier = current.heldSegment(key);
      if (found.memory.has(segment.dataDigest) || earlier === undefined) continue;
      try {
        found.memory.add(segment.dataDigest, await this.#readOne(segment, deadline));
      } catch (error) {
        failed ??= notLoaded(error);
        found.standIns.set(key, earlier);
      }
    }
    return failed;
  }

  /** Forget which segments were damaged: another body was read. */
  forgetDamage() {
    for (const digest of [...this.#pauses.keys()]) {
      if (digest !== ALL) this.#pauses.delete(digest);
    }
  }

  /** Return why a segment that is not in memory could not be read, if that is so. */
  error() {
    const missing = new Set(this.#missing().map((segment) => segment.dataDigest));
    for (const [digest, { error }] of this.#pauses) {
      if (missing.has(digest) || (missing.size && digest === ALL)) return error;
    }
    return undefined;
  }

  async #load(segment, deadline) {
    const digest = segment.dataDigest;
    for (const key of [ALL, digest]) {
      const pause = this.#pauses.get(key);
      if (pause !== undefined && this.#monotonic() < pause.until) throw pause.error;
    }
    const by = deadline ?? this.#monotonic() + this.#budgetS;
    let held;
    try {
      held = await this.#turns.take(() => this.#readOne(segment, by), by - this.#monotonic());
      if (held !== undefined) {
        this.#budgetS = REFRESH_S;
        this.#pauses.delete(ALL);
      }
    } catch (cause) {
      if (cause instanceof ConfigurationError) throw cause;
      const error = notLoaded(cause);
      this.#budgetS = nextBudget(this.#budgetS, error);
      if (deadline === undefined) this.#pause(digest, error);
      throw error;
    }
    if (held !== undefined) return held;
    throw new StoreUnavailableError("another call is still reading for this source");
  }

  #pause(digest, error) {
    const key = error instanceof CorruptSnapshotError ? digest : ALL;
    this.#pauses.set(key, { until: this.#monotonic() + COOL_DOWN_S, error });
  }

  async #readOne(segment, deadline) {
    const digest = segment.dataDigest;
    const held = this.#current()?.memory.get(digest);
    if (held !== undefined) return held;
    const found = await this.#read(segment, deadline);
    const current = this.#current();
    if (isOf(current, digest)) current.memory.add(digest, found);
    return found;
  }

  #missing() {
    const current = this.#current();
    if (current === undefined) return [];
    return [...current.large.values()].filter((each) => !current.memory.has(each.dataDigest));
  }
}

function isOf(snapshot, digest) {
  if (snapshot === undefined) return false;
  return [...snapshot.large.values()].some((segment) => segment.dataDigest === digest);
}

module.exports = { Segments };
