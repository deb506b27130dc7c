"use strict";

/** Base class of flagstore's errors. */
class FlagstoreError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** An option or variable is missing or wrong; the message names it and the remedy. */
class ConfigurationError extends FlagstoreError {}

/** Flags were read before a first load succeeded, or a large segment cannot be read. */
class NotLoadedError extends FlagstoreError {}

/** The store holds nothing for this source. */
class NotPublishedError extends NotLoadedError {}

/** The store did not respond in time, or refused the request. */
class StoreUnavailableError extends NotLoadedError {
  /**
   * @param {string} message
   * @param {{cause?: unknown, receiving?: boolean}} [options] receiving: whether time ran out while
   *   data was arriving. With more time, the read may succeed.
   */
  constructor(message, { receiving = false, ...options } = {}) {
    super(message, options);
    this.receiving = receiving;
  }
}

/** The store was written for newer readers only: update the layer. */
class UnsupportedLayoutError extends NotLoadedError {}

/** The data does not match its digests, or a chunk is missing. */
class CorruptSnapshotError extends NotLoadedError {}

module.exports = {
  ConfigurationError,
  CorruptSnapshotError,
  FlagstoreError,
  NotLoadedError,
  NotPublishedError,
  StoreUnavailableError,
  UnsupportedLayoutError,
};
