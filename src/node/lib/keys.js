"use strict";

/**
 * Keys and records of the store. No I/O.
 *
 * A record is an object of attribute names to numbers, strings or bytes. The same layout as
 * flagstore/keys.py, which has the reasons.
 */

const { ConfigurationError, CorruptSnapshotError } = require("./errors.js");

/** Version of the format of snapshot record and body; the snapshot record's key. */
const LAYOUT = 1;
/** Number of namespaces, and so of partitions, that chunks are spread over. */
const CHUNK_NAMESPACES = 32;
const TOKEN_DIGITS = 12;
const SOURCE = /^[a-z0-9][a-z0-9-]{0,47}$/;

/** Attribute of the source state → its value where a record lacks it. */
const STATE_DEFAULTS = {
  published: 0,
  nonce: "",
  digest: "",
  checked_at: 0,
  deltas: new Uint8Array(0),
  deployment: "",
};

/** The same for the snapshot record; undefined: a record must have it. */
const SNAPSHOT_DEFAULTS = {
  token: undefined,
  provider: undefined,
  digest: undefined,
  counts: undefined,
  published_at: undefined,
  index_data: undefined,
  index_digest: undefined,
  revision: 0,
  body: new Uint8Array(0),
  chunks: "",
  nonce: "",
};

const TYPES = {
  token: "number",
  published: "number",
  published_at: "number",
  checked_at: "number",
  revision: "number",
  index_data: "bytes",
  body: "bytes",
  deltas: "bytes",
};

/**
 * Return the name of a source if it is safe in keys.
 *
 * @param {string} name
 * @throws {ConfigurationError} if it is not
 */
function checkSource(name) {
  if (typeof name !== "string" || !SOURCE.test(name)) {
    throw new ConfigurationError(
      `${JSON.stringify(name)} is not a valid source name: use 1 to 48 of a-z, 0-9 and '-', ` +
        "starting with a letter or digit",
    );
  }
  return name;
}

/** Return the key of the source state. */
function stateKey(source) {
  return { namespace: `${source}:$state`, key: "state" };
}

/** Return the key of the snapshot record; each replica has a namespace and partition of its own. */
function snapshotKey(source, replica = 0) {
  const suffix = replica ? `~${replica}` : "";
  return { namespace: `${source}:$snapshot${suffix}`, key: String(LAYOUT) };
}

/**
 * Return the prefix of the keys of the chunks of one body or large segment.
 *
 * @param {number} token of the publication that wrote them
 * @param {string} digest of the body's index, or of the segment's bytes
 */
function chunksPrefix(token, digest) {
  return `${String(token).padStart(TOKEN_DIGITS, "0")}/${digest.slice(0, 16)}/`;
}

/** Return the key of one chunk, counted from 0. */
function chunkKey(source, prefix, number) {
  const place = number % CHUNK_NAMESPACES;
  const namespace = `${source}:$body${place ? `~${place}` : ""}`;
  return { namespace, key: `${prefix}${String(number).padStart(3, "0")}` };
}

/** Whether two publications are the same one: a store that lost its history may repeat a token. */
function samePublication(one, other) {
  return one.token === other.token && one.nonce === other.nonce;
}

/**
 * Read a source state from its record, which may be undefined; unknown attributes are ignored.
 *
 * @throws {CorruptSnapshotError} if an attribute has another type
 */
function readState(record) {
  const found = attributes("source state", record ?? {}, STATE_DEFAULTS);
  return {
    published: found.published,
    /** The published set's identity. */
    publication: { token: found.published, nonce: found.nonce },
    digest: found.digest,
    /** Start of the last completed check's fetch, in milliseconds since the epoch. */
    checkedAt: found.checked_at,
    deltas: found.deltas,
    /** JSON of the progress of a gradual deployment; "" for none. */
    deployment: found.deployment,
  };
}

/**
 * Read a snapshot record.
 *
 * @throws {CorruptSnapshotError} if attributes are missing or have another type
 */
function readSnapshotRecord(record) {
  const found = attributes("snapshot record", record, SNAPSHOT_DEFAULTS);
  return {
    token: found.token,
    nonce: found.nonce,
    provider: found.provider,
    digest: found.digest,
    counts: parseCounts(found.counts),
    /** Milliseconds since the epoch. */
    publishedAt: found.published_at,
    revision: found.revision,
    indexData: found.index_data,
    indexDigest: found.index_digest,
    body: found.body,
    chunks: parseChunks(found.chunks, found.index_digest),
  };
}

/** Return the attributes that are known, with their defaults. */
function attributes(title, record, defaults) {
  const found = {};
  for (const [name, value] of Object.entries(defaults)) {
    const given = Object.hasOwn(record, name) ? record[name] : value;
    if (given === undefined) {
      throw new CorruptSnapshotError(`attribute ${name} is missing in the ${title}`);
    }
    if (!isOfType(given, TYPES[name] ?? "string")) {
      throw new CorruptSnapshotError(`attribute ${name} of the ${title} has another type`);
    }
    found[name] = given;
  }
  return found;
}

function isOfType(value, type) {
  if (type === "bytes") return value instanceof Uint8Array;
  if (type === "number") return Number.isInteger(value);
  return typeof value === type;
}

function parseCounts(text) {
  const counts = parse(text);
  const isObject = counts !== null && typeof counts === "object" && !Array.isArray(counts);
  if (!isObject || !Object.values(counts).every(Number.isInteger)) {
    throw new CorruptSnapshotError("the counts of the snapshot record are not an object of numbers");
  }
  return Object.freeze(counts); // it is handed out
}

/** Return the prefix of the body's chunks and their number; "" and 0 if it is in the record. */
function parseChunks(text, indexDigest) {
  if (!text) return { prefix: "", number: 0 };
  const [token, number] = [parse(text)].flat();
  if (!Number.isInteger(token) || !Number.isInteger(number)) {
    throw new CorruptSnapshotError("the snapshot record does not say where its chunks are");
  }
  return { prefix: chunksPrefix(token, indexDigest), number };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CorruptSnapshotError("an attribute of the snapshot record is not JSON", {
      cause: error,
    });
  }
}

module.exports = {
  checkSource,
  chunkKey,
  chunksPrefix,
  readSnapshotRecord,
  readState,
  samePublication,
  snapshotKey,
  stateKey,
};
