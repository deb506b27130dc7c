"use strict";

/**
 * Runs a reader in phases, as ../phases.py does: INIT, then requests, one for each line on stdin.
 *
 * INIT counts from the start of the process. A request also prints the milliseconds of the CPU,
 * whether what it used was stale, and the value.
 */

console.log = console.error; // where SDKs log: stdout is for what was measured

/**
 * End INIT once it is ready; then handle a request per line.
 *
 * With AT_ONCE set, the first one follows INIT without a pause, in which a read could go on that
 * nobody times.
 *
 * @param {() => unknown} handle
 * @param {{ready?: unknown, isStale?: () => boolean}} [options]
 */
exports.serve = async (handle, { ready, isStale = () => false } = {}) => {
  await ready;
  const init = 1000 * process.uptime();
  let first = process.env.AT_ONCE && (await timed(handle, isStale));
  process.stdout.write(`${init}\n`);
  for await (const _ of process.stdin) {
    process.stdout.write(first || (await timed(handle, isStale)));
    first = "";
  }
  process.exit(); // what an SDK keeps open is not measured
};

async function timed(handle, isStale) {
  const [begun, cpu] = [process.uptime(), process.cpuUsage()];
  const value = await handle();
  const took = 1000 * (process.uptime() - begun);
  const { user, system } = process.cpuUsage(cpu);
  return `${took} ${(user + system) / 1000} ${Number(isStale())} ${value ?? "None"}\n`;
}
