"use strict";

/**
 * The last changes of a flag set, as the source state carries them. No I/O.
 *
 * Deflated JSON, the oldest change first, after the publication before it:
 *
 *     [[token, nonce], [token, nonce, digest, published_at, revision,
 *                       {section: {key: changed or added item}}, {section: [removed key]}], …]
 *
 * The content digest after each change proves that the set is the one that was published.
 */

const { createHash } = require("node:crypto");
const { inflateSync } = require("node:zlib");

const { asciiJson, canonical, elements, members } = require("./canonical.js");
const { samePublication } = require("./keys.js");

/** Maximum size of deltas before deflating: a few KB could inflate to gigabytes. */
const DELTAS_JSON_BYTES = 32_768;
const DIGEST_BITS = 256;

/**
 * Return the published set if the deltas lead to it from this one, otherwise undefined.
 *
 * @param {import("./snapshot.js").Snapshot} snapshot
 * @param {ReturnType<import("./keys.js").readState>} state
 */
function applyDeltas(snapshot, state) {
  try {
    return apply(snapshot, state);
  } catch (error) {
    // Damaged deltas, in whatever way; the snapshot is always complete.
    if (error instanceof Error) return undefined;
    throw error;
  }
}

function apply(snapshot, state) {
  const text = inflateSync(state.deltas, { maxOutputLength: DELTAS_JSON_BYTES }).toString("latin1");
  const links = JSON.parse(text);
  const places = links.map(([token, nonce]) => ({ token, nonce }));
  const from = places.findIndex((place) => samePublication(place, snapshot.record));
  if (from < 0 || !samePublication(places.at(-1), state.publication)) return undefined;
  const after = changes(elements(text).slice(from + 1));
  const before = new Map();
  for (const [section, texts] of after) {
    const held = [...texts.keys()].map((key) => [key, snapshot.held(section, key)]);
    before.set(section, new Map(held));
  }
  const [token, nonce, expected, publishedAt, revision] = links.at(-1);
  const digest = contentDigest(after, { digest: snapshot.digest, replaced: before });
  if (digest !== expected || digest !== state.digest) return undefined;
  return snapshot.withChanges(after, { token, nonce, digest, publishedAt, revision });
}

/** Return section → key → JSON, undefined for removed items, after some links as JSON. */
function changes(links) {
  const found = new Map();
  const texts = (section) => {
    if (!found.has(section)) found.set(section, new Map());
    return found.get(section);
  };
  for (const link of links) {
    const [items, removed] = elements(link).slice(5);
    for (const [section, changed] of members(items)) {
      for (const [key, text] of members(changed)) texts(section).set(key, text);
    }
    for (const [section, keys] of members(removed)) {
      for (const key of JSON.parse(keys)) texts(section).set(key, undefined);
    }
  }
  return found;
}

/**
 * Return the digest of a flag set's content: the sum of its items' hashes modulo 2^256.
 *
 * @param {Map<string, Map<string, string | undefined>>} items section → key → JSON that was added
 * @param {object} [before]
 * @param {string} [before.digest] of the set before the change, in hex
 * @param {Map<string, Map<string, string | undefined>>} [before.replaced] what it lost
 * @returns {string} in hex
 */
function contentDigest(items, { digest = "0", replaced = new Map() } = {}) {
  const whole = BigInt(`0x${digest}`) + sum(items) - sum(replaced);
  return BigInt.asUintN(DIGEST_BITS, whole).toString(16).padStart(DIGEST_BITS / 4, "0");
}

function sum(sections) {
  let whole = 0n;
  for (const [section, items] of sections) {
    for (const [key, text] of items) {
      if (text === undefined) continue;
      const label = `[${asciiJson(section)},${asciiJson(key)}]`;
      const hash = createHash("sha256").update(label).update(canonical(text)).digest("hex");
      whole += BigInt(`0x${hash}`);
    }
  }
  return whole;
}

module.exports = { applyDeltas, contentDigest };
