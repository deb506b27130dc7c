"use strict";

/**
 * Requests signed for AWS (Signature Version 4). No I/O.
 *
 * Source of the rules: AWS, "Create a signed AWS API request".
 */

const { createHash, createHmac } = require("node:crypto");

const DATE_DIGITS = 8;

/**
 * Return the headers of a signed `POST /`, including the given ones.
 *
 * @param {{accessKey: string, secretKey: string, token?: string}} credentials
 * @param {object} request
 * @param {string} request.region
 * @param {string} request.service
 * @param {string} request.host
 * @param {string} request.timestamp UTC as `YYYYMMDDTHHMMSSZ`
 * @param {Record<string, string>} request.headers names in lower case
 * @param {string | Uint8Array} request.body
 * @returns {Record<string, string>}
 */
function sign(credentials, { region, service, host, timestamp, headers, body }) {
  const signed = { ...headers, host, "x-amz-date": timestamp };
  if (credentials.token) signed["x-amz-security-token"] = credentials.token;
  const sorted = Object.keys(signed).sort();
  const names = sorted.join(";");
  const lines = sorted.map((name) => `${name}:${signed[name].trim().replace(/\s+/g, " ")}\n`);
  const canonical = `POST\n/\n\n${lines.join("")}\n${names}\n${digest(body)}`;
  const scope = `${timestamp.slice(0, DATE_DIGITS)}/${region}/${service}/aws4_request`;
  const text = `AWS4-HMAC-SHA256\n${timestamp}\n${scope}\n${digest(canonical)}`;
  let key = `AWS4${credentials.secretKey}`;
  for (const part of [...scope.split("/"), text]) {
    key = createHmac("sha256", key).update(part).digest();
  }
  signed.authorization =
    `AWS4-HMAC-SHA256 Credential=${credentials.accessKey}/${scope}, ` +
    `SignedHeaders=${names}, Signature=${key.toString("hex")}`;
  return signed;
}

/** Return a time as `YYYYMMDDTHHMMSSZ`. */
function timestampOf(date) {
  return date.toISOString().replace(/[-:]|\.\d+/g, "");
}

function digest(data) {
  return createHash("sha256").update(data).digest("hex");
}

module.exports = { sign, timestampOf };
