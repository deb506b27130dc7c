/** Lets Split's own SDK evaluate a client's flags, without a connection to Split. */

import type { Client } from "../index.js";

/**
 * Return a wrapper for Split's pluggable storage. Only `@splitsoftware/splitio-browserjs`, which
 * Node.js runs as well, has an option for such a storage:
 *
 * ```js
 * const factory = SplitFactory({
 *   core: { authorizationKey: "no-key", key: "nobody" },
 *   mode: "consumer",
 *   storage: PluggableStorage({ wrapper: storageWrapper(flagstore.client("prod")) }),
 *   sync: { impressionsMode: "NONE" },
 * });
 * const client = factory.client("user-1");
 * await client.whenReady();
 * const treatment = await client.getTreatment("new-checkout", { plan: "team" });
 * ```
 *
 * That package makes a client for each key and **keeps it forever: some 10 KB per key**. For more than a
 * few keys, give it the client of Split's SDKs for servers, by an argument that Split does not document:
 *
 * ```js
 * // sdkClientMethodFactory of "@splitsoftware/splitio-commons/cjs/sdkClient/sdkClientMethod", in the
 * // version that this SDK depends on: examples/node/split-layer.mjs
 * const settings = {...}; // as above
 * const factory = SplitFactory(settings, (modules) => Object.assign(modules, { sdkClientMethodFactory }));
 * const client = factory.client();
 * await client.whenReady();
 * const treatment = await client.getTreatment("user-1", "new-checkout", { plan: "team" });
 * ```
 *
 * In TypeScript, the SDK's types are those of browsers: cast `SplitFactory` to
 * `(settings: object, update: (modules: object) => void) => SplitIO.IAsyncSDK`.
 *
 * Its keys are those of Split's Redis layout, with any prefix. All flags are in memory. An
 * evaluation checks for newer ones if that is due, and uses one flag set for the flag, its
 * dependencies and segments. Impressions, events and telemetry are dropped.
 *
 * The SDK returns `control` until there are flags, and for a flag that needs a large segment that
 * could not be read. If nothing can be loaded, the reason is logged, and evaluations try again as often
 * as the client reads; `whenReady()` resolves all the same. (It rejects for another provider's flags, after
 * `startup.readyTimeout`, 10 s: an awaited `ready()` never ends then.) `destroy()` ends its timers, without
 * which scripts do not end.
 *
 * @param client of a source of Split's; it belongs to the caller, who closes it.
 */
export function storageWrapper(client: Client): StorageWrapper;

/**
 * Return a listener that counts evaluations, for option `impressionListener`, in any
 * `impressionsMode`. Split's SDK calls it by a timer, so after the turn in which it evaluates.
 * Without `usage`, it does nothing.
 */
export function usageListener(client: Client): UsageListener;

/** IImpressionListener of Split's SDKs. */
export interface UsageListener {
  logImpression(data: any): void;
}

/** IPluggableStorageWrapper of Split's SDKs. */
export interface StorageWrapper {
  /**
   * Load the flags once; a failure is logged, and evaluations try again.
   *
   * @throws ConfigurationError if a setting is missing, or the source holds another provider's flags.
   */
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  get(key: string): Promise<string | null>;
  getMany(keys: string[]): Promise<(string | null)[]>;
  getKeysByPrefix(prefix: string): Promise<string[]>;
  itemContains(key: string, item: string): Promise<boolean>;
  getItems(key: string): Promise<string[]>;

  // These do nothing.
  set(key: string, value: string): Promise<boolean>;
  getAndSet(key: string, value: string): Promise<string | null>;
  del(key: string): Promise<boolean>;
  incr(key: string, increment?: number): Promise<number>;
  decr(key: string, decrement?: number): Promise<number>;
  pushItems(key: string, items: string[]): Promise<void>;
  popItems(key: string, count: number): Promise<string[]>;
  getItemsCount(key: string): Promise<number>;
  addItems(key: string, items: string[]): Promise<void>;
  removeItems(key: string, items: string[]): Promise<void>;
}
