"use strict";

/** Time limits and pauses of reads, in seconds, and what happens after a failure. */

const { randomBytes } = require("node:crypto");

const { NotLoadedError, StoreUnavailableError } = require("./errors.js");

/** Time limit for a read while there are no flags to serve. */
const FIRST_LOAD_S = 2.0;
/** Time limit for a read while there are: see {@link nextBudget}. */
const REFRESH_S = 0.24;
/** Minimum pause after a failure, plus up to 50 % jitter; doubles with each further failure. */
const COOL_DOWN_S = 5.0;
const MAX_COOL_DOWN_S = 60.0;
/** 2 ** 10 is far beyond the maximum, and no number of failures overflows. */
const MAX_DOUBLINGS = 10;

/**
 * Return the next time limit after a failure.
 *
 * It grows only if time ran out while data was arriving: a large set must load eventually, but a
 * silent server must not cost more.
 */
function nextBudget(budgetS, error) {
  const grows = error instanceof StoreUnavailableError && error.receiving;
  return grows ? Math.min(2 * budgetS, FIRST_LOAD_S) : REFRESH_S;
}

/** Return the pause after a number of failures. Clients that failed together do not retry so. */
function pauseAfter(failures) {
  const pause = COOL_DOWN_S * 2 ** Math.min(failures - 1, MAX_DOUBLINGS);
  return Math.min(between(pause, 1.5 * pause), MAX_COOL_DOWN_S);
}

/** Return a random number between two. */
function between(least, most) {
  return least + ((most - least) * randomBytes(1)[0]) / 255;
}

/** Return any error as a NotLoadedError. */
function notLoaded(error) {
  if (error instanceof NotLoadedError) return error;
  return new NotLoadedError(`${error?.name}: ${error?.message}`, { cause: error });
}

module.exports = {
  COOL_DOWN_S,
  FIRST_LOAD_S,
  REFRESH_S,
  between,
  nextBudget,
  notLoaded,
  pauseAfter,
};
