"use strict";

/**
 * The values that rules compare and hash, with the same meaning as in Python. No I/O.
 *
 * An integer is a bigint and a float a number: from 2^53 on, they do not compare. Text is a string;
 * what no string of JavaScript can hold is {@link Halves}.
 */

const { createHash } = require("node:crypto");

/** A rule uses something that cannot be evaluated here. */
class UnsupportedError extends Error {}

/** Text in which the two halves of a surrogate pair are characters of their own. */
class Halves {
  /** @param {number[]} points its code points */
  constructor(points) {
    this.points = points;
  }
}

/** Stands for any timestamp; comparing it gives unknown. */
const TIME = Symbol("a timestamp");
/** Stands for a value that the context lacks. */
const MISSING = Symbol("missing");

/** From here on, a float cannot represent every integer. */
const EXACT = 2 ** 53;
/** Of `split`: a percentage counts to six decimals, and is rounded to them. */
const BUCKETS = 100_000_000;
const PER_PERCENT = 1_000_000;
const HASHED_BYTES = 6;

// -- context
// ---------------------------------------------------------------------------------------

/**
 * Return a context as rules read it: name → value, without null and undefined.
 *
 * A whole number below 2^53 is an integer; pass larger ones as bigint.
 *
 * @param {Map<string, unknown> | object} given
 * @throws {TypeError} if it is neither an object nor a Map
 */
function contextOf(given) {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new TypeError("a context must be an object or a Map");
  }
  const context = new Map();
  for (const [name, value] of given instanceof Map ? given : Object.entries(given)) {
    if (value !== null && value !== undefined) {
      context.set(name, isExactInteger(value) ? BigInt(value) : value);
    }
  }
  return context;
}

function isExactInteger(value) {
  return Number.isInteger(value) && Math.abs(value) < EXACT;
}

// -- text
// ------------------------------------------------------------------------------------------

const HALF = /[\ud800-\udfff]/;

/**
 * Return code points as a string, or as Halves if a string would join two of them.
 *
 * @param {number[]} points
 */
function textOf(points) {
  const text = points.map((point) => String.fromCodePoint(point)).join("");
  return [...text].length === points.length ? text : new Halves(points);
}

function isText(value) {
  return typeof value === "string" || value instanceof Halves;
}

function isWellFormed(value) {
  return typeof value === "string" && (!HALF.test(value) || value.isWellFormed());
}

/** Return text so that a search in it can match whole code points only. */
function spelled(text) {
  const points =
    text instanceof Halves ? text.points : Array.from(text, (char) => char.codePointAt(0));
  return `,${points.map((point) => `${point},`).join("")}`;
}

/**
 * Return the operator that compares text by a method of strings; unknown for other values.
 *
 * @param {"startsWith" | "endsWith" | "includes"} method
 */
function textual(method) {
  return (one, other) => {
    if (!isText(one) || !isText(other)) return null;
    if (isWellFormed(one) && isWellFormed(other)) return one[method](other);
    return spelled(one)[method](spelled(other));
  };
}

/** Python's whitespace, which differs from JavaScript's. */
const SPACES = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008" +
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);

/** Return text without whitespace at its ends. */
function stripped(text) {
  let [from, to] = [0, text.length];
  while (to > 0 && SPACES.has(text[to - 1])) to -= 1;
  while (from < to && SPACES.has(text[from])) from += 1;
  return text.slice(from, to);
}

// -- comparisons: true, false, or null for unknown
// --------------------------------------------------

function isNumber(value) {
  return typeof value === "bigint" || typeof value === "number";
}

function isExact(value) {
  return value < EXACT && value > -EXACT;
}

/** Return whether both are numbers that compare exactly. */
function areNumbers(one, other) {
  if (!isNumber(one) || !isNumber(other)) return false;
  if (typeof one === "bigint" && typeof other === "bigint") return true;
  return isExact(one) && isExact(other);
}

/** Return whether two values are equal; unknown if their types differ. */
function equal(one, other) {
  if (typeof one === typeof other && (typeof one === "string" || typeof one === "boolean")) {
    return one === other;
  }
  if (areNumbers(one, other)) return one == other; // a bigint may equal a number
  return isText(one) && isText(other) ? spelled(one) === spelled(other) : null;
}

/** Return whether a value is in a list; unknown if it is in none and one comparison is unknown. */
function isIn(one, others) {
  const verdicts = others.map((other) => equal(one, other));
  if (verdicts.includes(true)) return true;
  return verdicts.includes(null) ? null : false;
}

/** Return the operator that compares two numbers; unknown for other values. */
function ordered(compare) {
  return (one, other) => (areNumbers(one, other) ? compare(one, other) : null);
}

// -- flagstore's hash: docs/evaluate.md
// -------------------------------------------------------------

/**
 * Return a string, boolean or whole number as UTF-8.
 *
 * @throws {UnsupportedError} for the rest
 */
function asBytes(value) {
  const whole = typeof value === "bigint" ? isExact(value) : isExactInteger(value);
  const text = whole || typeof value === "boolean" ? String(value) : value;
  if (!isWellFormed(text)) throw new UnsupportedError("a value without one text in all languages");
  return Buffer.from(text);
}

/** Return the limit below which a bucket is within a percentage. */
function threshold(share) {
  return Math.trunc(Number(share) * PER_PERCENT + 0.5);
}

/** Return the bucket of a value with its domain. */
function bucket(domain, value) {
  const digest = createHash("sha256").update(domain).update(value).digest();
  return digest.readUIntBE(0, HASHED_BYTES) % BUCKETS;
}

module.exports = {
  MISSING,
  TIME,
  UnsupportedError,
  asBytes,
  bucket,
  contextOf,
  equal,
  isIn,
  isNumber,
  isText,
  ordered,
  stripped,
  textOf,
  textual,
  threshold,
};
