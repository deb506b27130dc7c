"use strict";

/**
 * Match regular expressions that mean the same in every dialect, in bounded time. No I/O.
 *
 * The same decisions as flagstore/evaluation/patterns.py, which has the reasons: what is refused as
 * unportable or too slow there is refused here, for strings of the same lengths. Strings are
 * printable ASCII. JavaScript has no atomic groups: `(?=(?<a>…))\k<a>` stands for one.
 */

const { UnsupportedError } = require("./values.js");

/** Maximum steps of a search in one string. */
const MAX_STEPS = 400_000;
/** Maximum lengths of a string to try; a pattern too slow for the shortest is refused. */
const LENGTHS = [100_000, 30_000, 10_000, 3_000, 1_000, 500, 400, 300, 200, 100, 50];
/** Limits of a pattern with its repetitions expanded. */
const MAX_LENGTH = 1_000;
const MAX_GROUPS = 50;
const MAX_COPIES = 50;
const ENDLESS = 2 ** 32;
/** A class such as \w counts as so many characters. */
const CLASS_SIZE = 16;

// -- syntax
// ----------------------------------------------------------------------------------------

const ATOM = String.raw`(?:[^\\[\](){}*+?|^$&~\n\r-]|[-&~]|\\[dDwWsS]|\\[\\.[\](){}*+?|^$/-])`;
const MEMBER = String.raw`(?:[^\\[\]&~^|\n\r-]|\\[dwsDWS]|\\[\\.[\](){}*+?|^$/-])`;
const SET = String.raw`\[\^?${MEMBER}(?:-?${MEMBER})*\]`;
const REPETITION = String.raw`(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})\??`;
const PORTABLE = new RegExp(
  String.raw`^(?:(?:${SET}|${ATOM}|\))(?:${REPETITION})?(?![*+?{])|[|^$]|\((?:\?:)?)*$`,
);
const ASCII = /^[\0-\x7f]*$/;

const TOKEN = new RegExp(
  [
    String.raw`(?<open>\((?:\?:)?)`,
    String.raw`(?<bar>\|)`,
    String.raw`(?<close>\))`,
    String.raw`(?<count>(?<char>[*+?])\??|\{(?<least>\d+)(?<comma>,)?(?<most>\d*)\}\??)`,
    String.raw`(?<assertion>[$^])`,
    String.raw`(?<atom>\\[^]|\[(?:[^\]\\]|\\[^])*\]|[^])`,
  ].join("|"),
  "g",
);
const MEMBERS = /\\?[^]/g;

/**
 * Return functions that match a whole string, and any part of it, in every dialect. The strings
 * must be printable ASCII; the functions throw UnsupportedError for one too long.
 *
 * @param {string} pattern
 * @returns {((text: string) => boolean)[]}
 * @throws {UnsupportedError} if the pattern cannot be matched here, or dialects may read it
 *   differently
 */
function portableMatchers(pattern) {
  if (!ASCII.test(pattern) || !PORTABLE.test(pattern)) {
    throw new UnsupportedError("a pattern that dialects may read differently");
  }
  return [matcher(`^(?:${pattern})$`), matcher(pattern)];
}

function matcher(pattern) {
  const sequences = parse(pattern);
  for (const limit of LENGTHS) {
    const { source, steps } = bounded(sequences, limit);
    if (steps <= MAX_STEPS) return search(new RegExp(source), limit);
  }
  throw new UnsupportedError("repetitions that can split a string in many ways");
}

function search(expression, limit) {
  return (text) => {
    if (text.length > limit)
      throw new UnsupportedError("a value that is too long for this pattern");
    return expression.test(text);
  };
}

// -- characters
// ------------------------------------------------------------------------------------

/**
 * Sets of sample characters are bits: the characters of ASCII, and others that patterns tell apart:
 * a digit, a space, a letter, another character, and two that equal k and s in other cases.
 */
const SAMPLES = [...Array(128).keys()].map((code) => String.fromCharCode(code));
SAMPLES.push("\u0663", "\u3000", "é", "€", "\u212a", "\u017f");
const NONE = 0n;
const ALL = (1n << BigInt(SAMPLES.length)) - 1n;
const DIGITS = samples((char) => /[0-9\u0663]/.test(char));
const WORDS = samples((char) => /[0-9A-Za-z_\u0663é\u212a\u017f]/.test(char));
const SPACES = samples((char) => /[\t-\r\x1c-\x20\u3000]/.test(char));
const CLASSES = new Map([
  ["\\d", DIGITS],
  ["\\D", ALL ^ DIGITS],
  ["\\w", WORDS],
  ["\\W", ALL ^ WORDS],
  ["\\s", SPACES],
  ["\\S", ALL ^ SPACES],
  [".", samples((char) => char !== "\n")],
]);

function samples(test) {
  return SAMPLES.reduce(
    (bits, char, index) => (test(char) ? bits | (1n << BigInt(index)) : bits),
    0n,
  );
}

function areDisjoint(one, other) {
  return (one & other) === NONE;
}

function isWithin(one, other) {
  return (one & ~other) === NONE;
}

/** Return the characters of an atom: a character, a class or a set. */
function charsOf(text) {
  if (text[0] !== "[") return CLASSES.get(text) ?? 1n << BigInt(text.at(-1).charCodeAt(0));
  const negated = text[1] === "^";
  const members = text.slice(negated ? 2 : 1, -1).match(MEMBERS);
  let chars = NONE;
  for (let at = 0; at < members.length; at += 1) {
    const isRange = members[at + 1] === "-" && at + 2 < members.length;
    chars |= isRange ? range(members[at], members[at + 2]) : member(members[at]);
    at += isRange ? 2 : 0;
  }
  return negated ? ALL ^ chars : chars;
}

function member(text) {
  return text === "." ? charsOf("\\.") : charsOf(text);
}

function isClass(text) {
  return text.length > 1 && CLASSES.has(text);
}

function range(from, to) {
  const [low, high] = [from, to].map((text) => text.at(-1).charCodeAt(0));
  if (isClass(from) || isClass(to) || low > high) {
    throw new UnsupportedError("an invalid range");
  }
  return (1n << BigInt(high + 1)) - (1n << BigInt(low));
}

// -- parsing
// --------------------------------------------------------------------------------------- A pattern
// is a list of alternatives, each a list of assertions ("^", "$"), atoms and groups.

/** A character of a set, repeated. */
class Atom {
  constructor(text, chars, low = 1, high = 1) {
    this.text = text;
    this.chars = chars;
    this.low = low;
    this.high = high;
  }

  with(low, high) {
    return new Atom(this.text, this.chars, low, high);
  }

  get isFixed() {
    return this.low === 1 && this.high === 1;
  }

  get size() {
    const count = this.high === ENDLESS ? this.low : this.high;
    return count * (/\\[dDwWS]/.test(this.text) ? CLASS_SIZE : 1);
  }

  get repeated() {
    if (this.isFixed) return this.text;
    return `${this.text}{${this.low},${this.high === ENDLESS ? "" : this.high}}`;
  }
}

/** Alternatives. */
class Group {
  constructor(sequences) {
    this.sequences = sequences;
    const sizes = sequences.flat().map((part) => (typeof part === "string" ? 0 : part.size));
    /** At least 1: copies of a group that takes no character must not be free. */
    this.size = Math.max(
      1,
      sizes.reduce((sum, size) => sum + size, 0),
    );
  }
}

/** Return the alternatives of a pattern. */
function parse(pattern) {
  if (pattern.length > MAX_LENGTH || pattern.split("(").length - 1 > MAX_GROUPS) {
    throw new UnsupportedError("pattern too long");
  }
  const groups = [[[]]];
  for (const { groups: token } of pattern.matchAll(TOKEN)) {
    const sequence = groups.at(-1).at(-1);
    if (token.open) groups.push([[]]);
    else if (token.bar) groups.at(-1).push([]);
    else if (token.close) closeGroup(groups);
    else if (token.count) sequence.push(...repeated(sequence.pop(), ...countsOf(token)));
    else if (token.assertion) sequence.push(token.assertion);
    else sequence.push(new Atom(token.atom, charsOf(token.atom)));
  }
  if (groups.length > 1) throw new UnsupportedError("an open group");
  if (new Group(groups[0]).size > MAX_LENGTH) throw new UnsupportedError("pattern too long");
  return groups[0];
}

function closeGroup(groups) {
  if (groups.length === 1) throw new UnsupportedError("a closed group that was not open");
  const closed = groups.pop();
  groups.at(-1).at(-1).push(grouped(closed));
}

/** Return alternatives, as an atom if each is a single character. */
function grouped(sequences) {
  const isCharacter = (one) => one.length === 1 && one[0] instanceof Atom && one[0].isFixed;
  if (!sequences.every(isCharacter)) return new Group(sequences);
  const atoms = sequences.map(([atom]) => atom);
  const chars = atoms.reduce((bits, atom) => bits | atom.chars, NONE);
  return new Atom(`(?:${atoms.map((atom) => atom.text).join("|")})`, chars);
}

function countsOf({ char, least, comma, most }) {
  if (char) return [char === "+" ? 1 : 0, char === "?" ? 1 : ENDLESS];
  const low = Number(least);
  const high = most ? Number(most) : comma ? ENDLESS : low;
  if (low > high) throw new UnsupportedError("an invalid repetition");
  return [low, high];
}

/** Return a repeated item; a group is copied. */
function repeated(item, low, high) {
  if (item instanceof Atom) return [item.with(low, high)];
  if (high > MAX_COPIES || item.size * high > MAX_LENGTH) {
    throw new UnsupportedError("a repeated group");
  }
  let optional = [];
  for (let copy = low; copy < high; copy += 1) optional = [new Group([[item, ...optional], []])];
  return [...Array(low).fill(item), ...optional];
}

// -- time
// ------------------------------------------------------------------------------------------

/**
 * The remainder of a pattern.
 *
 * @typedef {object} Tail
 * @property {string} text
 * @property {number} steps the maximum number from one position of a string
 * @property {bigint | undefined} first the characters that a match may begin with; undefined if
 *   anything matches
 */

/** Translate a pattern; return it and the maximum steps for a string of this length. */
function bounded(sequences, length) {
  const translation = { length, names: 0 };
  const sources = [];
  let steps = length;
  for (const sequence of sequences) {
    const anchored = sequence[0] === "^";
    const parts = anchored ? sequence : withoutLead(sequence);
    const tails = tailsOf(parts, translation, { text: "", steps: 1, first: undefined });
    sources.push(tails[0].text);
    steps += anchored ? tails[0].steps : length * stepsPerPlace(parts, tails);
  }
  return { source: sources.join("|"), steps };
}

/** Return the average number of steps if all places of a string are tried. */
function stepsPerPlace(parts, tails) {
  const end = parts.findIndex((part) => !isFixed(part));
  const chars = parts.slice(0, end < 0 ? parts.length : end).map((part) => part.chars);
  // Few places match the first character; `foo` matches at every third one at most.
  const overlaps = chars.filter((one) => !areDisjoint(one, chars[0])).length;
  const steps = Math.floor(tails[chars.length].steps / periodOf(chars));
  return Math.min(chars.length, 1 + overlaps) + steps + 1;
}

function periodOf(chars) {
  for (let by = 1; by <= chars.length; by += 1) {
    const mayRepeat = chars.slice(by).every((one, at) => !areDisjoint(chars[at], one));
    if (mayRepeat) return by;
  }
  return 1;
}

function isFixed(part) {
  return part instanceof Atom && part.isFixed;
}

/** Reduce the repetitions that a pattern begins with, since it may match anywhere. */
function withoutLead(sequence) {
  let parts = sequence;
  while (parts[0] instanceof Atom && parts[0].low < parts[0].high) {
    const [lead, ...rest] = parts;
    parts = lead.low > 0 ? [lead.with(lead.low, lead.low), ...rest] : rest;
  }
  return parts;
}

/** Translate a sequence that `end` follows; return the tail from each part on. */
function tailsOf(sequence, translation, end) {
  const tails = [end];
  for (let at = sequence.length - 1; at >= 0; at -= 1) {
    const part = sequence[at];
    const [next] = tails;
    let tail;
    if (typeof part === "string") tail = assertionTail(part, next);
    else if (part instanceof Group) tail = groupTail(part, translation, next);
    else if (part.low === part.high || next.first === undefined) tail = fewestTail(part, next);
    else tail = repetitionTail(part, sequence.slice(at + 1), translation, tails);
    tails.unshift(tail);
  }
  return tails;
}

function assertionTail(part, next) {
  return { text: part + next.text, steps: next.steps + 1, first: part === "$" ? NONE : ALL };
}

function groupTail(group, translation, next) {
  const ways = group.sequences.map((one) => tailsOf(one, translation, { ...next, text: "" })[0]);
  return {
    text: `(?:${ways.map((one) => one.text).join("|")})${next.text}`,
    steps: ways.reduce((sum, one) => sum + one.steps, 0),
    first: ways.reduce((bits, one) => bits | (one.first ?? NONE), NONE),
  };
}

/** At the end of a pattern, the fewest repetitions are enough. */
function fewestTail(part, next) {
  if (part.low === 0) return next;
  const text = part.with(part.low, part.low).repeated + next.text;
  return { text, steps: next.steps + part.low, first: part.chars };
}

function repetitionTail(part, following, translation, tails) {
  const [next] = tails;
  const count = Math.min(part.high, translation.length);
  const first = part.low > 0 ? part.chars : part.chars | next.first;
  if (areDisjoint(part.chars, next.first)) {
    const text = atomic(part.repeated, translation) + next.text;
    return { text, steps: next.steps + count, first };
  }
  const fixed = fixedBeforeSame(part, following);
  if (fixed !== undefined) {
    const found = fixed.map((one) => one.repeated).join("");
    const rest = tails[fixed.length];
    const cost = count * fixed.reduce((sum, one) => sum + one.low, 1);
    const text = atomic(`${part.repeated}?${found}`, translation) + rest.text;
    return { text, steps: rest.steps + cost, first };
  }
  const places = Math.max(count - part.low + 1, 1);
  const cost = places * stepsPerPlace(following, tails);
  return { text: part.repeated + next.text, steps: count + cost, first };
}

function atomic(text, translation) {
  translation.names += 1;
  const name = `a${translation.names}`;
  return `(?=(?<${name}>${text}))\\k<${name}>`;
}

/**
 * Return the parts between a repetition and the next one of the same characters. Their first match
 * is enough, since the next repetition matches everything up to any other.
 */
function fixedBeforeSame(part, following) {
  const fixed = [];
  for (const one of following) {
    if (!(one instanceof Atom) || !isWithin(one.chars, part.chars)) return undefined;
    if (one.high === ENDLESS) return one.text === part.text ? fixed : undefined;
    if (one.low < one.high) return undefined;
    fixed.push(one);
  }
  return undefined;
}

module.exports = { portableMatchers };
