// The same module for `import`: a process has one set of clients, however it loads them.
import flagstore from "./index.js";

export const {
  Client,
  ConfigurationError,
  CorruptSnapshotError,
  FlagstoreError,
  NotLoadedError,
  NotPublishedError,
  Snapshot,
  StoreUnavailableError,
  UnsupportedLayoutError,
  client,
} = flagstore;
