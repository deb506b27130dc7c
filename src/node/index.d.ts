/** Read a source's flags from DynamoDB: loaded once, refreshed on use. */

/**
 * Return the client of a source; the same one for the same name.
 *
 * On AWS Lambda it starts loading at once, at module scope during INIT. A failure is logged,
 * and the first use tries again.
 *
 * @param source Name of the source; by default `FLAGSTORE_SOURCE`. If that is not set either, the
 *   first use of the client throws ConfigurationError.
 * @param options In the first call with this name.
 * @throws ConfigurationError if a name, an option, `FLAGSTORE_PRELOAD`, `FLAGSTORE_USAGE` or
 *   `FLAGSTORE_SNAPSHOT_REPLICAS` is invalid, or the client exists with other options. If another variable
 *   is missing or not supported here (`FLAGSTORE_REDIS_URL`, `FLAGSTORE_FILE`), the first use says so.
 */
export function client(source?: string, options?: Options): Client;

export interface Options {
  /** Name of the table; by default `FLAGSTORE_TABLE`. */
  table?: string;
  /** By default `AWS_REGION` or `AWS_DEFAULT_REGION`. */
  region?: string;
  /** Base URL of DynamoDB without a path; by default from the variables of AWS's SDKs. */
  endpoint?: string;
  /** Minimum seconds between freshness checks: 30. */
  ttlS?: number;
  /** Seconds after which {@link Client.health} is `TOO_OLD`; flags are served all the same. Unlimited by default. */
  maxAgeS?: number;
  /** The stack's SnapshotReplicas; by default `FLAGSTORE_SNAPSHOT_REPLICAS`, or 1. */
  replicas?: number;
  /** Whether to load at once; by default `FLAGSTORE_PRELOAD`, or on Lambda. */
  preload?: boolean;
  /**
   * `counts`: count the evaluations that the adapters see, and print them for the provider's
   * dashboard (`FLAGSTORE_USAGE`); off by default. Exposures and events are for Python.
   */
  usage?: "" | "counts";
  /** In place of DynamoDB, for tests. */
  store?: Store;
  /** Seconds since the epoch, for tests. */
  clock?: () => number;
  /** Seconds that never go back, for deadlines; for tests. */
  monotonic?: () => number;
}

/** Reads the flags of one source. */
export class Client {
  constructor(source: string, options?: Options);
  readonly source: string;

  /**
   * Return the flag set, loading it first or checking for a newer one if that is due. Calls at the
   * same time share one read. During a gradual deployment of AppConfig's it holds both versions.
   *
   * It waits for the store for 2 s at the first load, later for 240 ms at most once per TTL. After a
   * failure, the next read is 5 s later, and up to a minute while failures go on.
   *
   * @param options.segments Also read the large segments that are not in memory, so that
   *   `item("segments", key)` has them. Those that cannot be read now stay missing: this does not
   *   reject. Each waits for 240 ms at most (up to 2 s if data was arriving the last time), until one
   *   times out; none for the next 5 s.
   * @throws NotLoadedError while nothing has been loaded ever; a subclass names the reason.
   */
  snapshot(options?: { segments?: boolean }): Promise<Snapshot>;

  /** Return the flag set in memory, undefined before the first load. Reads nothing. */
  current(): Snapshot | undefined;

  /**
   * Resolve once the load that `client()` started has ended, whatever came of it; never rejects.
   * For `await flags.loaded()` at the top of an ES module, which makes INIT wait for it.
   */
  loaded(): Promise<void>;

  /** Return information about the flag set in memory. Reads nothing; throws only without a source's name. */
  info(): Info;

  /** Return the code of a problem with the flags in memory, or "". Reads nothing. */
  health(): "" | "STALE" | "TOO_OLD" | "NOT_LOADED";

  /** Print what has been counted, if `usage` is on. Never throws. */
  flush(): void;

  /**
   * Wrap a function's handler, to print all counts after its first three calls, and then once a
   * minute, in a call. Without `usage`, returns the handler itself.
   */
  reporting<Handler extends (...given: any[]) => any>(handler: Handler): Handler;

  /** Print counts and close the connection; a later read opens another. Idempotent. */
  close(): void;
}

export interface Info {
  source: string;
  /** `launchdarkly`, `split`, `unleash` or `appconfig`; "" before the first load. */
  provider: string;
  /** Grows with every publication; 0 before the first load. */
  token: number;
  /** Content digest in hex: equal for equal content. */
  digest: string;
  /** Section → number of items. */
  counts: Record<string, number>;
  /** The provider's revision; 0 if it has none. */
  revision: number;
  /** Seconds since the epoch. */
  publishedAt: number;
  /** Last check with the provider that this process knows of, in seconds since the epoch. */
  checkedAt: number;
  /** Seconds since the store last confirmed these flags as current; Infinity before the first load. */
  ageS: number;
  /** Whether the last refresh failed, or an earlier large segment stands in for a changed one. */
  stale: boolean;
  /** Why it is stale, or why a large segment could not be read; "" if all is well. */
  error: string;
  /** How often DynamoDB has asked this client to slow down. */
  throttled: number;
}

/** One flag set, which never changes (but for {@link progress}): keep it during a request. */
export class Snapshot {
  private constructor();
  readonly source: string;
  readonly provider: string;
  readonly token: number;
  /** Identifies the publication together with the token. */
  readonly nonce: string;
  readonly digest: string;
  readonly revision: number;
  /** Seconds since the epoch. */
  readonly publishedAt: number;
  /** Section → number of items, large segments included. */
  readonly counts: Readonly<Record<string, number>>;
  /** The rest of the provider's document; do not change it. */
  readonly meta: any;

  /** Return the keys of a section (default `flags`), large segments included, by code point. */
  keys(section?: string): string[];

  /**
   * Return one item as the JSON that is stored (ASCII, numbers as the provider wrote them);
   * undefined if there is none.
   *
   * @throws NotLoadedError for a large segment that is not in memory: see {@link segment}.
   */
  text(section: string, key: string): string | undefined;

  /**
   * Return one item, undefined if there is none. Parsed once and kept: **do not change it** (copies:
   * parse `text`). Later flag sets have the same object while deltas show that it is unchanged.
   *
   * @throws NotLoadedError for a large segment that is not in memory: see {@link segment}.
   */
  item(section: string, key: string): any;

  /**
   * Return all items of a section (default `flags`) but its large segments, in the order of their
   * keys: the same objects, sooner than one by one.
   */
  items(section?: string): any[];

  /** The large segments (more than 32 KB of JSON), by key. */
  readonly large: ReadonlyMap<string, LargeSegment>;

  /** Whether `item("segments", key)` needs no read: a large segment is in memory, or it is small. */
  hasSegment(key: string): boolean;

  /**
   * Return a segment; undefined if there is none. A large one is read when it is first needed, and
   * kept while flag sets have the same one. Waits for 240 ms at most; after a failure, rejects at
   * once for 5 s.
   *
   * @throws NotLoadedError if it cannot be read now.
   */
  segment(key: string): Promise<any>;

  /**
   * Return this flag set with other items: section → key → JSON, undefined for none. For the new
   * version during a gradual deployment.
   */
  changed(items: Record<string, Record<string, string | undefined>>): Snapshot;

  /**
   * AppConfig: the progress of a gradual deployment as the store had it last, JSON
   * `[number, state, percentage, next percentage, when that is expected (ms)]`, or "". Each refresh
   * updates it in place.
   */
  readonly progress: string;
  /** AppConfig: whether the set holds two versions, in sections `new_flags` and `deployments`. */
  readonly twoVersions: boolean;
}

export interface LargeSegment {
  /** Of its content. */
  readonly digest: string;
  /** Of the bytes of its chunks, joined. */
  readonly dataDigest: string;
  /** Of the publication that wrote it. */
  readonly token: number;
  readonly chunks: number;
}

/** What a client reads; for tests. */
export interface Store {
  /** How often the store has asked to slow down. */
  readonly throttled: number;
  /** Return one record. Rejects if there is no response by the deadline, in monotonic seconds. */
  read(
    key: { namespace: string; key: string },
    options: { consistent: boolean; deadline: number },
  ): Promise<Record<string, string | number | Uint8Array> | undefined>;
  /** Prepare a connection (TLS context) without connecting. */
  prepare(): void;
  close(): void;
}

/** Base class of flagstore's errors. */
export class FlagstoreError extends Error {}
/** An option or variable is missing or wrong; the message names it and the remedy. */
export class ConfigurationError extends FlagstoreError {}
/** Flags were read before a first load succeeded, or a large segment cannot be read. */
export class NotLoadedError extends FlagstoreError {}
/** The store holds nothing for this source. */
export class NotPublishedError extends NotLoadedError {}
/** The store did not respond in time, or refused. */
export class StoreUnavailableError extends NotLoadedError {
  constructor(message: string, options?: ErrorOptions & { receiving?: boolean });
  /** Whether time ran out while data was arriving: with more time, the read may succeed. */
  readonly receiving: boolean;
}
/** The store was written for newer readers only: update the layer. */
export class UnsupportedLayoutError extends NotLoadedError {}
/** The data does not match its digests, or a chunk is missing. */
export class CorruptSnapshotError extends NotLoadedError {}
