"use strict";

/**
 * Reads the records of one source and verifies what belongs together. One call at a time.
 *
 * Deadlines are in seconds of the store's monotonic clock.
 */

const { randomBytes } = require("node:crypto");

const { Body, checkSegment, segmentPrefix } = require("./codec.js");
const { CorruptSnapshotError, NotPublishedError, UnsupportedLayoutError } = require("./errors.js");
const {
  chunkKey,
  readSnapshotRecord,
  readState,
  samePublication,
  snapshotKey,
  stateKey,
} = require("./keys.js");
const { HeldSegment, Snapshot } = require("./snapshot.js");

/** Before the first publication. */
const NOTHING = Object.freeze({ token: 0, nonce: "" });

class Loader {
  #source;
  #store;
  #replicas;
  #loadSegment;
  /** The replica of the snapshot record that was loaded last. */
  #loadedFrom = 0;
  /** Prefix → the chunks that earlier attempts have read. */
  #begun = new Map();
  #begunBody = "";

  /**
   * @param {string} source
   * @param {import("../index.js").Store} store
   * @param {number} replicas of the snapshot record that the writer keeps
   * @param {(segment: object) => Promise<object>} loadSegment for the snapshots
   */
  constructor(source, store, replicas, loadSegment) {
    this.#source = source;
    this.#store = store;
    this.#replicas = replicas;
    this.#loadSegment = loadSegment;
  }

  /** Return how many chunks of unfinished bodies and segments are kept. */
  get chunksKept() {
    let kept = 0;
    for (const chunks of this.#begun.values()) kept += chunks.length;
    return kept;
  }

  /**
   * Read the source state.
   *
   * @throws {NotPublishedError} if the store holds nothing for the source any more
   */
  async state(deadline, { consistent = false } = {}) {
    const record = await this.#store.read(stateKey(this.#source), { consistent, deadline });
    const state = readState(record);
    if (!state.published) {
      throw new NotPublishedError(`the store no longer holds anything for '${this.#source}'`);
    }
    return state;
  }

  /**
   * Read the published set; repeat consistently if it is torn or too old.
   *
   * @param {number} deadline
   * @param {object} [options]
   * @param {Snapshot} [options.current] the flag set in memory, whose chunks are not read again
   * @param {{token: number, nonce: string}} [options.atLeast] nothing older than this publication
   * @param {boolean} [options.consistent]
   * @returns {Promise<Snapshot>} the current one if it is that publication
   */
  async load(deadline, { current, atLeast = NOTHING, consistent = false } = {}) {
    const replica = consistent ? this.#loadedFrom : randomBytes(1)[0] % this.#replicas;
    try {
      return await this.#read(replica, deadline, { current, atLeast, consistent });
    } catch (error) {
      const another = error instanceof CorruptSnapshotError || error instanceof NotPublishedError;
      if (consistent || !another) throw error;
      // Replica 0 always exists; another may lag, or be missing if the writer keeps fewer.
      return this.#read(0, deadline, { current, atLeast, consistent: true });
    }
  }

  async #read(replica, deadline, { current, atLeast, consistent }) {
    const key = snapshotKey(this.#source, replica);
    const found = await this.#store.read(key, { consistent, deadline });
    if (found === undefined) throw await this.#absent(deadline, consistent && !replica);
    const record = readSnapshotRecord(found);
    if (record.token <= atLeast.token && !samePublication(record, atLeast)) {
      throw new NotPublishedError(
        `the snapshot record of '${this.#source}' is behind its source state`,
      );
    }
    if (current !== undefined && samePublication(record, current)) return current;
    const body = await this.#body(record, deadline, consistent);
    this.#loadedFrom = replica;
    const digests = new Set([...body.large.values()].map((segment) => segment.dataDigest));
    const memory = current?.memory.only(digests);
    return new Snapshot(this.#source, record, body, this.#loadSegment, { memory });
  }

  async #body(record, deadline, consistent) {
    const { prefix, number } = record.chunks;
    if (prefix !== this.#begunBody) {
      this.#begun.delete(this.#begunBody); // chunks of an earlier body are useless now
      this.#begunBody = prefix;
    }
    let data = record.body;
    if (prefix) data = await this.#chunks(prefix, number, deadline, consistent);
    const body = decode(() => Body.read(record.indexData, record.indexDigest, data));
    const prefixes = new Set([...body.large.values()].map(segmentPrefix));
    for (const begun of this.#begun.keys()) {
      if (!prefixes.has(begun)) this.#begun.delete(begun);
    }
    return body;
  }

  /** Return the error that explains why there is no snapshot record. */
  async #absent(deadline, consistent) {
    if (consistent) {
      const record = await this.#store.read(stateKey(this.#source), { consistent: true, deadline });
      if (readState(record).published) {
        return new UnsupportedLayoutError(
          `the flags of '${this.#source}' are published in a layout that this reader does not ` +
            "support: update the flagstore layer",
        );
      }
    }
    return new NotPublishedError(
      `nothing has been published for source '${this.#source}': check the name, and that ` +
        "SyncFunction has run (its log has the reason if not)",
    );
  }

  /** Read a large segment and verify it. */
  async segment(segment, deadline) {
    const prefix = segmentPrefix(segment);
    const data = await this.#chunks(prefix, segment.chunks, deadline, false);
    checkSegment(segment, data);
    return new HeldSegment(data);
  }

  /**
   * Return the joined chunks; those read before a failure are kept for the next attempt.
   *
   * A chunk has a key of its own and never changes, so an eventually consistent read, for half the
   * units, returns the chunk or nothing; then a consistent one decides.
   */
  async #chunks(prefix, number, deadline, consistent) {
    if (!this.#begun.has(prefix)) this.#begun.set(prefix, []);
    const chunks = this.#begun.get(prefix);
    while (chunks.length < number) {
      const key = chunkKey(this.#source, prefix, chunks.length);
      let chunk = await this.#chunk(key, deadline, consistent);
      if (chunk === undefined && !consistent) chunk = await this.#chunk(key, deadline, true);
      if (chunk === undefined) {
        throw new CorruptSnapshotError(`chunk ${chunks.length} of ${number} is missing: ${prefix}`);
      }
      chunks.push(chunk);
    }
    this.#begun.delete(prefix);
    return Buffer.concat(chunks);
  }

  async #chunk(key, deadline, consistent) {
    const record = await this.#store.read(key, { consistent, deadline });
    // Expiring a chunk that has been deleted leaves a record without a body.
    return record?.body instanceof Uint8Array ? record.body : undefined;
  }
}

/** Return what a function decodes; any failure is a CorruptSnapshotError. */
function decode(read) {
  try {
    return read();
  } catch (error) {
    if (error instanceof CorruptSnapshotError) throw error;
    throw new CorruptSnapshotError(`the body cannot be read: ${error.message}`, { cause: error });
  }
}

module.exports = { Loader };
