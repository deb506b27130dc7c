"use strict";

/**
 * A process that reads one source; each line of its input is a task, each of its output a response.
 *
 *     {"do": "read", "after": seconds}   → the flag set, after so much time
 *     {"do": "watch"}                    → read as fast as possible, and compare every set
 *     {"do": "reads", "least": number}   → until there were so many
 *     {"do": "stop"}                     → what was seen
 */

const { createInterface } = require("node:readline");
const { setImmediate: turn, setTimeout: sleep } = require("node:timers/promises");

const { Client } = require("../../../src/node/index.js");

/** Reads after which a watching reader starts over. */
const COLD = 25;
/** Past every TTL and pause. */
const STEP_S = 61;

let shiftS = 0;
let watching;

function clientOf() {
  return new Client("prod", {
    clock: () => Date.now() / 1000 + shiftS,
    monotonic: () => performance.now() / 1000 + shiftS,
  });
}

const tasks = {
  async read({ after = 0 }) {
    shiftS += after;
    try {
      return described(await shared.snapshot({ segments: true }));
    } catch (error) {
      return { error: `${error.name}: ${error.message}` };
    }
  },

  async watch() {
    watching = { reads: 0, sets: 0, stale: 0, last: 0, error: "", stopped: false };
    watching.done = watch(watching).catch((error) => {
      watching.error = error.stack;
    });
    return {};
  },

  /** Wait for a number of reads. */
  async reads({ least }) {
    while (watching.reads < least && !watching.error) await sleep(20);
    return {};
  },

  async stop() {
    watching.stopped = true;
    await watching.done;
    const { done, ...found } = watching;
    return found;
  },
};

function described(snapshot) {
  const sections = Object.keys(snapshot.counts);
  const texts = Object.fromEntries(
    sections.map((name) => [
      name,
      Object.fromEntries(snapshot.keys(name).map((key) => [key, snapshot.text(name, key)])),
    ]),
  );
  const { token, digest } = snapshot;
  return { token, digest, texts, info: shared.info() };
}

/** Each flag of a set names its generation; the number of flags follows from it. */
async function watch(seen) {
  while (!seen.stopped) {
    const client = clientOf();
    let held;
    for (let read = 0; read < COLD && !seen.stopped; read += 1) {
      shiftS += STEP_S;
      const snapshot = await client.snapshot();
      seen.reads += 1;
      seen.stale += Number(client.info().stale);
      await turn();
      if (snapshot === held) continue;
      held = snapshot;
      seen.sets += 1;
      const keys = snapshot.keys();
      const found = new Set(keys.map((key) => snapshot.item("flags", key).generation));
      const [generation] = found;
      if (found.size !== 1) throw new Error(`a mixed set: ${[...found]}`);
      if (keys.length !== 30 + (generation % 5)) throw new Error(`a partial set of ${generation}`);
      if (generation < seen.last) throw new Error(`${generation} after ${seen.last}`);
      seen.last = generation;
    }
    client.close();
  }
}

const shared = clientOf();
createInterface({ input: process.stdin }).on("line", async (line) => {
  const task = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await tasks[task.do](task))}\n`);
});
