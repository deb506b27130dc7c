"use strict";

/** One flag set in memory. No I/O except in the function that reads large segments. */

const { inOrder } = require("./canonical.js");
const { LARGE_SECTION, segmentText } = require("./codec.js");
const { NotLoadedError } = require("./errors.js");

/** Large segments in memory, by the digest of their bytes; flag sets share them. */
class SegmentMemory {
  #found = new Map();

  has(digest) {
    return this.#found.has(digest);
  }

  get(digest) {
    return this.#found.get(digest);
  }

  /** Keep a segment, whose digest has been checked. */
  add(digest, held) {
    this.#found.set(digest, held);
  }

  /** Return those of some digests, for another body. */
  only(digests) {
    const other = new SegmentMemory();
    for (const digest of digests) {
      if (this.#found.has(digest)) other.#found.set(digest, this.#found.get(digest));
    }
    return other;
  }
}

/** A large segment in memory; parsed when it is first used. */
class HeldSegment {
  #data;
  #item;

  constructor(data) {
    this.#data = data;
  }

  text() {
    return segmentText(this.#data);
  }

  item() {
    if (this.#item === undefined) this.#item = JSON.parse(this.text());
    return this.#item;
  }
}

/** One flag set: see index.d.ts. */
class Snapshot {
  #body;
  #loadSegment;
  /** Section → key → parsed item. */
  #items;

  /**
   * @param {string} source
   * @param {object} record as of `readSnapshotRecord`
   * @param {import("./codec.js").Body} body
   * @param {(segment: object) => Promise<HeldSegment>} loadSegment reads a large segment
   * @param {{memory?: SegmentMemory, items?: Map<string, Map<string, any>>}} [earlier] what was
   *   read and parsed before
   */
  constructor(source, record, body, loadSegment, { memory, items } = {}) {
    this.source = source;
    /** Without what identifies and holds the body, which is of no use once it is read. */
    this.record = { ...record, indexData: undefined, indexDigest: "", body: undefined };
    this.large = body.large;
    /** The large segments in memory. */
    this.memory = memory ?? new SegmentMemory();
    /** Key of a large segment that cannot be read now → the earlier one. */
    this.standIns = new Map();
    this.progress = "";
    this.twoVersions = record.provider === "appconfig" && Boolean(record.counts.deployments);
    this.#body = body;
    this.#loadSegment = loadSegment;
    this.#items = items ?? new Map();
  }

  get provider() {
    return this.record.provider;
  }

  get token() {
    return this.record.token;
  }

  get nonce() {
    return this.record.nonce;
  }

  get digest() {
    return this.record.digest;
  }

  get revision() {
    return this.record.revision;
  }

  get publishedAt() {
    return this.record.publishedAt / 1000;
  }

  get counts() {
    return this.record.counts;
  }

  get meta() {
    return this.#body.meta;
  }

  keys(section = "flags") {
    return this.#body.keys(section);
  }

  text(section, key) {
    if (typeof key !== "string") return undefined;
    const text = this.#body.text(section, key);
    if (text !== undefined || !this.#isLarge(section, key)) return text;
    return this.#inMemory(key).text();
  }

  item(section, key) {
    if (typeof key !== "string") return undefined;
    if (this.#isLarge(section, key)) return this.#inMemory(key).item();
    const kept = this.#kept(section);
    if (kept.has(key)) return kept.get(key);
    const text = this.#body.text(section, key);
    if (text === undefined) return undefined; // whoever asks for any name must not fill the memory
    const item = JSON.parse(text);
    kept.set(key, item);
    return item;
  }

  items(section = "flags") {
    const kept = this.#kept(section);
    const keys = [];
    for (const [key, item] of this.#body.items(section)) {
      if (!kept.has(key)) kept.set(key, item);
      keys.push(key);
    }
    return inOrder(keys).map((key) => kept.get(key));
  }

  hasSegment(key) {
    return !this.large.has(key) || this.heldSegment(key) !== undefined;
  }

  async segment(key) {
    if (this.hasSegment(key)) return this.item(LARGE_SECTION, key);
    const segment = this.large.get(key);
    const held = await this.#loadSegment(segment);
    this.memory.add(segment.dataDigest, held);
    return held.item();
  }

  changed(items) {
    const found = Object.entries(items).map(([name, texts]) => [
      name,
      new Map(Object.entries(texts)),
    ]);
    return this.withChanges(new Map(found), {});
  }

  /**
   * Return a later flag set: this one with other items.
   *
   * @param {Map<string, Map<string, string | undefined>>} items section → key → JSON
   * @param {object} identity what else differs in its record
   */
  withChanges(items, identity) {
    const counts = { ...this.counts };
    const kept = new Map(this.#items);
    for (const [section, texts] of items) {
      const others = new Map(kept.get(section) ?? []);
      let difference = 0;
      for (const [key, text] of texts) {
        others.delete(key);
        difference += Number(text !== undefined) - Number(this.held(section, key) !== undefined);
      }
      kept.set(section, others);
      counts[section] = (Object.hasOwn(counts, section) ? counts[section] : 0) + difference;
    }
    const record = { ...this.record, counts: Object.freeze(counts), ...identity };
    return new Snapshot(this.source, record, this.#body.changed(items), this.#loadSegment, {
      memory: this.memory,
      items: kept,
    });
  }

  /** Return the same flag set without stand-ins. */
  again() {
    const other = new Snapshot(this.source, this.record, this.#body, this.#loadSegment, {
      memory: this.memory,
      items: this.#items,
    });
    other.progress = this.progress;
    return other;
  }

  /** Return an item in memory as JSON; undefined if there is none, or it is a large segment. */
  held(section, key) {
    return this.#body.text(section, key);
  }

  /**
   * Return a segment in memory: a large one, or a small one that may grow large. Undefined if there
   * is none, or it would have to be read.
   *
   * @returns {{text(): string, item(): any} | undefined}
   */
  heldSegment(key) {
    if (this.standIns.has(key)) return this.standIns.get(key);
    const segment = this.large.get(key);
    if (segment !== undefined) return this.memory.get(segment.dataDigest);
    const text = this.#body.text(LARGE_SECTION, key);
    return text === undefined
      ? undefined
      : { text: () => text, item: () => this.item(LARGE_SECTION, key) };
  }

  #isLarge(section, key) {
    return section === LARGE_SECTION && this.large.has(key);
  }

  #inMemory(key) {
    const held = this.heldSegment(key);
    if (held === undefined) {
      throw new NotLoadedError(
        `large segment ${JSON.stringify(key)} of ${JSON.stringify(this.source)} is not in memory: ` +
          "await segment(key), or snapshot({ segments: true })",
      );
    }
    return held;
  }

  #kept(section) {
    if (!this.#items.has(section)) this.#items.set(section, new Map());
    return this.#items.get(section);
  }
}

module.exports = { HeldSegment, Snapshot };
