"""Keys and records of the store, for writer and readers. No I/O.

A record is a plain mapping of attribute names to ``int``, ``str`` or ``bytes``; each store maps it
to its own types. NamedTuples, since importing ``dataclasses`` adds 6 ms to a cold start.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from flagstore.errors import ConfigurationError, CorruptSnapshotError

Value = int | str | bytes
Record = dict[str, Value]

LAYOUT = 1
"""Version of the format of snapshot record and body; the snapshot record's key. Functions pin old
layers, so a writer publishes every layout that it supports, and a reader reads its own."""

INLINE_BYTES = 300_000
"""A body of up to this size is in the snapshot record, so that a cold reader needs one read."""
CHUNK_BYTES = 350_000
"""Maximum size of a chunk of a larger body, below :data:`ROW_BYTES`."""
ROW_BYTES = 409_600
"""DynamoDB's limit for one item, attribute names included."""
SORT_KEY_BYTES = 1_024
"""DynamoDB's limit for a sort key."""

NATIVE_MARKER = "$inited"
NATIVE_SECTIONS = ("features", "segments", NATIVE_MARKER)
"""Sections of rows in LaunchDarkly's layout; the marker shows that the others are complete."""

MAX_REPLICAS = 5
"""Maximum number of replicas of the snapshot record: all are written in one transaction."""
CHUNK_NAMESPACES = 32
"""Number of namespaces, and so of partitions, that chunks are spread over: enough for 2 MB and five
replicas. Readers of one namespace would share the capacity of one partition."""

_SOURCE = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


class Key(NamedTuple):
    """The key of a record: DynamoDB's partition and sort key."""

    namespace: str
    key: str


def key_of(record: Mapping[str, Any]) -> Key:
    """Return the key of a record."""
    return Key(str(record["namespace"]), str(record["key"]))


def check_source(name: str) -> str:
    """Return the name of a source if it is safe in keys, policies, paths, URLs and hash tags.

    Raises:
        ConfigurationError: if it is not.
    """
    if not isinstance(name, str) or not _SOURCE.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is not a valid source name: use 1 to 48 of a-z, 0-9 and '-', "
            "starting with a letter or digit"
        )
    return name


def state_key(source: str) -> Key:
    """Return the key of the source state."""
    return Key(f"{source}:$state", "state")


def snapshot_key(source: str, replica: int = 0, layout: int = LAYOUT) -> Key:
    """Return the key of the snapshot record; each replica has its own namespace and partition."""
    suffix = f"~{replica}" if replica else ""
    return Key(f"{source}:$snapshot{suffix}", str(layout))


def history_key(source: str, token: int) -> Key:
    """Return the key of a snapshot record in the history."""
    return Key(f"{source}:$history", f"{token:012d}")


def row_namespace(source: str, provider: str, section: str) -> str:
    """Return the namespace of the rows of one section.

    As LaunchDarkly's SDKs read it in daemon mode with ``prefix=<source>``.
    """
    if provider == "launchdarkly" and section == "flags":
        section = "features"
    return f"{source}:{section}"


def row_namespaces(source: str) -> tuple[str, ...]:
    """Return the namespaces of rows of all providers: a source may have changed its provider."""
    sections = (
        "features",
        "flags",
        "segments",
        "rule_based_segments",
        "definitions",
        NATIVE_MARKER,
    )
    return tuple(f"{source}:{section}" for section in sections)


def split_namespace(source: str) -> str:
    """Return the namespace of rows in Split's own layout (Redis)."""
    return f"{source}:SPLITIO"


def native_key(key: Key, prefix: str) -> Key:
    """Return where a row of LaunchDarkly's is stored for SDKs with this prefix."""
    section = key.namespace.rpartition(":")[2]
    namespace = f"{prefix}:{section}" if prefix else section
    return Key(namespace, namespace if section == NATIVE_MARKER else key.key)


def document_key(source: str) -> Key:
    """Return the key of the whole set as one document, in the format of the provider's SDKs."""
    return Key(f"{source}:document", "features")


def row_marker(source: str) -> Key:
    """Return the key of LaunchDarkly's marker of complete rows.

    It is written last, without any other attribute.
    """
    return Key(f"{source}:{NATIVE_MARKER}", f"{source}:{NATIVE_MARKER}")


def pending_namespace(source: str) -> str:
    """Return the namespace in which writers announce chunks, so that none is ever orphaned."""
    return f"{source}:$pending_records"


def pending_key(source: str, token: int, digest: str) -> Key:
    """Return the key of the record that announces the chunks of one set."""
    return Key(pending_namespace(source), chunks_prefix(token, digest))


def chunks_namespaces(source: str) -> tuple[str, ...]:
    """Return the namespaces that chunks are spread over."""
    first = f"{source}:$body"
    return first, *(f"{first}~{number}" for number in range(1, CHUNK_NAMESPACES))


def chunks_prefix(token: int, digest: str) -> str:
    """Return the prefix of the keys of the chunks of one body or large segment.

    The digest is that of the body's index, or of the segment's bytes: a store that loses its last
    writes may issue a token twice, and the digest keeps the chunks of the two writers apart.
    """
    return f"{token:012d}/{digest[:16]}/"


def chunk_key(source: str, prefix: str, number: int) -> Key:
    """Return the key of one chunk, counted from 0."""
    namespace = chunks_namespaces(source)[number % CHUNK_NAMESPACES]
    return Key(namespace, f"{prefix}{number:03d}")


def usage_namespace(source: str) -> str:
    """Return the namespace of the flags' last use, one record per flag. Always in the table."""
    return f"{source}:$usage"


def usage_claim_key(source: str, name: str) -> Key:
    """Return the key of the record of a claimed usage line."""
    return Key(f"{source}:$usage_claims", name)


class Publication(NamedTuple):
    """Identity of a publication: a store that lost its last writes may issue a token twice."""

    token: int
    nonce: str
    """Random, issued with the fencing token."""


class Version(NamedTuple):
    """A version in the history, as the source state lists it."""

    token: int
    published_at: int
    """Milliseconds since the epoch."""


class SourceState(NamedTuple):
    """The small record that orders all writes of a source. The same in every layout."""

    issued: int = 0
    """The last fencing token issued."""
    token: int = 0
    """Token of the last completed check, the condition of the next. 0: none yet."""
    published: int = 0
    """Token of the snapshot record. 0: nothing is published."""
    digest: str = ""
    """Content digest of the published set."""
    etag: str = ""
    revision: int = 0
    """The provider's revision; 0 if it has none."""
    checked_at: int = 0
    """Start of the last completed check's fetch, in milliseconds since the epoch."""
    verified_at: int = 0
    """When snapshot record and rows were last verified, in milliseconds since the epoch."""
    config_fingerprint: str = ""
    """Digest of the settings that shape the set: layout, provider, base URL, options, rows."""
    rows_version: int = 0
    """Token of the set that the rows hold."""
    rows_at: str = "[]"
    """JSON list of places that may hold rows; see ``Source.rows_at``. Empty: flagstore's own."""
    pinned: int = 0
    """End of the pin, in milliseconds since the epoch: nothing is published until then."""
    removed: int = 0
    """When the source was removed, in milliseconds since the epoch; 0 if it was not."""
    error: str = ""
    """JSON ``[at_ms, reason, text]`` of the last failed check; empty once one completes."""
    refused: str = ""
    """Content digest of the set that the guard refused last."""
    suspect: str = ""
    """JSON ``[hash of the reason, since_ms]`` of a suspect set; empty once a check completes."""
    allowed: int = 0
    """Token of the last refused set that an operator allowed. 0: none."""
    history: str = "[]"
    """JSON ``[[token, published_at], …]`` of the kept publications, oldest first."""
    issued_nonce: str = ""
    """Nonce of the last fencing token issued."""
    check_nonce: str = ""
    """Nonce of the last completed check: with its token, the condition of the next."""
    nonce: str = ""
    """Nonce of the published set, as in the snapshot record."""
    deltas: bytes = b""
    """The last changes of the set, see :mod:`flagstore.deltas`."""
    deployment: str = ""
    """JSON of the :class:`flagstore.rollout.Progress` of a gradual deployment; empty for none."""
    next_check: int = 0
    """When the queued check of that deployment is due, in milliseconds since the epoch."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "SourceState":
        """Read a source state from its record; unknown attributes are ignored."""
        return cls(**{name: record[name] for name in cls._fields if name in record})

    @property
    def publication(self) -> Publication:
        """The published set's identity."""
        return Publication(self.published, self.nonce)

    def versions(self) -> list[Version]:
        """Return the kept publications, oldest first."""
        return [Version(*entry) for entry in json.loads(self.history)]


_SNAPSHOT_TYPES = (int, str, str, str, int, bytes, str, int, bytes, str, str)
"""Of the snapshot record's attributes, in order."""


class SnapshotRecord(NamedTuple):
    """The record that holds a snapshot, or names its chunks."""

    token: int
    provider: str
    digest: str
    counts: str
    """JSON object: section → number of items."""
    published_at: int
    index_data: bytes
    index_digest: str
    revision: int = 0
    body: bytes = b""
    chunks: str = ""
    """JSON ``[token, number]`` if the body is in chunks, else empty."""
    nonce: str = ""
    """Random, issued with the fencing token."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "SnapshotRecord":
        """Read a store's record; raise CorruptSnapshotError for missing or damaged attributes."""
        try:
            made = cls(**{name: record[name] for name in cls._fields if name in record})
        except TypeError as error:
            raise CorruptSnapshotError(
                f"attributes are missing in the snapshot record: {sorted(record)}"
            ) from error
        for name, value, kind in zip(cls._fields, made, _SNAPSHOT_TYPES, strict=True):
            if not isinstance(value, kind):
                raise CorruptSnapshotError(f"{name} of the snapshot record has another type")
        return made

    @property
    def publication(self) -> Publication:
        """The publication's identity."""
        return Publication(self.token, self.nonce)

    def to_record(self, key: Key) -> Record:
        """Return the store's record; empty bytes are omitted."""
        values = {
            name: value
            for name, value in self._asdict().items()
            if value or not isinstance(value, bytes)
        }
        return {**key._asdict(), **values}

    def stored_chunks(self) -> tuple[str, int]:
        """Return the prefix of the chunks' keys and their number; ("", 0) without chunks.

        Raises:
            CorruptSnapshotError: if they are damaged.
        """
        if not self.chunks:
            return "", 0
        try:
            token, number = json.loads(self.chunks)
            return chunks_prefix(int(token), self.index_digest), int(number)
        except (TypeError, ValueError) as error:
            message = "the snapshot record does not say where its chunks are"
            raise CorruptSnapshotError(message) from error
