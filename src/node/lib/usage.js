"use strict";

/**
 * Counts evaluations and prints them as lines, from which UsageFunction reports them.
 *
 * The same lines as flagstore/usage.py and lines.py, which have the reasons; docs/usage.md says when
 * counts are lost. No network call. Loaded only by clients that count.
 */

const { Console } = require("node:console");
const { randomBytes } = require("node:crypto");
const { setTimeout: sleep } = require("node:timers/promises");

const { asciiJson } = require("./canonical.js");

/** Seconds for which counts are kept while the function is active. */
const INTERVAL_S = 60;
/** Maximum size of a line with its end. Pipes write up to 4,096 bytes at once; longer lines get mixed. */
const LINE_BYTES = 4_000;
/** Random bytes of a line's id. */
const ID_BYTES = 8;
/** Counts are printed once this many different results are waiting. */
const MAX_CELLS = 400;
/** Unknown flags that are named, and their length: a key may be a user's input. */
const MAX_UNKNOWN = 50;
const UNKNOWN_CHARS = 128;
/** Stands for further unknown flags. */
const OTHERS = "*";
/** Kinds of contexts that are named, and their length. */
const MAX_KINDS = 20;
const KIND_CHARS = 64;
/** Maximum length of the application's name. */
const APP_CHARS = 64;
/** Log levels at which Lambda's JSON format drops lines without a level. */
const LEVELS = ["WARN", "ERROR", "FATAL"];
/** How many lines the calls of a `reporting` handler print at once. */
const SOON_LINES = 3;

/** Counts one source's evaluations in this process. None of its methods throws. */
class UsageCounter {
  #source;
  #current;
  #clock;
  #appName;
  #write;
  /** JSON of flag and result → `{ key, result, count }`. */
  #cells = new Map();
  #unknown = new Set();
  #kinds = new Set();
  #provider = "";
  #version = 0;
  /** When the first and the last evaluation happened, and when the counts are printed. */
  #first = 0;
  #last = 0;
  #due = 0;
  /** Lines printed so far. */
  #lines = 0;

  /**
   * @param {string} source
   * @param {object} options
   * @param {() => import("../index.js").Snapshot | undefined} options.current the flag set in memory
   * @param {() => number} options.clock seconds since the epoch
   * @param {(line: string) => void} [options.write] for tests
   */
  constructor(source, { current, clock, write = print }) {
    const { FLAGSTORE_APP_NAME, AWS_LAMBDA_FUNCTION_NAME } = process.env;
    const name = FLAGSTORE_APP_NAME || AWS_LAMBDA_FUNCTION_NAME || "flagstore";
    this.#source = source;
    this.#current = current;
    this.#clock = clock;
    this.#appName = [...name].slice(0, APP_CHARS).join("");
    this.#write = write;
    if (counters.length === 0) flushAtEnd();
    counters.push(this);
  }

  /**
   * Count one evaluation, unless the flag set in memory is of another provider, or there is none.
   *
   * @param {string} provider
   * @param {string} key
   * @param {unknown[]} result as the provider's lines have it after the number; undefined is null
   * @param {object} [options]
   * @param {boolean} [options.known] whether the flag exists; by default, the flag set says it
   * @param {string[]} [options.kinds] kinds of the context
   */
  count(provider, key, result, { known, kinds = [] } = {}) {
    const snapshot = this.#current();
    if (typeof key !== "string" || snapshot?.provider !== provider) return;
    if (provider !== this.#provider) this.flush(); // its cells have another shape
    this.#provider = provider;
    const now = this.#clock();
    // The clock may have been set back.
    if (!(this.#first <= now && now < this.#due)) this.#begin(now);
    this.#last = now;
    this.#version = snapshot.token;
    for (const kind of kinds) this.#addKind(kind);
    const id = JSON.stringify([key, result]);
    const cell = this.#cells.get(id);
    if (cell !== undefined) cell.count += 1;
    else if (known ?? snapshot.text("flags", key) !== undefined) this.#add(id, key, result);
    else this.#addUnknown(id, key, result);
  }

  /** Print the counts, if there are any. */
  flush() {
    const cells = this.#cells;
    const times = { a: Math.trunc(this.#first), b: Math.trunc(this.#last) };
    const kinds = [...this.#kinds].sort();
    if (kinds.some((kind) => kind !== "user")) times.k = kinds;
    [this.#cells, this.#kinds, this.#unknown, this.#due] = [new Map(), new Set(), new Set(), 0];
    if (cells.size === 0) return;
    const room = LINE_BYTES - this.#line(times, "{}\n").length;
    for (const flags of parts(cells.values(), room)) {
      this.#lines += 1;
      this.#write(this.#line(times, flags));
    }
  }

  /** Whether the end of a handler's call should print the counts. */
  isDue() {
    return this.#lines < SOON_LINES || this.#clock() >= this.#due;
  }

  #begin(now) {
    this.flush();
    [this.#first, this.#last, this.#due] = [now, now, now + INTERVAL_S];
  }

  #add(id, key, result) {
    if (this.#cells.size >= MAX_CELLS) this.#begin(this.#last);
    const cell = this.#cells.get(id);
    if (cell === undefined) this.#cells.set(id, { key, result, count: 1 });
    else cell.count += 1;
  }

  #addUnknown(id, key, result) {
    const isNamed = this.#unknown.has(key) || this.#unknown.size < MAX_UNKNOWN;
    if (isNamed && key.length <= UNKNOWN_CHARS) {
      this.#unknown.add(key);
      this.#add(id, key, result);
    } else {
      this.#add(JSON.stringify([OTHERS, result]), OTHERS, result);
    }
  }

  #addKind(kind) {
    const isShort = typeof kind === "string" && kind.length <= KIND_CHARS;
    if (isShort && this.#kinds.size < MAX_KINDS) this.#kinds.add(kind);
  }

  #line(times, flags) {
    const head = { s: this.#source, p: this.#provider, v: this.#version, n: this.#appName };
    const { AWS_LAMBDA_LOG_FORMAT, AWS_LAMBDA_LOG_LEVEL: level } = process.env;
    if (LEVELS.includes(level) && AWS_LAMBDA_LOG_FORMAT === "JSON") head.level = level;
    const id = randomBytes(ID_BYTES).toString("base64url");
    const fields = asciiJson({ "flagstore.usage": 1, id, ...head, ...times });
    return `${fields.slice(0, -1)},"f":${flags}}`;
  }
}

/** Yield all cells by flag as JSON, in parts of at most `room` bytes. */
function* parts(cells, room) {
  let flags = new Map();
  let left = room;
  for (const { key, result, count } of cells) {
    const [name, cell] = [asciiJson(key), asciiJson([count, ...result])];
    const size = name.length + cell.length + ":[],,".length;
    if (size > room) continue; // no provider permits such a key
    if (size > left) {
      yield objectOf(flags);
      [flags, left] = [new Map(), room];
    }
    flags.set(name, [...(flags.get(name) ?? []), cell]);
    left -= size;
  }
  if (flags.size > 0) yield objectOf(flags);
}

function objectOf(flags) {
  return `{${[...flags].map(([name, cells]) => `${name}:[${cells.join()}]`).join()}}`;
}

let stdout;

/**
 * Write a line as it is, in one step; on Lambda, the global console would write more than that. If
 * there is no stdout, nothing happens.
 */
function print(line) {
  stdout ??= new Console({ stdout: process.stdout });
  stdout.log(line);
}

// -- when counts are printed
// ---------------------------------------------------------------------

/** Those of this process. */
const counters = [];

function flushAll() {
  for (const counter of counters) counter.flush();
}

/** Print all counts when the process ends. Lambda sends SIGTERM only to functions with an extension. */
function flushAtEnd() {
  process.on("exit", flushAll);
  process.once("SIGTERM", () => {
    flushAll();
    // Without handlers of others, it ends the process as if there had been none here.
    if (process.listenerCount("SIGTERM") === 0) process.kill(process.pid, "SIGTERM");
  });
}

/**
 * Wrap a handler, to print all counts after its first calls, and then once a minute.
 *
 * @template {(...given: any[]) => any} Handler
 * @param {Handler} handler
 * @returns {Handler}
 */
function reporting(handler) {
  function reported(...given) {
    let isPending = false;
    try {
      const result = handler.apply(this, given);
      isPending = typeof result?.then === "function";
      return isPending ? Promise.resolve(result).finally(reportLater) : result;
    } finally {
      if (!isPending) report();
    }
  }
  return Object.assign(reported, handler); // marks of Lambda's, as for streaming
}

function report() {
  for (const counter of counters) if (counter.isDue()) counter.flush();
}

/** Split's SDK says what it has evaluated by timers, which run before this one. */
async function reportLater() {
  if (!counters.some((counter) => counter.isDue())) return;
  await sleep(0);
  report();
}

module.exports = { UsageCounter, reporting };
