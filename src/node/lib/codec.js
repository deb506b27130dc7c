"use strict";

/**
 * The format of a snapshot's body, and how to decode one item of it. No I/O.
 *
 * flagstore/codec.py describes it. All digests are verified before anything is inflated.
 */

const { createHash } = require("node:crypto");
const { inflateSync } = require("node:zlib");

const { asciiJson, compareCodePoints, inOrder } = require("./canonical.js");
const { CorruptSnapshotError } = require("./errors.js");
const { chunksPrefix } = require("./keys.js");

/** The section whose items may be large segments. */
const LARGE_SECTION = "segments";
/** Maximum number of inflated blocks kept in memory: 1 MB. */
const KEPT_BLOCKS = 64;
/** Nothing that a writer accepts is larger, and some MB of it could inflate to gigabytes. */
const MAX_INFLATED_BYTES = 134_217_728;
const NOTHING = new Map();

/** Return SHA-256 of bytes or text in hex. */
function wholeDigest(data) {
  return createHash("sha256").update(data).digest("hex");
}

/** Return 128 bits of SHA-256 in hex: an index has one per block. */
function shortDigest(data) {
  return wholeDigest(data).slice(0, 32);
}

/**
 * A large segment's entry in the index.
 *
 * @param {[string, string, number, number]} entry digest of its content and of its bytes, token of
 *   the publication that wrote it, number of chunks
 */
function largeSegment([digest, dataDigest, token, chunks]) {
  return Object.freeze({ digest, dataDigest, token, chunks });
}

/** Return the prefix of the keys of a large segment's chunks. */
function segmentPrefix(segment) {
  return chunksPrefix(segment.token, segment.dataDigest);
}

/** Throw CorruptSnapshotError unless the bytes of a large segment match its digest. */
function checkSegment(segment, data) {
  if (shortDigest(data) !== segment.dataDigest) {
    throw new CorruptSnapshotError(
      "a large segment does not match its digest, or chunks of it are missing",
    );
  }
}

/** Return the JSON of a large segment from its bytes. */
function segmentText(data) {
  return inflate(data).toString("latin1");
}

/** Return inflated bytes; throw RangeError if there are too many. */
function inflate(data, options = {}) {
  return inflateSync(data, { maxOutputLength: MAX_INFLATED_BYTES, ...options });
}

/** Return the index; throw CorruptSnapshotError if it does not match its digest. */
function readIndex(data, digest) {
  if (wholeDigest(data) !== digest) {
    throw new CorruptSnapshotError("the index does not match the digest in the snapshot record");
  }
  return JSON.parse(inflate(data).toString("latin1"));
}

/** Return a block from its entry in the index. */
function readBlock([first, offset, length, digest]) {
  return { first, offset, length, digest };
}

function withoutComma(text) {
  return text.endsWith(",") ? text.slice(0, -1) : text;
}

/** An encoded flag set; decodes one block at a time, when it is needed. */
class Body {
  /** The rest of the provider's document. */
  meta;
  /** Section → its blocks. */
  sections;
  /** Key → the large segment's entry in the index. */
  large;

  #data;
  /** Offset → text of inflated blocks. Bodies that share the data share this. */
  #blocks;
  /** Section → the inflated first block, the preset dictionary of the others. */
  #dictionaries;
  /** Section → key → JSON, undefined if it was removed: changes after the blocks. */
  #overlay = NOTHING;
  /** Section → its keys in order. */
  #keys = new Map();

  /**
   * Verify all digests of a body.
   *
   * @param {Uint8Array} index
   * @param {string} digest of the index
   * @param {Uint8Array} data the blocks
   * @throws {CorruptSnapshotError} if one does not match
   */
  static read(index, digest, data) {
    const found = readIndex(index, digest);
    const body = new Body();
    body.meta = found.meta;
    body.sections = new Map(
      Object.entries(found.sections).map(([name, entries]) => [name, entries.map(readBlock)]),
    );
    body.large = new Map(
      Object.entries(found.large ?? {}).map(([key, entry]) => [key, largeSegment(entry)]),
    );
    body.#data = data;
    body.#blocks = new Map();
    body.#dictionaries = new Map();
    body.#verify();
    return body;
  }

  #verify() {
    for (const [name, blocks] of this.sections) {
      for (const block of blocks) {
        if (shortDigest(this.#packed(block)) !== block.digest) {
          const from = JSON.stringify(block.first);
          throw new CorruptSnapshotError(
            `the block of ${name} from ${from} on does not match its digest`,
          );
        }
      }
    }
  }

  /**
   * Return the body with other items; both share the blocks, and large segments stay.
   *
   * @param {Map<string, Map<string, string | undefined>>} sections section → key → JSON
   */
  changed(sections) {
    const other = new Body();
    Object.assign(other, { meta: this.meta, sections: this.sections, large: this.large });
    other.#data = this.#data;
    other.#blocks = this.#blocks;
    other.#dictionaries = this.#dictionaries;
    other.#overlay = new Map(this.#overlay);
    for (const [name, texts] of sections) {
      const overlay = new Map([...(this.#overlay.get(name) ?? NOTHING), ...texts]);
      for (const [key, text] of texts) {
        // Keys that come and go must not add up.
        if (text === undefined && this.#stored(name, key) === undefined) overlay.delete(key);
      }
      other.#overlay.set(name, overlay);
    }
    return other;
  }

  /** Return one item as JSON; undefined if there is none, or it is a large segment. */
  text(section, key) {
    const changed = this.#overlay.get(section);
    return changed?.has(key) ? changed.get(key) : this.#stored(section, key);
  }

  /** Return the keys of a section in order, large segments included. */
  keys(section) {
    let keys = this.#keys.get(section);
    if (keys === undefined) {
      const found = new Set(section === LARGE_SECTION ? this.large.keys() : []);
      for (const [key] of this.items(section)) found.add(key);
      keys = inOrder(found);
      if (keys.length > 0) this.#keys.set(section, keys); // callers may invent any section
    }
    return [...keys]; // handed out
  }

  /** Yield key and item, parsed, of a whole section but its large segments: a block at a time. */
  *items(section) {
    const changed = this.#overlay.get(section) ?? NOTHING;
    for (const block of this.sections.get(section) ?? []) {
      for (const [key, item] of Object.entries(JSON.parse(this.#block(section, block)))) {
        if (!changed.has(key)) yield [key, item];
      }
    }
    for (const [key, text] of changed) {
      if (text !== undefined) yield [key, JSON.parse(text)];
    }
  }

  #stored(section, key) {
    const blocks = this.sections.get(section);
    const place = blocks === undefined ? -1 : lastUpTo(blocks, key);
    if (place < 0) return undefined;
    const text = this.#block(section, blocks[place]);
    // One item per line, and JSON has no raw line ends: nothing else can match.
    const label = `\n${asciiJson(key)}:`;
    const found = text.indexOf(label);
    if (found < 0) return undefined;
    const start = found + label.length;
    return withoutComma(text.slice(start, text.indexOf("\n", start)));
  }

  #block(section, block) {
    let text = this.#blocks.get(block.offset);
    if (text === undefined) {
      const [first] = this.sections.get(section);
      let dictionary = this.#dictionaries.get(section);
      if (dictionary === undefined) {
        dictionary = inflate(this.#packed(first));
        this.#dictionaries.set(section, dictionary);
      }
      const data = block === first ? dictionary : inflate(this.#packed(block), { dictionary });
      text = data.toString("latin1");
      if (this.#blocks.size >= KEPT_BLOCKS) this.#blocks.clear();
      this.#blocks.set(block.offset, text);
    }
    return text;
  }

  #packed(block) {
    return this.#data.subarray(block.offset, block.offset + block.length);
  }
}

/** Return the place of the last block whose first key is not after a key; -1 if there is none. */
function lastUpTo(blocks, key) {
  let [low, high] = [0, blocks.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareCodePoints(blocks[middle].first, key) <= 0) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

module.exports = {
  Body,
  LARGE_SECTION,
  checkSegment,
  segmentPrefix,
  segmentText,
};
