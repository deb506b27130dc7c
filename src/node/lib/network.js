"use strict";

/**
 * Sockets with deadlines: DNS lookup, connection, certificate verification.
 *
 * Deadlines are in seconds of {@link monotonic}.
 */

const dns = require("node:dns");
const { readFileSync } = require("node:fs");
const net = require("node:net");
const tls = require("node:tls");

const AMAZON_ROOTS = require("./amazon_roots.js");

/** OpenSSL's codes for a certificate whose issuer is not trusted. */
const UNKNOWN_ISSUER = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);
/** Share of the remaining time for a DNS lookup if earlier addresses are known. */
const KNOWN_SHARE = 1 / 3;
/** A longer timer would go off at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Name → addresses that were found last. */
const known = new Map();
/** Name → the lookup under way: there is never more than one. */
const lookups = new Map();
/** Servers whose certificates need the system's authorities, not Amazon's. */
const outsideAmazon = new Set();
let amazonContext;
let systemContext;

/** Time ran out. */
class TimeoutError extends Error {
  get name() {
    return "TimeoutError";
  }
}

/** Return seconds that never go back. */
function monotonic() {
  return performance.now() / 1000;
}

/**
 * Return the seconds until a deadline.
 *
 * @throws {TimeoutError} if it has passed
 */
function left(deadline) {
  const seconds = deadline - monotonic();
  if (seconds <= 0) throw new TimeoutError("out of time");
  return seconds;
}

/**
 * Call a function at a deadline, unless the returned one is called before.
 *
 * What has arrived by then is handled first: other code may have kept the event loop busy.
 */
function at(deadline, expire) {
  let immediate;
  const timer = setTimeout(
    () => {
      immediate = setImmediate(expire);
    },
    Math.min(Math.max(0, deadline - monotonic()) * 1000, MAX_TIMER_MS),
  );
  return () => {
    clearTimeout(timer);
    clearImmediate(immediate);
  };
}

/**
 * Return what a promise resolves to; reject at a deadline.
 *
 * @template T
 * @param {Promise<T>} promise goes on
 * @param {number} deadline
 * @param {string} name for the message
 * @returns {Promise<T>}
 */
async function within(promise, deadline, name) {
  let cancel;
  const late = new Promise((_, reject) => {
    cancel = at(deadline, () => reject(new TimeoutError(`${name} took too long`)));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel();
  }
}

/**
 * Connect to a server; with TLS, check its name and certificate.
 *
 * Trusts Amazon's roots and then, for private endpoints and proxies, the system's.
 *
 * @param {{name: string, port: number, secure: boolean}} server
 * @param {number} deadline
 * @returns {Promise<net.Socket>}
 */
async function connect({ name, port, secure }, deadline) {
  if (!secure) return open(name, port, deadline);
  if (!outsideAmazon.has(name)) {
    try {
      return await shakeHands(await open(name, port, deadline), name, deadline, prepareTls());
    } catch (error) {
      if (!UNKNOWN_ISSUER.has(error.code)) throw error;
    }
  }
  const context = systemTls();
  const secured = await shakeHands(await open(name, port, deadline), name, deadline, context);
  outsideAmazon.add(name);
  return secured;
}

/** Return the context that trusts Amazon's roots; cached. Parsing 5 of them takes a millisecond. */
function prepareTls() {
  amazonContext ??= tls.createSecureContext({ ca: AMAZON_ROOTS });
  return amazonContext;
}

/** Return the context of Node's own store, or of `SSL_CERT_FILE`; cached. */
function systemTls() {
  if (systemContext === undefined) {
    const { SSL_CERT_FILE: file, NODE_EXTRA_CA_CERTS: more } = process.env;
    // Node itself reads the second one, unless authorities are given.
    const files = file ? [file, more].filter(Boolean) : [];
    const ca = files.length ? files.map((each) => readFileSync(each)) : undefined;
    systemContext = tls.createSecureContext({ ca });
  }
  return systemContext;
}

/** Start TLS on a connected socket. */
async function shakeHands(socket, name, deadline, secureContext) {
  const host = name.replace(/\.$/, "");
  const secured = tls.connect({
    socket,
    host, // what the certificate has to be for
    servername: net.isIP(host) ? "" : host,
    secureContext,
    rejectUnauthorized: true, // whatever NODE_TLS_REJECT_UNAUTHORIZED says
  });
  try {
    await established(secured, "secureConnect", deadline, "the TLS handshake");
  } catch (error) {
    socket.destroy();
    // Another attempt would fail as well.
    error.isUntrusted = Boolean(secured.authorizationError);
    throw error;
  }
  return secured;
}

/** Connect to a name; if it cannot be looked up in time, to the last known addresses. */
async function open(name, port, deadline) {
  return dial(await addressesOf(name, deadline), port, deadline);
}

async function addressesOf(name, deadline) {
  const family = net.isIP(name);
  if (family) return [{ address: name, family }];
  const earlier = known.get(name);
  const share = earlier === undefined ? 1 : KNOWN_SHARE;
  try {
    const by = monotonic() + share * left(deadline); // first: nobody would handle a failed lookup
    // The system's resolver has no deadline: a name server that drops packets costs 10 s.
    return await within(lookUp(name), by, name);
  } catch (error) {
    if (earlier === undefined) throw error;
    return earlier;
  }
}

/** Look up a name, and keep its addresses, even if the caller has given up waiting. */
function lookUp(name) {
  if (!lookups.has(name)) {
    const lookup = new Promise((resolve, reject) => {
      dns.lookup(name, { all: true }, (error, addresses) => {
        lookups.delete(name);
        if (error) return reject(error);
        known.set(name, addresses);
        return resolve(addresses);
      });
    });
    lookups.set(name, lookup);
  }
  return lookups.get(name);
}

/**
 * Connect to the first address that accepts.
 *
 * Each gets its share of the remaining time, so that one in a failed Availability Zone, which drops
 * packets, leaves time for the others.
 */
async function dial(addresses, port, deadline) {
  for (const [place, { address, family }] of addresses.entries()) {
    const by = monotonic() + left(deadline) / (addresses.length - place);
    const socket = net.connect({ host: address, family, port, noDelay: true });
    try {
      await established(socket, "connect", by, `connecting to ${address}`);
      return socket;
    } catch (error) {
      if (place === addresses.length - 1) throw error;
    }
  }
  throw new Error("the name has no address");
}

/** Wait for a socket's event; destroy the socket if another one comes first, or none in time. */
async function established(socket, event, deadline, name) {
  const done = new Promise((resolve, reject) => {
    socket.once(event, resolve);
    // Also keeps an error that comes later from ending the process.
    socket.on("error", reject);
    socket.once("close", () => reject(new Error("the server closed the connection")));
  });
  try {
    await within(done, deadline, name);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

module.exports = { TimeoutError, at, connect, left, monotonic, prepareTls };
