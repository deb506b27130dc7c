"use strict";

/**
 * AppConfig's gradual deployments: who gets the new version, and when. No I/O except randomness.
 *
 * The same choices as flagstore/rollout.py, which describes the sections of such a flag set.
 * Flagstore's own hash chooses entities or processes: docs/evaluate.md.
 */

const { randomBytes } = require("node:crypto");
const { bucket, threshold } = require("./values.js");

/** Percent. */
const EVERYBODY = 100;
/** In the progress, after the deployment's number and state. */
const NUMBERS = 3;
const NONE = Object.freeze({ number: 0, percentage: 0, nextPercentage: 0, nextAt: 0 });
const RANDOM_BYTES = 16;

/**
 * How far a deployment had come when AppConfig was last asked.
 *
 * @typedef {object} Progress
 * @property {number} number the deployment's number; 0 for none
 * @property {number} percentage
 * @property {number} nextPercentage one step further
 * @property {number} nextAt when that step is expected, in milliseconds since the epoch; 0 if
 *   unknown
 */

/**
 * Parse the source state's progress; number 0 if empty or in an unknown format.
 *
 * @param {string} text
 * @returns {Progress}
 */
function parseProgress(text) {
  const [number, , ...numbers] = fieldsOf(text);
  const [percentage, nextPercentage, nextAt] = numbers;
  const complete = numbers.length === NUMBERS && [number, ...numbers].every(Number.isFinite);
  return complete ? { number, percentage, nextPercentage, nextAt } : NONE;
}

function fieldsOf(text) {
  try {
    const fields = JSON.parse(text);
    return Array.isArray(fields) ? fields : [];
  } catch {
    return [];
  }
}

/** The two versions of a flag set, and who has which. */
class Rollout {
  /**
   * @param {object} snapshot a flag set with a deployment in progress
   * @param {Rollout} [earlier] of the flag set before: within a deployment, nobody loses the new
   *   version
   */
  constructor(snapshot, earlier) {
    const [number] = snapshot.keys("deployments");
    const deployment = snapshot.item("deployments", number);
    const { ConfigurationVersion: version, PreviousVersion: previous, RemovedFlags = [] } = deployment;
    if (![number, version, previous].every((text) => /^\d+$/.test(text))) {
      throw new TypeError("a deployment has no number or versions");
    }
    this.snapshot = snapshot;
    this.number = Number(number);
    this.domain = Buffer.from(`flagstore:deployment:${snapshot.meta.profile ?? ""}:${number}:`);
    this.text = "";
    this.progress = NONE;
    this.reached = earlier?.number === this.number ? earlier.reached : 0;
    /** The flag set of the new version. */
    this.new = newVersion(snapshot, number, RemovedFlags);
  }

  /**
   * Return the share that has the new version now, in percent.
   *
   * @param {string} text the progress in the source state
   * @param {number} now seconds since the epoch
   * @param {boolean} stale whether the last refresh failed; then it does not grow
   */
  percentage(text, now, stale) {
    if (text !== this.text) {
      this.progress = parseProgress(text);
      this.text = text;
    }
    const { number, percentage, nextPercentage, nextAt } = this.progress;
    if (number !== this.number) {
      this.reached = 0; // an operator has published it again, or this is not known yet
      return 0;
    }
    const isDue = nextAt !== 0 && now * 1000 >= nextAt && !stale;
    this.reached = Math.max(this.reached, isDue ? nextPercentage : percentage);
    return this.reached;
  }

  /**
   * Return whether an entity has the new version at a percentage.
   *
   * @param {Buffer | undefined} entity without one, this process's choice applies
   * @param {number} percentage
   */
  hasNew(entity, percentage) {
    if (!(percentage > 0 && percentage < EVERYBODY)) return percentage > 0;
    return bucket(this.domain, entity?.length ? entity : processEntity()) < threshold(percentage);
  }
}

function newVersion(snapshot, number, removed) {
  const flags = Object.create(null);
  const newFlags = Object.create(null);
  for (const key of snapshot.keys("new_flags")) {
    flags[key] = snapshot.text("new_flags", key);
    newFlags[key] = undefined;
  }
  for (const key of removed) flags[key] = undefined;
  return snapshot.changed({ flags, new_flags: newFlags, deployments: { [number]: undefined } });
}

let drawn;

/** Return the entity that stands for this process: random, as the agent's sessions are. */
function processEntity() {
  drawn ??= Buffer.from(randomBytes(RANDOM_BYTES).toString("hex"));
  return drawn;
}

module.exports = { Rollout };
