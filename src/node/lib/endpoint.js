"use strict";

/** DynamoDB's endpoint, from the variables that AWS's SDKs read. No I/O. */

const { ConfigurationError } = require("./errors.js");

/**
 * Prefix of a partition's regions → suffix of its plain and of its dual-stack endpoints, as in
 * flagstore/stores/dynamodb.py; the tests compare the two.
 */
const SUFFIXES = {
  "cn-": ["amazonaws.com.cn", "api.amazonwebservices.com.cn"],
  "eusc-": ["amazonaws.eu", "api.amazonwebservices.eu"],
  "us-gov-": ["amazonaws.com", "api.aws"],
  "us-iso-": ["c2s.ic.gov", "api.aws.ic.gov"],
  "us-isob-": ["sc2s.sgov.gov", "api.aws.scloud"],
  "eu-isoe-": ["cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"],
  "us-isof-": ["csp.hci.ic.gov", "api.aws.hci.ic.gov"],
  "": ["amazonaws.com", "api.aws"],
};
const ENDPOINT = /^(https?):\/\/((?:\[[0-9A-Fa-f:.]+\]|[^\][:/?#@\\\s]+)(?::(\d{1,5}))?)\/?$/i;
const MAX_PORT = 65_535;

/**
 * Return DynamoDB's endpoint, such as `https://dynamodb.eu-west-1.amazonaws.com`.
 *
 * @param {NodeJS.ProcessEnv} environ
 * @param {string} region
 * @param {string} [given] the option, before all variables
 * @throws {ConfigurationError} if one is not `https://` or `http://` with a host, or has a path.
 *   The message does not quote the value.
 */
function endpointOf(environ, region, given) {
  const named = [
    ["endpoint", given],
    ["AWS_ENDPOINT_URL_DYNAMODB", environ.AWS_ENDPOINT_URL_DYNAMODB],
    ["AWS_ENDPOINT_URL", environ.AWS_ENDPOINT_URL],
  ].find(([, value]) => value);
  if (named !== undefined) return checked(...named);
  const partition = Object.keys(SUFFIXES).find((prefix) => region.startsWith(prefix));
  const [plain, dualStack] = SUFFIXES[partition];
  const isDual = isOn(environ.AWS_USE_DUALSTACK_ENDPOINT);
  // The plain endpoints of AWS GovCloud are FIPS-validated.
  const fips = isOn(environ.AWS_USE_FIPS_ENDPOINT) && (isDual || partition !== "us-gov-");
  return `https://dynamodb${fips ? "-fips" : ""}.${region}.${isDual ? dualStack : plain}`;
}

function checked(name, value) {
  const found = ENDPOINT.exec(value);
  const port = Number(found?.[3] ?? 1);
  if (found === null || port < 1 || port > MAX_PORT) {
    throw new ConfigurationError(`${name} must be https://… or http://…, with a host, and no path`);
  }
  return `${found[1].toLowerCase()}://${found[2]}`;
}

function isOn(value) {
  return (value ?? "").toLowerCase() === "true";
}

/**
 * Split a host into name and port: `name`, `name:8000`, `[::1]:8000`.
 *
 * @param {string} host
 * @param {number} port if it has none
 */
function addressOf(host, port) {
  const [, name, digits] = /^(\[.*\]|[^:]*)(?::(\d+))?$/.exec(host);
  return { name: name.replace(/^\[|\]$/g, ""), port: Number(digits ?? port) };
}

module.exports = { addressOf, endpointOf };
