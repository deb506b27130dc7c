"use strict";

/**
 * AWS credentials: from environment variables, as on Lambda, or from a container's endpoint.
 *
 * Source of the rules: AWS SDKs and Tools Reference Guide, "Container credential provider".
 */

const { readFileSync } = require("node:fs");

const { ConfigurationError, StoreUnavailableError } = require("./errors.js");
const { Connection } = require("./http.js");

const ECS_HOST = "http://169.254.170.2";
/** Hosts that may be contacted without TLS: this machine, and those of ECS and EKS. */
const TRUSTED_HOSTS = new Set([
  "127.0.0.1",
  "localhost",
  "[::1]",
  "169.254.170.2",
  "169.254.170.23",
  "[fd00:ec2::23]",
]);
/** Keys are fetched this long before the old ones expire. */
const EARLY_MS = 300_000;
const URI = /^(https?):\/\/((\[[^\]]*\]|[^/:]*)(?::\d+)?)(\/.*)?$/;

/**
 * Return the source of keys that the environment names.
 *
 * @param {NodeJS.ProcessEnv} environ
 * @throws {ConfigurationError} if there is none
 */
function findKeys(environ) {
  if (environ.AWS_ACCESS_KEY_ID && environ.AWS_SECRET_ACCESS_KEY) {
    return new EnvironmentKeys(environ);
  }
  const relative = environ.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI;
  const uri = relative ? ECS_HOST + relative : environ.AWS_CONTAINER_CREDENTIALS_FULL_URI;
  const [, scheme, host, name, path] = URI.exec(uri ?? "") ?? [];
  if (scheme === "https" || (scheme === "http" && TRUSTED_HOSTS.has(name))) {
    return new ContainerKeys({ scheme, host, path: path ?? "/" }, environ);
  }
  throw new ConfigurationError(
    "no AWS keys in the environment: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as Lambda does",
  );
}

/** Keys in variables, read at every call: they may be rotated while the process runs. */
class EnvironmentKeys {
  #environ;

  constructor(environ) {
    this.#environ = environ;
  }

  /** Return the keys as they are now. */
  async current() {
    return {
      accessKey: this.#environ.AWS_ACCESS_KEY_ID ?? "",
      secretKey: this.#environ.AWS_SECRET_ACCESS_KEY ?? "",
      token: this.#environ.AWS_SESSION_TOKEN ?? "",
    };
  }

  /** Return false: there are no other keys to try. */
  refused() {
    return false;
  }
}

/** Keys from a container's endpoint, cached until shortly before they expire. */
class ContainerKeys {
  #uri;
  #environ;
  #kept;
  #expires = 0;

  constructor(uri, environ) {
    this.#uri = uri;
    this.#environ = environ;
  }

  /**
   * Return the cached keys, or fetch new ones; on failure, use cached ones while valid.
   *
   * @param {number} deadline
   * @throws {StoreUnavailableError} if there are none
   */
  async current(deadline) {
    if (this.#kept !== undefined && this.#expires > Date.now() + EARLY_MS) return this.#kept;
    try {
      this.#kept = await this.#fetch(deadline);
    } catch (error) {
      if (this.#kept === undefined || this.#expires <= Date.now()) {
        // The address is not a secret; the response may hold one.
        const { scheme, host, path } = this.#uri;
        throw new StoreUnavailableError(`no keys from ${scheme}://${host}${path}: ${error.name}`);
      }
    }
    return this.#kept;
  }

  /** Drop refused keys; return whether there were any. */
  refused() {
    const had = this.#kept !== undefined;
    this.#kept = undefined;
    return had;
  }

  async #fetch(deadline) {
    const { scheme, host, path } = this.#uri;
    const connection = await Connection.open(scheme, host, deadline);
    try {
      const headers = this.#authorization();
      const { status, body } = await connection.request("GET", path, headers, "", deadline);
      if (status !== 200) throw new Error(`HTTP ${status}`);
      const found = JSON.parse(body.toString());
      const names = ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"];
      const [accessKey, secretKey, token, expiration] = names.map((name) => {
        if (typeof found[name] !== "string") throw new Error(`no ${name}`);
        return found[name];
      });
      this.#expires = Date.parse(expiration);
      return { accessKey, secretKey, token };
    } finally {
      connection.close();
    }
  }

  #authorization() {
    const file = this.#environ.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE;
    const token = file
      ? readFileSync(file, "utf8").trim()
      : this.#environ.AWS_CONTAINER_AUTHORIZATION_TOKEN;
    return token ? { authorization: token } : {};
  }
}

module.exports = { findKeys };
