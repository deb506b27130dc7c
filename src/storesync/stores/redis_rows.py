"""Rows of LaunchDarkly in the Redis layout that its SDKs read in daemon mode. See docs/redis.md.

Published by LaunchDarkly ("storing data in Redis"), with ``prefix={<source>}``: the hash
``{prod}:features``, whose fields are keys of flags and whose values are their JSON, the hash
``{prod}:segments``, and the text ``{prod}:$inited``, empty. The braces are part of the prefix:
Redis' hash tag, so that all of it is in the source's slot.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flagstore.keys import check_source
from storesync.stores.base import Delete, Put

if TYPE_CHECKING:
    from flagstore.keys import Record
    from storesync.stores.redis_client import Argument

    Action = tuple[list[str], list[Argument]]
    """The two keys of a write in the script COMMIT, and its kind, number of values, values."""

HASHES = ("features", "segments")
MARKER = "$inited"
NOTED = "native_rows"
"""Attribute of the source state: these keys are ours, and must go when the provider is another."""


def is_native(namespace: str) -> bool:
    """Say whether LaunchDarkly's rows of this namespace lie in its own layout."""
    return namespace.partition(":")[2] in {*HASHES, MARKER}


def is_marker(namespace: str) -> bool:
    """Say whether this namespace has the mark of a complete store and nothing else."""
    return namespace.partition(":")[2] == MARKER


def native_name(namespace: str) -> str:
    """Return the key of Redis that holds a namespace."""
    source, _, section = namespace.partition(":")
    return f"{{{check_source(source)}}}:{section}"


def native_action(write: Put | Delete) -> Action:
    """Return what a write does to LaunchDarkly's layout."""
    is_put = isinstance(write, Put)
    namespace, key = _place(write)
    keys = [native_name(namespace)] * 2
    if is_marker(namespace):
        return keys, ["mark" if is_put else "unmark", 0]
    if isinstance(write, Put):
        return keys, ["field", 2, key, str(write.record["item"]).encode()]
    return keys, ["unfield", 1, key]


def leave(source: str) -> list[Action]:
    """Return the removal of all rows in this layout, for a source that has another provider."""
    hashes, marker = [native_name(f"{source}:{part}") for part in HASHES], f"{source}:{MARKER}"
    gone: list[Action] = [([name] * 2, ["unhash", 0]) for name in hashes]
    return [*gone, ([native_name(marker)] * 2, ["unmark", 0])]


def to_row(namespace: str, field: bytes, value: bytes) -> Record:
    """Return the record of a field, as it was put; its version is the item's own.

    Bytes that are no UTF-8 are kept: whoever wrote them, they can be named and removed.
    """
    item = value.decode(errors="surrogateescape")
    row: Record = {
        "namespace": namespace,
        "key": field.decode(errors="surrogateescape"),
        "item": item,
    }
    version = _version(item)
    return row if version is None else {**row, "version": version}


def marker_of(namespace: str) -> Record:
    """Return the record of the mark of a complete store."""
    return {"namespace": namespace, "key": namespace}


def _place(write: Put | Delete) -> tuple[str, str]:
    if isinstance(write, Delete):
        return write.key
    return str(write.record["namespace"]), str(write.record["key"])


def _version(item: str) -> int | None:
    try:
        content = json.loads(item)
    except (ValueError, RecursionError):
        return None
    version = content.get("version") if isinstance(content, dict) else None
    return version if isinstance(version, int) and not isinstance(version, bool) else None
