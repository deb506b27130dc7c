/** Lets Unleash's own SDK evaluate a client's features, without a connection to Unleash. */

import type { EventEmitter } from "node:events";
import type { Client } from "../index.js";

/**
 * Return a repository for `unleash-client` 6, in place of the one that asks a server.
 *
 * ```js
 * const features = repository(flagstore.client("prod"));
 * const unleash = initialize({
 *   url: "http://127.0.0.1:9", // required, never contacted
 *   appName: "shop",
 *   repository: features,
 *   disableMetrics: true,
 * });
 * unleash.on("error", console.error);
 *
 * export const handler = async (event) => {
 *   // The SDK evaluates without waiting, so wait here if a check is due.
 *   await features.refresh().catch(console.error);
 *   return unleash.isEnabled("new-checkout", { userId: event.user });
 * };
 * ```
 *
 * For the shortest cold start, give it to the evaluator alone, which needs a context with `appName` and
 * `environment`, and a function as fallback: examples/node/unleash-layer-evaluator.mjs.
 *
 * Each evaluation uses one flag set. Without `refresh()`, it starts the check that is due, whose
 * result a later evaluation uses.
 *
 * @param client of a source of Unleash's; it belongs to the caller, who closes it.
 */
export function repository(client: Client): Repository;

/**
 * Return an SDK that counts what `isEnabled` and `getVariant` return; without `usage`, the SDK itself:
 *
 * ```js
 * const unleash = withUsage(await startUnleash({ ... }), flags);
 * ```
 */
export function withUsage<Unleash extends object>(unleash: Unleash, client: Client): Unleash;

/**
 * RepositoryInterface of `unleash-client`. Features and segments belong to the flag set in memory:
 * do not change them.
 *
 * Events: `ready` after the first load, `changed` with all features after it and whenever there are
 * others, `error` once for each reason why nothing can be loaded (without a listener, in the log).
 */
export interface Repository extends EventEmitter {
  /** Load the features. Until that succeeds, try again as often as the client reads; never rejects. */
  start(): Promise<void>;
  /** Stop checking and forget the listeners. Idempotent. */
  stop(): void;
  /**
   * Load the features, or check for newer ones if that is due; return whether there were any.
   *
   * @throws NotLoadedError while nothing has been loaded ever.
   * @throws ConfigurationError if a setting is missing, or the source holds another provider's flags.
   */
  refresh(): Promise<boolean>;
  getToggle(name: string): any;
  getToggles(): any[];
  getTogglesWithSegmentData(): any[];
  /** Return a segment; undefined, which no context fulfills, also if it could not be read. */
  getSegment(id: number): any;
}
