"use strict";

/** Gives one call at a time access to a store: a connection has one exchange at a time. */
class Turns {
  #last = Promise.resolve();

  /**
   * Run some work after what came before it; return its result, undefined if the turn does not come
   * in time.
   *
   * @template T
   * @param {() => Promise<T>} work
   * @param {number} seconds to wait for the turn, not for the work
   * @returns {Promise<T | undefined>}
   */
  take(work, seconds) {
    const before = this.#last;
    let timer;
    let given = true;
    const late = new Promise((resolve) => {
      const giveUp = () => {
        given = false;
        resolve(undefined);
      };
      timer = setTimeout(giveUp, Math.max(0, seconds) * 1000).unref();
    });
    const result = before.then(() => {
      clearTimeout(timer);
      return given ? work() : undefined;
    });
    this.#last = result.catch(() => undefined);
    return Promise.race([result, late]);
  }
}

module.exports = { Turns };
