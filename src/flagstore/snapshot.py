"""One flag set in memory, and information about it."""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from flagstore.codec import LARGE_SECTION, Body, Json, LargeSegment, decode_segment, dumps
from flagstore.errors import ConfigurationError, CorruptSnapshotError, FlagNotFoundError
from flagstore.keys import SnapshotRecord


class Deployment(NamedTuple):
    """A gradual deployment in progress, as one process sees it."""

    number: int
    version: int
    """The configuration version that is being deployed."""
    previous_version: int
    """The version before it; 0 if there is none."""
    percentage: float
    """The share of processes or entities that have the new version, as far as this process knows.
    At most one step ahead of what AppConfig last confirmed."""
    new: bool
    """Whether this process has the new version; with ``rollout_by``, entities may differ."""


class Info(NamedTuple):
    """Information about a client's flag set."""

    source: str
    provider: str
    token: int
    """Grows with every publication."""
    digest: str
    """Content digest in hex: equal for equal content."""
    counts: dict[str, int]
    """Section (``flags``, ``segments``) → number of items."""
    revision: int
    """The provider's revision; 0 if it has none."""
    published_at: float
    """Seconds since the epoch."""
    checked_at: float
    """Last check with the provider that this process knows of, in seconds since the epoch."""
    age_s: float
    """Seconds since then; infinite before the first load."""
    stale: bool
    """Whether the last refresh failed, or an earlier large segment stands in for a changed one."""
    error: str
    """Why it is stale; or why a large segment could not be read when a flag first needed it."""
    callback_errors: int = 0
    """How often ``on_evaluation`` raised."""
    throttled: int = 0
    """How often DynamoDB has asked this client to slow down."""
    deployment: Deployment | None = None
    """AppConfig: the gradual deployment in progress."""


def nothing_loaded(source: str, error: str) -> Info:
    """Return the ``Info`` before the first load."""
    return Info(source, "", 0, "", {}, 0, 0.0, 0.0, float("inf"), stale=True, error=error)


def _counts(record: SnapshotRecord) -> dict[str, int]:
    """Return section → number of items; no digest covers them."""
    try:
        counts: dict[str, int] = json.loads(record.counts)
        if all(number.__class__ is int for number in counts.values()):
            return counts
    except (AttributeError, TypeError, ValueError):
        pass
    raise CorruptSnapshotError("the counts in the snapshot record are damaged")


class Snapshot:
    """An immutable flag set: keep it to see the same flags throughout a request."""

    def __init__(
        self,
        source: str,
        snapshot_record: SnapshotRecord,
        body: Body,
        load_segment: Callable[[LargeSegment], bytes],
        large_segments: dict[str, bytes] | None = None,
    ) -> None:
        self.source = source
        self.snapshot_record = snapshot_record
        self._body = body
        self._load_segment = load_segment
        self.large = body.large
        """The large segments, by key."""
        self.segments: dict[str, bytes] = {} if large_segments is None else large_segments
        """Digest → bytes of the large segments in memory; more are added as they are read."""
        self.stand_ins: dict[str, Callable[[], Any]] = {}
        """Key of a large segment that cannot be read now → returns the earlier one."""
        self.progress = ""
        """The progress of a gradual deployment, as the source state had it last."""
        self.counts = _counts(snapshot_record)
        """Section → number of items."""
        self.two_versions = (
            snapshot_record.provider == "appconfig" and self.counts.get("deployments", 0) > 0
        )
        """Whether a gradual deployment is in progress: see :mod:`flagstore.rollout`."""

    def segment_in_memory(self, key: str) -> Callable[[], Any] | None:
        """Return a function that returns a segment in memory; None if it would have to be read."""
        if key in self.stand_ins:
            return self.stand_ins[key]
        segment = self.large.get(key)
        if segment is not None:
            data = self.segments.get(segment.data_digest)
            return None if data is None else partial(decode_segment, segment, data)
        text = self._body.text(LARGE_SECTION, key)
        return None if text is None else partial(json.loads, text)

    def again(self) -> "Snapshot":
        """Return the same flag set without stand-ins."""
        found = Snapshot(
            self.source, self.snapshot_record, self._body, self._load_segment, self.segments
        )
        found.progress = self.progress
        return found

    def changed(
        self, items: Mapping[str, Mapping[str, str | None]], record: SnapshotRecord
    ) -> "Snapshot":
        """Return a later flag set: this one with other items, as JSON or None for removed ones.

        Its *record* is this one's with another identity; counts and body are adjusted here.
        """
        body = self._body.changed(items)
        counts = {**self.counts}
        for section, texts in items.items():
            before = sum(self._body.text(section, key) is not None for key in texts)
            after = sum(text is not None for text in texts.values())
            counts[section] = counts.get(section, 0) + after - before
        # What identifies and holds the earlier body is no longer of use.
        record = record._replace(
            counts=dumps(counts), index_data=b"", index_digest="", body=b"", chunks=""
        )
        return Snapshot(self.source, record, body, self._load_segment, self.segments)

    def held(self, section: str, key: str) -> str | None:
        """Return an item in memory as JSON; None if there is none, or it is a large segment."""
        return self._body.text(section, key)

    def section_of(self, flag: str, version: int | None = None) -> str:
        """Return the section that has a flag: ``flags``, or in a gradual deployment ``new_flags``.

        That of the configuration *version* that was evaluated; otherwise the previous version's, or
        the new one's if only that has the flag.
        """
        if not self.two_versions or self.held("new_flags", flag) is None:
            return "flags"
        (deployment,) = self.texts("deployments").values()
        is_new = str(json.loads(deployment)["ConfigurationVersion"]) == str(version)
        return "new_flags" if is_new or self.held("flags", flag) is None else "flags"

    def keys_of_versions(self) -> list[str]:
        """Return the keys of all flags, those of a gradual deployment's new version included."""
        return sorted({*self.keys(), *self.keys("new_flags")})

    def check_provider(self, provider: str, title: str) -> None:
        """Raise ConfigurationError if the flags are those of another provider."""
        found = self.snapshot_record.provider
        if found != provider:
            raise ConfigurationError(
                f"source {self.source!r} holds flags of {found!r}, not {title}'s"
            )

    @property
    def meta(self) -> dict[str, Any]:
        """The rest of the provider's document. A copy."""
        meta: dict[str, Any] = json.loads(json.dumps(self._body.meta))
        return meta

    def keys(self, section: str = "flags") -> list[str]:
        """Return the keys of all flags, or of another section such as ``segments``, sorted."""
        return self._body.keys(section)

    def differing(self, other: "Snapshot") -> dict[str, set[str]] | None:
        """Return section → keys of the items that differ between two flag sets, if any do.

        None if the rest of the document differs, or stand-ins are in use.
        """
        mine, theirs = self._body, other._body  # noqa: SLF001 - own class
        if self.stand_ins or other.stand_ins or mine.meta != theirs.meta:
            return None
        sections = {*mine.sections, *theirs.sections}
        found = {section: mine.differing(theirs, section) for section in sections}
        return {section: keys for section, keys in found.items() if keys}

    def shares_blocks(self, other: "Snapshot") -> bool:
        """Return whether deltas lead from one to the other: comparing them then takes little."""
        return self._body.sections is other._body.sections  # noqa: SLF001 - own class

    def changed_since(self, earlier: "Snapshot") -> list[str] | None:
        """Return the sorted keys of flags that were changed, added or removed since an earlier set.

        None if segments or the rest of the document changed: any flag may be affected.
        """
        differing = self.differing(earlier)
        if differing is None or differing.keys() - {"flags"}:
            return None
        return sorted(differing.get("flags", ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return self.counts.get("flags", 0)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._body.text("flags", key) is not None

    def __getitem__(self, key: str) -> Json:
        """Return the provider's JSON of one flag, as :meth:`item` does."""
        return self.item("flags", key)

    def item(self, section: str, key: str) -> Json:
        """Return the provider's JSON of one flag or segment. A copy.

        A large segment is read from the store on first use.

        Raises:
            FlagNotFoundError: if there is no such item.
            NotLoadedError: if a large segment cannot be read now; flags are always in memory.
        """
        if section == LARGE_SECTION and key in self.large:
            return self._large(key)
        return json.loads(self.text(section, key))

    def text(self, section: str, key: str) -> str:
        """Return one flag or segment as JSON: :meth:`item`, but nothing is decoded."""
        text = self._body.text(section, key) if isinstance(key, str) else None
        if text is None and section == LARGE_SECTION and key in self.large:
            return dumps(self._large(key))
        if text is None:
            raise FlagNotFoundError(
                f"no {section.removesuffix('s')} {key!r} in source {self.source!r}"
            )
        return text

    def texts(self, section: str) -> dict[str, str]:
        """Return all flags or segments as JSON by key, in key order: faster than one by one.

        Raises:
            NotLoadedError: if a large segment cannot be read now.
        """
        found = self._body.texts(section)
        if section == LARGE_SECTION and self.large:
            found |= {key: dumps(self._large(key)) for key in self.large}
            found = dict(sorted(found.items()))
        return found

    def _large(self, key: str) -> Json:
        if key in self.stand_ins:
            return self.stand_ins[key]()
        segment = self.large[key]
        data = self.segments.get(segment.data_digest)
        if data is None:
            data = self.segments[segment.data_digest] = self._load_segment(segment)
        return decode_segment(segment, data)

    def export(self) -> dict[str, Any]:
        """Return the whole set, large segments included, in the format of a flag file.

        Raises:
            NotLoadedError: if a large segment cannot be read now.
        """
        return {
            "provider": self.snapshot_record.provider,
            "meta": self.meta,
            "sections": {
                section: {key: self.item(section, key) for key in self.keys(section)}
                for section in self._body.sections
            },
        }
