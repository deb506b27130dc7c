"use strict";

/**
 * Evaluates AppConfig's feature flags. No I/O except logging what should never happen.
 *
 * The same results as flagstore/evaluation/appconfig.py: what AWS' guide leaves open is
 * UNSUPPORTED, never guessed. A value is JSON as it is stored, since JavaScript's numbers would
 * lose some of it.
 */

const { elements, members } = require("../lib/canonical.js");
const { compileRule } = require("./rules.js");
const { contextOf, stripped } = require("./values.js");

const FREEFORM = "freeform";
const SPLIT_HASH = "flagstore";
/** `rule` of an evaluation that depends on flagstore's hash: the agent may have chosen others. */
const BY_HASH = "split (flagstore's hash)";

/** A flag lacks a field, or has an invalid one. */
class MalformedError extends Error {}

/**
 * The result of evaluating one flag.
 *
 * @typedef {object} Evaluation
 * @property {string | undefined} json the attributes as JSON, `{}` while the flag is off; any JSON
 *   in a freeform profile; undefined if there is an error
 * @property {string | null} variant the variant's name
 * @property {string} reason `OFF`, `FALLTHROUGH`, `RULE_MATCH` or `ERROR`
 * @property {string} error `FLAG_NOT_FOUND`, `MALFORMED_FLAG`, `UNSUPPORTED`, `EXCEPTION` or ""
 * @property {string} rule whether flagstore's hash of `split` decided
 * @property {number | null} ruleIndex the index of the variant whose rule is true
 * @property {boolean | null} config whether the flag is on; null in a freeform profile
 */

/** @returns {Evaluation} */
function evaluation(fields) {
  const nothing = { json: undefined, variant: null, reason: "ERROR", error: "" };
  return Object.freeze({ ...nothing, rule: "", ruleIndex: null, config: null, ...fields });
}

const NOT_FOUND = evaluation({ error: "FLAG_NOT_FOUND" });
const MALFORMED = evaluation({ error: "MALFORMED_FLAG" });
const UNSUPPORTED = evaluation({ error: "UNSUPPORTED" });
const EXCEPTION = evaluation({ error: "EXCEPTION" });

/** Evaluates the `flags` of one flag set; compiled ones are kept. */
class AppConfigEngine {
  /**
   * @param {{meta: object, text(section: string, key: string): string | undefined}} items a
   *   snapshot
   * @param {(message: string) => void} [warn] told of a flag whose evaluation failed unexpectedly
   */
  constructor(items, warn = console.warn) {
    this.items = items;
    this.warn = warn;
    this.isFreeform = items.meta.format === FREEFORM;
    this.ownSplit = items.meta.split_hash === SPLIT_HASH;
    this.flags = new Map();
  }

  /**
   * Return the values that rules look up as `$name`; null and undefined are omitted.
   *
   * @param {Map<string, unknown> | object} given
   * @throws {TypeError} if it is neither an object nor a Map
   */
  context(given) {
    return contextOf(given);
  }

  /**
   * Evaluate one flag. Never throws: errors are results.
   *
   * @param {string} key
   * @param {Map<string, unknown>} context as `context()` returns it
   * @returns {Evaluation}
   */
  evaluate(key, context) {
    try {
      const flag = this.flags.get(key) ?? this.compiled(key);
      return flag === undefined ? NOT_FOUND : flag(context);
    } catch (error) {
      // Without the error's text, which may quote the context.
      this.warn(`flagstore: flag ${JSON.stringify(key)} was not evaluated: ${error?.name}`);
      return EXCEPTION;
    }
  }

  compiled(key) {
    const json = typeof key === "string" ? this.items.text("flags", key) : undefined;
    if (json === undefined || json === "null") return undefined;
    const flag = this.isFreeform
      ? freeform(json)
      : compileFlag(json, this.ownSplit ? key : undefined);
    this.flags.set(key, flag);
    return flag;
  }
}

function freeform(json) {
  const found = evaluation({ json, reason: "FALLTHROUGH" });
  return () => found;
}

/** Compile a flag, whose key is given if `split` is evaluated by flagstore's hash. */
function compileFlag(json, splitKey) {
  try {
    if (typeOf(json) !== "object") return () => MALFORMED;
    const item = members(json);
    if (item.has("_variants")) return multiVariant(item, splitKey);
    const found = basic(item);
    return () => found;
  } catch (error) {
    if (error instanceof MalformedError) return () => MALFORMED;
    throw error;
  }
}

function basic(item) {
  // As the data plane serves it without the agent: the rules are omitted.
  if (item.has("_variant")) return UNSUPPORTED;
  const attributes = [...item].filter(([name]) => name !== "enabled" && !name.startsWith("_"));
  return outcome(item, objectOf(attributes));
}

/** Return the result of a basic flag or of a variant, with the index of its rule. */
function outcome(item, json, variant = null, ruleIndex = null) {
  const config = isOn(optional(item, "enabled", "boolean", "string"));
  const matched = ruleIndex === null ? "FALLTHROUGH" : "RULE_MATCH";
  const reason = config ? matched : "OFF";
  return evaluation({ json: config ? json : "{}", variant, reason, ruleIndex, config });
}

/** AppConfig accepts strings, and treats a missing value as false. */
function isOn(enabled) {
  if (typeof enabled === "string" && enabled !== "true" && enabled !== "false") {
    throw new MalformedError("enabled");
  }
  return enabled === true || enabled === "true";
}

/** Compile variants: the first whose rule is true, else the last one, which has no rule. */
function multiVariant(item, splitKey) {
  const variants = elements(required(item, "_variants", "array"));
  if (variants.length === 0) throw new MalformedError("_variants");
  const listed = variants.map((json, index) =>
    variantOf(json, index, index === variants.length - 1),
  );
  const flag = firstMatch(listed);
  if (splitKey === undefined || !listed.some(({ rule }) => rule.includes("split"))) return flag;
  const hashed = firstMatch(
    listed.map(({ rule, found }) => ({ rule, found: evaluation({ ...found, rule: BY_HASH }) })),
    splitKey,
  );
  return (context) => {
    // Where no hash is needed, the result is AppConfig's, and does not name one.
    const found = flag(context);
    return found === UNSUPPORTED ? hashed(context) : found;
  };
}

function variantOf(json, index, isLast) {
  if (typeOf(json) !== "object") throw new MalformedError("_variants");
  const variant = members(json);
  const rule = stripped(optional(variant, "rule", "string") ?? "");
  // AppConfig refuses such a document.
  if ((rule !== "") === isLast) throw new MalformedError("rule");
  const name = JSON.parse(required(variant, "name", "string"));
  const given = variant.get("attributeValues") ?? "null";
  const attributes = given === "null" ? "{}" : checked(given, "attributeValues", ["object"]);
  return { rule, found: outcome(variant, attributes, name, isLast ? null : index) };
}

/** Return the flag of variants, the last of which has no rule. */
function firstMatch(listed, splitKey) {
  const compiled = listed.map(({ rule, found }) => ({
    rule: rule === "" ? () => true : compileRule(rule, splitKey),
    found,
  }));
  return (context) => {
    for (const { rule, found } of compiled) {
      const verdict = rule(context);
      if (verdict) return found;
      if (verdict === null) break;
    }
    return UNSUPPORTED;
  };
}

// -- fields of JSON
// --------------------------------------------------------------------------------

const TYPES = new Map([
  ["{", "object"],
  ["[", "array"],
  ['"', "string"],
  ["t", "boolean"],
  ["f", "boolean"],
  ["n", "null"],
]);

function typeOf(json) {
  return TYPES.get(json[0]) ?? "number";
}

/** Return a field; undefined if it is missing or null; MalformedError if it has another type. */
function optional(item, name, ...types) {
  const json = item.get(name);
  if (json === undefined || json === "null") return undefined;
  return JSON.parse(checked(json, name, types));
}

/** Return a field as JSON; MalformedError if it is missing or has another type. */
function required(item, name, type) {
  return checked(item.get(name) ?? "null", name, [type]);
}

function checked(json, name, types) {
  if (!types.includes(typeOf(json))) throw new MalformedError(name);
  return json;
}

/** Return an object of members that are JSON. */
function objectOf(fields) {
  return `{${[...fields].map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`;
}

module.exports = { AppConfigEngine, FREEFORM, SPLIT_HASH, objectOf };
