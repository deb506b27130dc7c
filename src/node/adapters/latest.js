"use strict";

const { ConfigurationError } = require("../index.js");

/**
 * A client's newest flag set in the form that an SDK reads: the adapter's view of it.
 *
 * @template View has the `snapshot` that it shows
 */
class Latest {
  #client;
  #provider;
  #makeView;
  #shared;
  #reported = "";

  /**
   * @param {import("../index.js").Client} client
   * @param {[string, string]} provider its name in the store, and the one in messages
   * @param {(snapshot: import("../index.js").Snapshot) => View} makeView
   */
  constructor(client, provider, makeView) {
    this.#client = client;
    this.#provider = provider;
    this.#makeView = makeView;
    /** @type {View | undefined} the newest view; undefined before the first load */
    this.view = undefined;
  }

  /**
   * Load the flag set, or check for a newer one if that is due; return its view.
   *
   * @throws {NotLoadedError} while nothing has been loaded ever
   * @throws {ConfigurationError} if the flags belong to another provider
   */
  async refresh() {
    const snapshot = await this.#client.snapshot({ segments: true });
    const [name, title] = this.#provider;
    if (snapshot.provider !== name) {
      const found = `source '${snapshot.source}' holds flags of '${snapshot.provider}'`;
      throw new ConfigurationError(`${found}, not ${title}'s`);
    }
    if (snapshot !== this.view?.snapshot) this.view = this.#makeView(snapshot);
    this.#reported = "";
    return this.view;
  }

  /**
   * Return the view for an evaluation, refreshed as above.
   *
   * All calls before the event loop's next turn get the same one. Evaluations go on in microtasks,
   * so they end before, and never combine two flag sets.
   */
  now() {
    if (this.#shared === undefined) {
      this.#shared = this.refresh();
      const release = () => setImmediate(() => (this.#shared = undefined));
      this.#shared.then(release, release);
    }
    return this.#shared;
  }

  /** Report an error by a function, once until another one occurs or a refresh succeeds. */
  report(error, how) {
    if (error.message === this.#reported) return;
    this.#reported = error.message;
    how(error);
  }
}

module.exports = { Latest };
