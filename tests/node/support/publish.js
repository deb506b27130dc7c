"use strict";

/** Writes records as the writer does, as far as tests need: one block a section, no deltas. */

const { createHash } = require("node:crypto");
const { deflateSync } = require("node:zlib");

const { asciiJson } = require("../../../src/node/lib/canonical.js");
const { chunkKey, chunksPrefix, snapshotKey, stateKey } = require("../../../src/node/lib/keys.js");
const { placeOf } = require("./store.js");

const DIGEST_LENGTH = 32;

/**
 * Publish a set.
 *
 * @param {Map<string, object>} records
 * @param {Record<string, object>} sections section → key → item
 * @param {object} options
 * @param {number} options.token
 * @param {string} [options.nonce]
 * @param {number} [options.chunkBytes] size of the body's chunks; by default it is in the record
 * @param {Record<string, any>} [options.large] large segments
 * @param {number} [options.segmentBytes] size of their chunks
 */
function publish(records, sections, { token, nonce = `n${token}`, ...options }) {
  const { chunkBytes, large = {}, segmentBytes = 350_000 } = options;
  const table = {};
  const blocks = [];
  for (const [section, items] of Object.entries(sections)) {
    const block = blockOf(items);
    const first = Object.keys(items).sort()[0];
    const offset = blocks.reduce((sum, each) => sum + each.length, 0);
    table[section] = block ? [[first, offset, block.length, digest(block)]] : [];
    if (block) blocks.push(block);
  }
  const entries = {};
  for (const [key, item] of Object.entries(large)) {
    const data = deflateSync(JSON.stringify(item));
    const prefix = chunksPrefix(token, digest(data));
    entries[key] = ["", digest(data), token, putChunks(records, prefix, data, segmentBytes)];
  }
  const index = deflateSync(JSON.stringify({ meta: {}, sections: table, large: entries }));
  const body = Buffer.concat(blocks);
  const record = {
    token,
    nonce,
    provider: "model",
    digest: `digest of ${token}`,
    counts: JSON.stringify(countsOf(sections, large)),
    published_at: token * 1000,
    index_data: index,
    index_digest: sha256(index),
  };
  if (chunkBytes) {
    const prefix = chunksPrefix(token, record.index_digest);
    record.chunks = JSON.stringify([token, putChunks(records, prefix, body, chunkBytes)]);
  } else {
    record.body = body;
  }
  put(records, snapshotKey("prod"), record);
  put(records, stateKey("prod"), { published: token, nonce, digest: record.digest, checked_at: 7 });
}

function blockOf(items) {
  const lines = Object.keys(items)
    .sort()
    .map((key) => `${asciiJson(key)}:${JSON.stringify(items[key])}`);
  return lines.length ? deflateSync(`{\n${lines.join(",\n")}\n}`) : undefined;
}

function countsOf(sections, large) {
  const counts = Object.entries(sections).map(([name, items]) => [name, Object.keys(items).length]);
  const found = Object.fromEntries(counts);
  if (Object.keys(large).length) {
    found.segments = (found.segments ?? 0) + Object.keys(large).length;
  }
  return found;
}

function putChunks(records, prefix, data, size) {
  let number = 0;
  for (let at = 0; at < data.length; at += size) {
    put(records, chunkKey("prod", prefix, number), { body: data.subarray(at, at + size) });
    number += 1;
  }
  return number;
}

function put(records, { namespace, key }, record) {
  records.set(placeOf(namespace, key), { namespace, key, ...record });
}

function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}

function digest(data) {
  return sha256(data).slice(0, DIGEST_LENGTH);
}

/** Return a record as DynamoDB has it. */
function typed(record) {
  const entries = Object.entries(record).map(([name, value]) => {
    if (value instanceof Uint8Array) return [name, { B: Buffer.from(value).toString("base64") }];
    return [name, typeof value === "number" ? { N: String(value) } : { S: value }];
  });
  return Object.fromEntries(entries);
}

module.exports = { publish, typed };
