"""Names of keys and the records of the store: the one place that knows them.

Writer and reader share this module and :mod:`flagstore.codec`; nothing in them does I/O. Records
are plain mappings of attribute names to ``int``, ``str`` or ``bytes``; each store maps them to
its own types.

``NamedTuple`` and not a dataclass: importing ``dataclasses`` costs a cold start 6 ms.
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
"""The version of snapshot and body. The number is the snapshot's key, since functions pin old
layers: a writer publishes every layout that it supports, each reader reads the one that it
knows."""

INLINE_BYTES = 300_000
"""Up to this size the body lies in the snapshot record, so that a cold reader needs one read."""
CHUNK_BYTES = 350_000
"""Size of one chunk of a larger body; an item of DynamoDB may have 409,600 bytes."""
ROW_BYTES = 409_600
"""DynamoDB's limit for one item, names of attributes included."""
SORT_KEY_BYTES = 1_024
"""DynamoDB's limit for a sort key."""

MAX_REPLICAS = 5
"""Most replicas of the snapshot record; all of them are written in one transaction."""

_SOURCE = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


class Key(NamedTuple):
    """Where a record lies."""

    namespace: str
    key: str


def check_source(name: str) -> str:
    """Return the name of a source, checked: it enters keys, policies, paths, URLs and hash tags.

    Raises:
        ConfigurationError: if it is anything but 1 to 48 of ``a-z0-9-``, not starting with ``-``.
    """
    if not isinstance(name, str) or not _SOURCE.fullmatch(name):
        message = (
            f"{name!r} is no name of a source: use 1 to 48 of a-z, 0-9 and '-', "
            "starting with a letter or digit"
        )
        raise ConfigurationError(message)
    return name


def state_key(source: str) -> Key:
    """Where the small record lies that orders everything."""
    return Key(f"{source}:$state", "state")


def snapshot_key(source: str, replica: int = 0, layout: int = LAYOUT) -> Key:
    """Where the current snapshot lies; replicas have namespaces, so partitions, of their own."""
    suffix = f"~{replica}" if replica else ""
    return Key(f"{source}:$snapshot{suffix}", str(layout))


def history_namespace(source: str) -> str:
    """Where publications are kept."""
    return f"{source}:$history"


def history_key(source: str, token: int) -> Key:
    """Where one publication is kept, body included."""
    return Key(history_namespace(source), f"{token:012d}")


def row_namespace(source: str, provider: str, section: str) -> str:
    """Where the rows of one section lie.

    LaunchDarkly's are in the layout that its SDKs read in daemon mode with ``prefix=<source>``
    (published by LaunchDarkly: "storing data in DynamoDB"); its flags are called features there.
    """
    if provider == "launchdarkly" and section == "flags":
        section = "features"
    return f"{source}:{section}"


def row_namespaces(source: str) -> tuple[str, ...]:
    """Return where rows of any provider lie: a source that changes its provider leaves none."""
    sections = (
        "features",
        "flags",
        "segments",
        "rule_based_segments",
        "definitions",
        "$inited",
    )
    return tuple(f"{source}:{section}" for section in sections)


def split_namespace(source: str) -> str:
    """Where a store that has Split's own layout (Redis) keeps the rows of a Split source."""
    return f"{source}:SPLITIO"


def document_key(source: str) -> Key:
    """Where the whole set lies once more as the one document that a provider's SDK takes."""
    return Key(f"{source}:document", "features")


def row_marker(source: str, provider: str) -> Key | None:
    """Where a provider's SDKs expect the mark of a store that is complete; None where they don't.

    LaunchDarkly: ``$inited``, without any other attribute, written last.
    """
    return Key(f"{source}:$inited", f"{source}:$inited") if provider == "launchdarkly" else None


def pending_namespace(source: str) -> str:
    """Where writers announce chunks before they write them, so that none is ever orphaned."""
    return f"{source}:$pending_records"


def pending_key(source: str, token: int, digest: str) -> Key:
    """Where the chunks of one set are announced: by its token and the digest of its index."""
    return Key(pending_namespace(source), chunks_prefix(token, digest))


def chunks_namespace(source: str) -> str:
    """Where chunks of large bodies lie."""
    return f"{source}:$body"


def chunks_prefix(token: int, digest: str) -> str:
    """Return the prefix of the keys of the chunks of one body or large segment.

    The digest is that of the body's index, or of the segment's bytes. A store that loses its last
    writes may issue a fencing token twice; the digest keeps the chunks of its two writers apart.
    """
    return f"{token:012d}/{digest[:16]}/"


def chunk_key(source: str, prefix: str, number: int) -> Key:
    """Where one chunk lies, counted from 0."""
    return Key(chunks_namespace(source), f"{prefix}{number:03d}")


class Publication(NamedTuple):
    """Which publication: a store that lost its last writes may issue a token a second time."""

    token: int
    nonce: str
    """Random, issued with the fencing token."""


class Version(NamedTuple):
    """One kept publication, as the source state lists it."""

    token: int
    published_at: int
    """Milliseconds since the epoch."""


class SourceState(NamedTuple):
    """The small record that orders everything. Neutral to the layout for ever."""

    issued: int = 0
    """The last fencing token that was issued."""
    token: int = 0
    """The fencing token of the last completed check: the condition. 0: none yet."""
    published: int = 0
    """The fencing token of the snapshot record. 0: nothing has been published."""
    digest: str = ""
    """The content digest of what is published."""
    etag: str = ""
    revision: int = 0
    """The provider's revision, where it has one."""
    checked_at: int = 0
    """When the fetch of the last completed check started, in milliseconds since the epoch."""
    verified_at: int = 0
    """When snapshot record and rows were last verified whole, in milliseconds since the epoch."""
    config_fingerprint: str = ""
    """Digest of what else shapes the set: layout, provider, base URL, options, rows."""
    rows_version: int = 0
    """The fencing token that the rows show."""
    rows_count: int = 0
    """How many rows there are, in a store that may evict some. 0: not counted."""
    pinned: int = 0
    """Until when nothing may be published, in milliseconds since the epoch."""
    removed: int = 0
    """When the source was removed, in milliseconds since the epoch. 0: it was not."""
    error: str = ""
    """JSON ``[at_ms, reason, text]`` of the last check that failed; empty once one completes."""
    refused: str = ""
    """The content digest of the set that the guard refused last."""
    suspect: str = ""
    """JSON ``[what, since_ms]`` of a set that is not believed yet; empty once a check completes."""
    allowed: int = 0
    """The fencing token of the last set that a person allowed against the guard. 0: none."""
    history: str = "[]"
    """JSON list of the kept publications, ``[[token, published_at], …]``, oldest first."""
    issued_nonce: str = ""
    """Random, of the last fencing token that was issued."""
    check_nonce: str = ""
    """The nonce of the last completed check: with its fencing token, the condition."""
    nonce: str = ""
    """The nonce of what is published, as in the snapshot record."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "SourceState":
        """Read a source state from its record; attributes that are unknown are left alone."""
        return cls(**{name: record[name] for name in cls._fields if name in record})

    @property
    def publication(self) -> Publication:
        """Which publication is the current one."""
        return Publication(self.published, self.nonce)

    def is_pinned(self, now_ms: int) -> bool:
        """Say whether publications are held back now."""
        return self.pinned > now_ms

    def versions(self) -> list[Version]:
        """Return the kept publications, oldest first."""
        return [Version(*entry) for entry in json.loads(self.history)]


class SnapshotRecord(NamedTuple):
    """The record that holds a snapshot, or names the chunks that do."""

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
    """JSON ``[token, number]`` where the body lies in chunks, else empty."""
    nonce: str = ""
    """Random, issued with the fencing token."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "SnapshotRecord":
        """Read a snapshot record from its record.

        Raises:
            CorruptSnapshotError: if attributes are missing.
        """
        try:
            return cls(**{name: record[name] for name in cls._fields if name in record})
        except TypeError as error:
            message = f"a snapshot record without all its attributes: {sorted(record)}"
            raise CorruptSnapshotError(message) from error

    @property
    def publication(self) -> Publication:
        """Which publication this is."""
        return Publication(self.token, self.nonce)

    def to_record(self, key: Key) -> Record:
        """Return the record; empty attributes are left out."""
        values = {
            name: value
            for name, value in self._asdict().items()
            if value or not isinstance(value, bytes)
        }
        return {**key._asdict(), **values}

    def stored_chunks(self) -> tuple[str, int]:
        """Return the prefix of the chunks' keys and their number; ("", 0) without chunks."""
        if not self.chunks:
            return "", 0
        token, number = json.loads(self.chunks)
        return chunks_prefix(int(token), self.index_digest), int(number)
