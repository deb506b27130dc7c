"use strict";

/**
 * The rules of AppConfig's variants, as far as they are documented. No I/O.
 *
 * The same results as flagstore/evaluation/appconfig_rules.py, which names the sources. A rule is
 * true, false, or null: unknown where AWS' guide is silent. docs/evaluate.md lists the cases.
 */

const { portableMatchers } = require("./patterns.js");
const {
  MISSING,
  TIME,
  UnsupportedError,
  asBytes,
  bucket,
  equal,
  isIn,
  isNumber,
  isText,
  ordered,
  textOf,
  textual,
  threshold,
} = require("./values.js");

/** Nested parentheses; a rule has at most 16,384 characters. */
const MAX_DEPTH = 64;
const INT64 = 2n ** 63n;
const INT64_LENGTH = String(-INT64).length;

// -- tokens ---------------------------------------------------------------------------------------

/** \t-\r with the space is Python's \s for ASCII; JavaScript's has more. */
const TOKEN = new RegExp(
  String.raw`[ \t-\r]*(?:` +
    [
      String.raw`(?<punctuation>[()[\],])`,
      String.raw`"(?<text>(?:[^"\\\x00-\x1f]|\\[^\n])*)"`,
      String.raw`(?<name>[a-z_]+)::`,
      "(?:" +
        [
          String.raw`(?<time>\d{4}(?:T|-[\dT:.+\-Z]+))`,
          String.raw`(?<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)`,
          String.raw`\$(?<key>[A-Za-z_][A-Za-z0-9_$]*)`,
          String.raw`(?<symbol>[a-z_]+)`,
        ].join("|") +
        String.raw`)(?=[ \t-\r()[\],"]|$)`,
    ].join("|") +
    ")",
  "y",
);
const ESCAPE = /\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([^]))|([^\\])/gu;
const ESCAPES = new Map([
  ["n", "\n"],
  ["t", "\t"],
  ["r", "\r"],
  ['"', '"'],
  ["\\", "\\"],
  ["/", "/"],
  ["'", "'"],
]);

/** The tokens of a rule: as much of Ion as the guide shows. */
class Tokens {
  constructor(text, flag) {
    this.flag = flag;
    this.left = [{ kind: "", content: "" }, ...tokensOf(text).reverse()];
  }

  /** Consume the next token if it is this one. */
  skip(punctuation) {
    const { kind, content } = this.left.at(-1);
    const found = kind === "punctuation" && content === punctuation;
    if (found) this.left.pop();
    return found;
  }

  /** Consume the next token, of one of these kinds, and return it. */
  take(...kinds) {
    if (!kinds.includes(this.left.at(-1).kind)) throw new UnsupportedError("another token");
    return this.left.pop();
  }
}

function tokensOf(text) {
  const found = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const match = TOKEN.exec(text);
    if (match === null) throw new UnsupportedError("not a token");
    const [kind, content] = Object.entries(match.groups).find(([, group]) => group !== undefined);
    found.push({ kind, content });
  }
  return found;
}

/** Parse a context value, a string, a number, true, false, or a timestamp. */
function operand(tokens) {
  const { kind, content } = tokens.take("key", "text", "number", "symbol", "time");
  if (kind === "key") return { key: content };
  if (kind === "text") return { key: "", literal: unescaped(content) };
  if (kind === "time") return { key: "", literal: TIME };
  if (kind === "number") return { key: "", literal: number(content) };
  if (content !== "true" && content !== "false") throw new UnsupportedError("a symbol");
  return { key: "", literal: content === "true" };
}

function unescaped(text) {
  if (!text.includes("\\")) return text;
  const points = [];
  for (const [, unicode, byte, char, plain] of text.matchAll(ESCAPE)) {
    const code = unicode ?? byte;
    const meant = plain ?? ESCAPES.get(char);
    if (code === undefined && meant === undefined) throw new UnsupportedError("an escape");
    points.push(code === undefined ? meant.codePointAt(0) : parseInt(code, 16));
  }
  return textOf(points);
}

function number(text) {
  if (/^-?\d+$/.test(text)) {
    const whole = text.length > INT64_LENGTH ? INT64 : BigInt(text);
    if (whole < -INT64 || whole >= INT64) throw new UnsupportedError("more than 64 bits");
    return whole;
  }
  const real = Number(text);
  if (!Number.isFinite(real)) throw new UnsupportedError("an infinite number");
  return real;
}

// -- expressions ----------------------------------------------------------------------------------

/**
 * Compile one rule: a function of a context (see contextOf) that returns true, false or null. A
 * rule that cannot be parsed is unknown for every context.
 *
 * @param {string} text
 * @param {string} [flag] the key of its flag, to evaluate `split` by flagstore's hash; without it,
 *   `split` is unknown
 */
function compileRule(text, flag) {
  try {
    const tokens = new Tokens(text, flag);
    const rule = expression(tokens, false, 0);
    tokens.take("");
    return rule;
  } catch (error) {
    if (error instanceof UnsupportedError) return () => null;
    throw error;
  }
}

/**
 * Parse an operator with its operands, a literal, or a context value.
 *
 * @param {Tokens} tokens
 * @param {boolean | null} missing the verdict of a comparison with a missing value
 * @param {number} depth
 */
function expression(tokens, missing, depth) {
  if (depth > MAX_DEPTH) throw new UnsupportedError("too many parentheses");
  if (!tokens.skip("(")) return truth(operand(tokens), missing);
  const operator = tokens.take("symbol").content;
  if (operator === "and" || operator === "or" || operator === "not") {
    const inside = operator === "not" ? null : missing;
    const parts = [];
    while (!tokens.skip(")")) parts.push(expression(tokens, inside, depth + 1));
    return logical(operator, parts);
  }
  const withNames = NAMED.get(operator);
  if (withNames) return withNames(named(tokens), missing, tokens.flag);
  const left = operand(tokens);
  const right = operator === "in" ? { key: "", literal: list(tokens) } : operand(tokens);
  const compare = COMPARISONS.get(operator);
  if (!compare || !tokens.skip(")")) throw new UnsupportedError("an operator or its operands");
  return compared(compare, left, right, missing);
}

function named(tokens) {
  const found = new Map();
  while (!tokens.skip(")")) {
    const { content } = tokens.take("name");
    if (found.has(content)) throw new UnsupportedError("an operand twice");
    found.set(content, operand(tokens));
  }
  return found;
}

function list(tokens) {
  if (!tokens.skip("[")) throw new UnsupportedError("no list");
  const values = [];
  while (!tokens.skip("]")) {
    if (values.length > 0 && !tokens.skip(",")) throw new UnsupportedError("no comma");
    const { key, literal } = operand(tokens);
    if (key) throw new UnsupportedError("a context value in a list");
    values.push(literal);
  }
  return values;
}

function read({ key, literal }, context) {
  if (!key) return literal;
  const value = context.get(key);
  return value === undefined ? MISSING : value;
}

function truth(one, missing) {
  return (context) => {
    const value = read(one, context);
    if (value === MISSING) return missing;
    return typeof value === "boolean" ? value : null;
  };
}

function logical(operator, parts) {
  // One operand is enough for AppConfig ("at least one of the operands").
  if (parts.length === 0 || (operator === "not" && parts.length > 1)) {
    throw new UnsupportedError("the number of operands");
  }
  if (operator === "not") {
    return (context) => {
      const found = parts[0](context);
      return found === null ? null : !found;
    };
  }
  const decisive = operator === "or";
  return (context) => {
    let verdict = !decisive;
    for (const part of parts) {
      const found = part(context);
      if (found === decisive) return decisive;
      if (found === null) verdict = null;
    }
    return verdict;
  };
}

function compared(compare, left, right, missing) {
  return (context) => {
    const one = read(left, context);
    const other = read(right, context);
    return one === MISSING || other === MISSING ? missing : compare(one, other);
  };
}

const COMPARISONS = new Map([
  ["eq", equal],
  ["in", isIn],
  ["gt", ordered((one, other) => one > other)],
  ["gte", ordered((one, other) => one >= other)],
  ["lt", ordered((one, other) => one < other)],
  ["lte", ordered((one, other) => one <= other)],
  ["begins_with", textual("startsWith")],
  ["ends_with", textual("endsWith")],
  ["contains", textual("includes")],
]);

// -- operators with named operands
// -----------------------------------------------------------------

function exists(operands) {
  const key = last(operands, "key");
  if (!isText(key)) throw new UnsupportedError("a key that is no string");
  return (context) => context.has(key);
}

function split(operands, missing, flag) {
  const by = operands.get("by");
  const seed = operands.get("seed");
  operands.delete("by");
  operands.delete("seed");
  const share = last(operands, "pct");
  if (!by || !isNumber(share) || !(share >= 0 && share <= 100)) throw new UnsupportedError("split");
  if (flag !== undefined) return hashed(by, domain(seed, flag), threshold(share), missing);
  const verdict = Number(share) === 0 ? false : Number(share) === 100 ? true : null;
  return (context) => (read(by, context) === MISSING ? null : verdict);
}

/** Return the bytes that are hashed before the value: equal seeds have equal buckets. */
function domain(seed, flag) {
  const [kind, name] = seed === undefined ? ["flag", flag] : ["seed", seed.literal];
  if (!isText(name)) throw new UnsupportedError("a seed that is no string");
  const data = asBytes(name);
  return Buffer.concat([
    Buffer.from(`flagstore:split:${kind}:${data.length}:`),
    data,
    Buffer.from(":"),
  ]);
}

/** Return the rule that is true if the value's bucket is below this limit. */
function hashed(by, prefix, below, missing) {
  return (context) => {
    const value = read(by, context);
    if (value === MISSING) return missing;
    return unlessUnsupported(() => bucket(prefix, asBytes(value)) < below);
  };
}

function matches(operands, missing) {
  const subject = operands.get("in");
  operands.delete("in");
  const pattern = last(operands, "pattern");
  if (!subject || typeof pattern !== "string") throw new UnsupportedError("matches");
  const [whole, anywhere] = portableMatchers(pattern);
  return (context) => {
    const text = read(subject, context);
    if (text === MISSING) return missing;
    if (typeof text !== "string" || !/^[ -~]*$/.test(text)) return null;
    return unlessUnsupported(() => whole(text) || (anywhere(text) ? null : false));
  };
}

function unlessUnsupported(verdict) {
  try {
    return verdict();
  } catch (error) {
    if (error instanceof UnsupportedError) return null;
    throw error;
  }
}

/** Return the only remaining operand: a literal with this name. */
function last(operands, name) {
  const { key, literal } = operands.get(name) ?? {};
  if (operands.size > 1 || key !== "") throw new UnsupportedError("an operand");
  return literal;
}

const NAMED = new Map([
  ["exists", exists],
  ["matches", matches],
  ["split", split],
]);

module.exports = { compileRule };
