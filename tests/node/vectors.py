"""Test vectors for every reader: what a store holds, step by step, and what it must say then.

The writer's own code makes the records. What a reader must say comes from the set that was handed
to the writer, not from a reader. A vector is a JSON file::

    {"name": …, "replicas": 1, "steps": [{
        "records": [[namespace, key, {name: typed value} or null if removed], …],  # since the last
        "lag": [[namespace, key, record], …],  # what reads that are not consistent see
        "calls": [what a reader that has the earlier steps reads, and nothing else],
        "error": name of the error of a first load, "" otherwise,
        "stale": whether the refresh failed,
        "set": {"identity": …, "counts": …, "meta": …, "progress": …,
                "keys": {section: [sorted]}, "texts": {section: {key: JSON}}},
        "missing": {key of a large segment that cannot be read: name of the error},
    }, …]}

A step comes after every pause and TTL. Values are typed as DynamoDB's. A step without a set expects
that of the step before.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from flagstore.codec import dumps
from flagstore.encode import content_digest
from flagstore.keys import Key, SourceState, snapshot_key, state_key
from simulators.reader_rig import Rig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.keys import Record, Value

STATE, STATE_AGAIN = "read prod:$state", "read! prod:$state"
HEAD, HEAD_AGAIN = "read prod:$snapshot", "read! prod:$snapshot"
STEP_S = 61
"""Between steps: no TTL or pause of a reader is longer."""


class Vector:
    """Notes the states of a store, and what a reader must say of each."""

    def __init__(self, name: str, records: Mapping[Key, Record], *, replicas: int = 1) -> None:
        """Begin with nothing; *records* are live."""
        self.name, self.replicas = name, replicas
        self.steps: list[dict[str, Any]] = []
        self._records = records
        self._noted: dict[Key, Record] = {}

    def expect(
        self,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
        *,
        calls: list[str] | None = None,
        error: str = "",
        stale: bool = False,
        lag: Mapping[Key, Record] | None = None,
        missing: Mapping[str, str] | None = None,
    ) -> None:
        """Note the store as it is now.

        Args:
            sections: the set that a reader must have; None for that of the step before.
            meta: its rest.
            calls: the reads; None where chance chooses a replica.
            error: of a first load.
            stale: whether a refresh fails.
            lag: records that reads see unless they are consistent.
            missing: large segments that cannot be read, and the error.
        """
        step: dict[str, Any] = {
            "records": self._changed(),
            "lag": [_typed(key, record) for key, record in (lag or {}).items()],
            "calls": calls,
            "error": error,
            "stale": stale,
            "missing": dict(missing or {}),
        }
        if sections is not None:
            step["set"] = self._set(sections, meta or {})
        self.steps.append(step)

    def document(self) -> dict[str, Any]:
        """Return the vector as JSON."""
        return {"name": self.name, "replicas": self.replicas, "steps": self.steps}

    def _set(
        self, sections: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any]
    ) -> dict[str, Any]:
        record = self._records[snapshot_key("prod")]
        assert record["digest"] == content_digest(sections, meta), self.name
        names = ("token", "nonce", "digest", "revision", "published_at", "provider")
        state = SourceState.from_record(self._records[state_key("prod")])
        return {
            "identity": {name: record.get(name, 0) for name in names},
            "counts": {name: len(items) for name, items in sections.items()},
            "meta": dict(meta),
            "progress": state.deployment,
            "keys": {section: sorted(items) for section, items in sections.items()},
            "texts": {
                section: {key: dumps(items[key]) for key in sorted(items)}
                for section, items in sections.items()
            },
        }

    def _changed(self) -> list[Any]:
        now = {key: dict(record) for key, record in self._records.items()}
        found = [
            _typed(key, now.get(key))
            for key in {**self._noted, **now}
            if now.get(key) != self._noted.get(key)
        ]
        self._noted = now
        return found


def _typed(key: Key, record: Record | None) -> list[Any]:
    if record is None:
        return [*key, None]
    return [*key, {name: _value(value) for name, value in record.items()}]


def _value(value: Value) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"B": b64encode(value).decode()}
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def harm(records: dict[Key, Record], key: Key, **values: Any) -> None:
    """Change attributes of a record; None removes one."""
    record = {**records[key], **values}
    records[key] = {name: value for name, value in record.items() if value is not None}


def flipped(data: Value, place: int) -> bytes:
    """Return bytes with one bit changed."""
    assert isinstance(data, bytes)
    found = bytearray(data)
    found[place] ^= 1 << place % 8
    return bytes(found)


class Published(Rig):
    """A set that is published as a whole, without deltas."""

    def __init__(self, provider: str = "model", *, replicas: int = 1) -> None:
        super().__init__(replicas=replicas, provider=provider)

    def vector(self, name: str) -> Vector:
        return Vector(name, self.records, replicas=self.replicas)


def copies(records: Mapping[Key, Record]) -> dict[Key, Record]:
    return {key: dict(record) for key, record in records.items()}


def text_of(vector: Vector) -> str:
    return json.dumps(vector.document())
