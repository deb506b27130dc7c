"""The data that crosses module boundaries: sources, sync requests, flag sets, reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from flagstore.codec import LARGE_SECTION, dumps
from flagstore.encode import LARGE_BYTES, canonical, item_digest
from flagstore.keys import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from flagstore.codec import LargeSegment
    from flagstore.keys import SnapshotRecord
    from flagstore.rollout import Progress

SQS_BATCH = 10
"""Maximum number of messages per call."""
NATIVE = {"launchdarkly", "split"}
"""Providers whose SDKs read Redis in a documented layout."""
DEPLOYMENT = frozenset({"new_flags", "deployments"})
"""Sections of the new version during a gradual deployment (AppConfig); rows show the previous."""
PREFIX_BYTES = 64
"""Maximum length of a ``rows_prefix``, which may be longer than the source's name."""

Json = Any
"""A provider's JSON, parsed and otherwise verbatim."""


class Secret:
    """A string that never appears in logs, tracebacks or ``repr``."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the string, for the code that must send or compare it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class Clock(Protocol):
    """Time as the pipeline sees it; passed in, so that tests control it."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True, slots=True)
class Source:
    """One provider environment that is kept in sync."""

    name: str
    provider: str
    base_url: str
    credential: Secret
    options: Mapping[str, str] = field(default_factory=dict)
    """Provider settings that are not secret, such as LaunchDarkly's payload ``filter``."""
    rows: bool = True
    """Also write one row per flag and segment, in addition to the snapshot."""
    store: str = "dynamodb"
    """``dynamodb`` or ``redis``."""
    store_url: Secret = field(default_factory=lambda: Secret(""))
    """URL of Redis, with user and password."""
    allow_http: bool = False
    """Permit plain http, for a provider in your own network."""
    document: bool = False
    """Also write the whole set as one document, as the provider's SDK reads it (Unleash)."""
    rows_prefix: str | None = None
    """Prefix of the rows, for SDKs that are configured for it. None: the source's own."""
    adopt: bool = False
    """Take over rows that another program wrote under ``rows_prefix``."""
    drain: bool = False
    """Post to the provider what its SDKs write beside the rows (Split in Redis)."""
    other_at: Callable[[Source, str], str] | None = field(default=None, repr=False, compare=False)
    """Returns the name of another source of the same store with its rows at a place, or ``""``."""

    @property
    def rows_at(self) -> str:
        """Layout and prefix of the rows, such as ``split {prod}``; empty for flagstore's own."""
        own = f"{{{self.name}}}" if self.store == "redis" else self.name
        prefix = own if self.rows_prefix is None else self.rows_prefix
        native = self.provider in NATIVE and (self.store == "redis" or prefix != own)
        return f"{self.provider} {prefix}" if native else ""

    def fingerprint(self, replicas: int = 1) -> str:
        """Return the digest of all settings that shape the stored set.

        If it differs from the source state's, no ETag is sent and the set counts as changed.
        """
        rows = [self.rows, self.rows_at, self.document]
        shaping = [LAYOUT, self.provider, self.base_url, dict(self.options), replicas, *rows]
        return sha256(canonical(shaping).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """How to verify webhooks, and the sources that they concern. Holds no provider credential."""

    name: str
    """As in its URL. Unless it covers several sources, the source's."""
    provider: str
    method: str
    """``signature``, ``authorization``, ``header`` or ``url``; see ``Provider.methods``."""
    secrets: tuple[Secret, ...]
    """The current and, while rotating, the previous secret. Never empty."""
    header: str = ""
    """Name of the header that carries the secret, for the method ``header``."""
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Source → options, such as ``project`` and ``environment``: other events do not concern it."""


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A webhook as it arrived: header names in lower case, the body as raw bytes."""

    headers: Mapping[str, str]
    body: bytes
    token: str = field(default="", repr=False)
    """The last part of the path, if the secret is in the URL."""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A source may have changed. Carries no flag data."""

    source: str
    required: tuple[str, ...] = ()
    """Required revisions, each in its provider's notation; see ``Provider.satisfied``."""
    sent_at: int = 0
    """Earliest start of a fetch that serves this request, in milliseconds since the epoch."""
    trigger: str = "webhook"
    """``webhook``, ``followup``, ``schedule`` or ``manual``."""
    delivery: str = ""
    """The provider's delivery id if it has one, for the log."""

    def message(self) -> str:
        """Return the body of a queue message. It holds no flag data and no webhook body."""
        return dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """An EventBridge event for the sources of a provider that sends no webhooks."""

    provider: str
    about: Mapping[str, str]
    """Matches the sources whose options have these values."""
    required: tuple[str, ...] = ()
    """Required revisions."""
    delivery: str = ""


@dataclass(frozen=True, slots=True)
class FlagSet:
    """Everything that the provider's SDK would hold for one environment.

    If read back from the store, it loads large segments on request.
    """

    provider: str
    sections: Mapping[str, Mapping[str, Json]]
    """Section name (``flags``, ``segments``) → key → that item's JSON, verbatim."""
    meta: Mapping[str, Json] = field(default_factory=dict)
    """The rest of the document, without fields that vary while no flag changes."""
    revision: int = 0
    """The provider's revision of the whole set; 0 if it has none."""
    record: SnapshotRecord | None = None
    """The snapshot record that it was read from; None for a fetched set."""
    large: Mapping[str, LargeSegment] = field(default_factory=dict)
    """Large segments that are not in ``sections``: key → where their chunks are stored."""
    load: Callable[[LargeSegment], Json] = field(
        default=lambda _segment: None, repr=False, compare=False
    )
    """Reads a large segment; raises CorruptStoreError for missing or damaged chunks."""

    def keys(self, section: str) -> AbstractSet[str]:
        """Return the keys of one section, including those of large segments."""
        keys = self.sections.get(section, {}).keys()
        # No copy if there are none: the guard calls this for each reference.
        return keys | self.large.keys() if self.large and section == LARGE_SECTION else keys

    def counts(self) -> dict[str, int]:
        """Return the number of items by section, without those of a gradual deployment."""
        return {name: len(self.keys(name)) for name in self.sections if name not in DEPLOYMENT}

    def item(self, section: str, key: str) -> Json | None:
        """Return one item, or None."""
        if section == LARGE_SECTION and key in self.large:
            return self.load(self.large[key])
        return self.sections.get(section, {}).get(key)

    def versions(self) -> list[FlagSet]:
        """Return the sets that readers may have: two while a gradual deployment is in progress."""
        deployments = self.sections.get("deployments")
        if not deployments:
            return [self]
        (deployment,) = deployments.values()
        removed = set(deployment["RemovedFlags"])
        previous = {name: self.sections[name] for name in ("flags", "definitions")}
        new = {
            name: {key: items[key] for key in items.keys() - removed}
            for name, items in previous.items()
        }
        new["flags"] |= self.sections["new_flags"]
        return [replace(self, sections=each) for each in (previous, new)]

    def differing(self, section: str, other: FlagSet) -> list[str]:
        """Return the sorted keys of items that both sets have, with different content.

        Large segments are compared by their digests.
        """
        mine, theirs = self.sections.get(section, {}), other.sections.get(section, {})
        large = self.large.keys() | other.large.keys() if section == LARGE_SECTION else set()
        found = [
            key
            for key in mine.keys() & theirs.keys() - large
            if canonical(mine[key]) != canonical(theirs[key])
        ]
        both = large & self.keys(section) & other.keys(section) if large else ()
        return sorted([*found, *(key for key in both if self._digest(key) != other._digest(key))])

    def _digest(self, segment: str) -> str:
        if segment in self.large:
            return self.large[segment].digest
        return item_digest(self.sections[LARGE_SECTION][segment])

    def is_large(self, section: str, key: str) -> bool:
        """Return whether an item is stored separately because of its size."""
        if section != LARGE_SECTION:
            return False
        item = self.sections.get(section, {}).get(key)
        return key in self.large or len(dumps(item)) > LARGE_BYTES


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The result of one fetch."""

    flag_set: FlagSet | None
    """None: not modified since the ETag that was sent."""
    etag: str = ""
    progress: Progress | None = None
    """Of a gradual deployment in progress."""


class Verdict(Enum):
    """Verdict of an engine on a flag or segment."""

    USABLE = "usable"
    """Also an item that uses an unsupported feature, which is not damage."""
    DAMAGED = "damaged"
    """The engine cannot use it, or a field that its provider always sends is missing."""
    REFUSED = "refused"
    """The provider's own SDK rejects a whole document with such an item."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of one publication: sections and keys, sorted."""

    added: tuple[tuple[str, str], ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    since: FlagSet | None = field(default=None, repr=False, compare=False)
    """The previously published set, if there was one."""

    @classmethod
    def between(cls, old: FlagSet | None, new: FlagSet) -> Changes:
        """Compare two flag sets item by item, by content."""
        after = {(section, key) for section in new.sections for key in new.keys(section)}
        if old is None:
            return cls(added=tuple(sorted(after)))
        before = {(section, key) for section in old.sections for key in old.keys(section)}
        changed = [
            (section, key) for section in new.sections for key in old.differing(section, new)
        ]
        return cls(
            tuple(sorted(after - before)),
            tuple(sorted(changed)),
            tuple(sorted(before - after)),
            old,
        )

    def lists(self) -> dict[str, tuple[str, ...]]:
        """Return the three lists by name, as ``section/key``."""
        places = {"added": self.added, "changed": self.changed, "removed": self.removed}
        return {word: tuple(map("/".join, found)) for word, found in places.items()}

    def counts(self) -> dict[str, int]:
        """Return the length of each list."""
        return {word: len(names) for word, names in self.lists().items()}

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one sync of one source."""

    source: str
    outcome: str
    """published, unchanged, superseded, coalesced, pinned or rolled back."""
    token: int = 0
    digest: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    changes: Changes = Changes()
    fetches: int = 0
    checked_at: int = 0
    """Start of the fetch behind this report, in milliseconds since the epoch."""
    behind: bool = False
    """The provider had not reached the required revision when the wait ended."""
    skipped_rows: tuple[str, ...] = ()
    """Items too large for a row: their last good row stays, and the snapshot has them all."""
    progress: Progress | None = None
    """Of a gradual deployment in progress."""
    rows_error: str = ""
    """Why the rows are behind the snapshot. The next check completes them."""
