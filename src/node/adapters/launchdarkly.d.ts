/** Lets LaunchDarkly's own SDK evaluate a client's flags, without a connection to LaunchDarkly. */

import type { Client } from "../index.js";

/**
 * Return a feature store for LaunchDarkly's SDK: `launchdarkly-node-server-sdk` 6 and 7, or
 * `@launchdarkly/node-server-sdk` 8 and 9.
 *
 * ```js
 * const client = LaunchDarkly.init("no-key", {
 *   featureStore: featureStore(flagstore.client("prod"), LaunchDarkly),
 *   useLdd: true, // daemon mode: reads the store and opens no connection to LaunchDarkly
 *   sendEvents: false,
 * });
 * ```
 *
 * All flags are in memory. An evaluation loads them or checks for newer ones if that is due, and
 * uses one flag set for the flag, its prerequisites and segments (in SDKs 6 and 7, unless there are
 * more than 50 rules or clauses, which they evaluate step by step). Values are copies.
 *
 * The SDK returns the caller's default, and logs the reason as an error, while nothing has been
 * loaded, if the flag needs a large segment that could not be read, and if the source holds another
 * provider's flags.
 *
 * @param client of a source of LaunchDarkly's; it belongs to the caller, who closes it.
 * @param sdk the SDK's module itself, which decodes the flags that it evaluates.
 * @throws TypeError without the SDK.
 */
export function featureStore(client: Client, sdk: LaunchDarkly): (context: any) => FeatureStore;

/**
 * Return a hook that counts evaluations, for option `hooks` of `@launchdarkly/node-server-sdk` 9 (from
 * 9.4 on):
 *
 * ```js
 * const flags = flagstore.client("prod", { usage: "counts" });
 * const client = LaunchDarkly.init("no-key", {
 *   featureStore: featureStore(flags, LaunchDarkly),
 *   useLdd: true,
 *   sendEvents: false,
 *   hooks: [usageHook(flags)],
 * });
 * ```
 *
 * Prerequisites are counted, too, as each of these SDKs does. Without `usage`, it does nothing.
 */
export function usageHook(client: Client): UsageHook;

/**
 * The same for option `eventProcessor` of `launchdarkly-node-server-sdk` 6 and 7, which their types
 * lack. They then send no events, whatever `sendEvents` is.
 */
export function usageEvents(client: Client): UsageEvents;

/** Hook of SDK 9. */
export interface UsageHook {
  getMetadata(): { name: string };
  afterEvaluation(context: any, data: any, detail: any): any;
}

/** Event processor of SDKs 6 and 7. */
export interface UsageEvents {
  sendEvent(event: any): void;
  flush(callback?: (error: null) => void): Promise<void> | void;
  close(): void;
}

/** What `require` or `import * as` returns for an SDK. */
export interface LaunchDarkly {
  init(sdkKey: string, options?: any): any;
  /** In SDKs 8 and 9. */
  PersistentDataStoreWrapper?: new (core: any, ttl: number) => any;
}

/** LDFeatureStore of all these SDKs. */
export interface FeatureStore {
  get(kind: any, key: string, callback: (item: any) => void): void;
  all(kind: any, callback: (items: any) => void): void;
  initialized(callback: (isInitialized: boolean) => void): void;
  /** Do nothing, as all that write. */
  init(data: any, callback?: () => void): void;
  upsert(kind: any, data: any, callback?: () => void): void;
  delete(kind: any, key: string, version: any, callback?: () => void): void;
  /** Do nothing. */
  close(): void;
}
