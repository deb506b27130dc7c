"use strict";

/**
 * JSON as text, as Python's `json.dumps` writes it. No I/O.
 *
 * The content digest covers that text, and a number such as 1.0 or 10**30 would not survive parsing
 * here. So numbers and strings stay as they are, and only keys are sorted.
 */

/** Characters that Python escapes and JSON.stringify does not. */
const NOT_ASCII = /[\u007f-\uffff]/g;
const SURROGATE = /[\ud800-\udfff]/;
const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/y;
/** Everything but strings, brackets and commas. */
const SCALAR = /[^"[\]{},:]+/y;

/** Return a value as compact ASCII JSON. */
function asciiJson(value) {
  return JSON.stringify(value).replace(
    NOT_ASCII,
    (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Compare two strings by code point, as Python does; `<` compares UTF-16 units. */
function compareCodePoints(one, other) {
  const length = Math.min(one.length, other.length);
  let at = 0;
  while (at < length && one.charCodeAt(at) === other.charCodeAt(at)) at += 1;
  if (at === length) return one.length - other.length;
  const within = at > 0 && isHigh(one.charCodeAt(at - 1));
  if (within && (isLow(one.charCodeAt(at)) || isLow(other.charCodeAt(at)))) at -= 1;
  return one.codePointAt(at) - other.codePointAt(at);
}

/** Return strings in the order of their code points. */
function inOrder(strings) {
  const found = [...strings].sort();
  // Only surrogates have another place among UTF-16 units, by which the engine sorts much faster.
  return found.some((text) => SURROGATE.test(text)) ? found.sort(compareCodePoints) : found;
}

function isHigh(unit) {
  return unit >= 0xd800 && unit < 0xdc00;
}

function isLow(unit) {
  return unit >= 0xdc00 && unit < 0xe000;
}

/**
 * Return compact JSON with the keys of all objects sorted.
 *
 * @param {string} text valid JSON without spaces
 * @throws {SyntaxError} if it is not
 * @throws {RangeError} if it is nested too deeply
 */
function canonical(text) {
  const [found, end] = sorted(text, 0);
  if (end !== text.length) throw new SyntaxError("more than one JSON value");
  return found;
}

/**
 * Return the members of an object: key → JSON text of its value.
 *
 * @param {string} text JSON of an object, without spaces
 * @returns {Map<string, string>}
 * @throws {SyntaxError} if it is something else
 */
function members(text) {
  if (text[0] !== "{") throw new SyntaxError("not an object");
  const [found] = object(text, 0, verbatim);
  return new Map(found.map(([label, member]) => [JSON.parse(label), member]));
}

/** Return the JSON texts of the elements of an array, as for {@link members}. */
function elements(text) {
  if (text[0] !== "[") throw new SyntaxError("not an array");
  return array(text, 0, verbatim)[0];
}

// Each of these returns what it has read at a place, and its end.

function verbatim(text, start) {
  const end = skip(text, start);
  return [text.slice(start, end), end];
}

function sorted(text, start) {
  if (text[start] === "{") {
    const [found, end] = object(text, start, sorted);
    if (found.length > 1) {
      found.sort(([one], [other]) => compareCodePoints(JSON.parse(one), JSON.parse(other)));
    }
    return [`{${found.map(([label, member]) => `${label}:${member}`).join(",")}}`, end];
  }
  if (text[start] === "[") {
    const [found, end] = array(text, start, sorted);
    return [`[${found.join(",")}]`, end];
  }
  return verbatim(text, start);
}

function object(text, start, read) {
  const found = [];
  let [at, member] = [start + 1, ""];
  while (text[at] !== "}") {
    if (found.length) at = expect(text, at, ",");
    const label = match(STRING, text, at);
    [member, at] = read(text, expect(text, at + label.length, ":"));
    found.push([label, member]);
  }
  return [found, at + 1];
}

function array(text, start, read) {
  const found = [];
  let [at, element] = [start + 1, ""];
  while (text[at] !== "]") {
    if (found.length) at = expect(text, at, ",");
    [element, at] = read(text, at);
    found.push(element);
  }
  return [found, at + 1];
}

/** Return the end of the value that starts at a place. */
function skip(text, start) {
  let at = start;
  let depth = 0;
  do {
    const next = text[at];
    if (next === '"') at += match(STRING, text, at).length;
    else if (next === "{" || next === "[") [depth, at] = [depth + 1, at + 1];
    else if (next === "}" || next === "]") [depth, at] = [depth - 1, at + 1];
    else if (next === "," || next === ":") at += 1;
    else at += match(SCALAR, text, at).length;
  } while (depth > 0);
  return at;
}

function expect(text, at, character) {
  if (text[at] !== character) throw new SyntaxError(`no ${character} at ${at}`);
  return at + 1;
}

function match(pattern, text, at) {
  pattern.lastIndex = at;
  const found = pattern.exec(text);
  if (found === null) throw new SyntaxError(`no JSON value at ${at}`);
  return found[0];
}

module.exports = { asciiJson, canonical, compareCodePoints, elements, inOrder, members };
