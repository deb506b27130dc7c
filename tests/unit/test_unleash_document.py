"""The document that is rebuilt from a snapshot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.clients import Client
from flagstore.encode import encode, unleash_document
from flagstore.errors import ConfigurationError
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE
from simulators.reader_store import RecordsReader
from simulators.unleash_flags import new_flag, new_segment, rich_flags
from storesync.model import Changes, FlagSet
from storesync.publisher import Check, Publisher

if TYPE_CHECKING:
    from flagstore.snapshot import Snapshot

QUERY = {"environment": "production", "inlineSegmentConstraints": False}


def publish(provider: str, sections: dict[str, dict[str, Any]], meta: dict[str, Any]) -> Snapshot:
    """Publish a flag set, and return a reader's snapshot of it."""
    store = MemoryStore()
    token, seen = store.next_token("prod", 1)
    flag_set = FlagSet(provider, sections, meta)
    encoded = encode(sections, meta, token=token)
    check = Check(token, seen, started_at=1, etag="", revision=0)
    Publisher(SOURCE, store, FakeClock()).publish(check, flag_set, encoded, "writer", Changes())
    return Client("prod", store=RecordsReader(store.records)).snapshot()


def test_features_and_segments_are_verbatim() -> None:
    """Features, segments, version and query are included; `meta` is not."""
    flags, segments = rich_flags(50)
    meta = {"version": 2, "query": QUERY, "queryHash": "18502bea"}
    snapshot = publish("unleash", {"flags": flags, "segments": segments}, meta)
    assert json.loads(unleash_document(snapshot)) == {
        "version": 2,
        "query": QUERY,
        "features": [flags[name] for name in sorted(flags)],
        "segments": [segments[key] for key in sorted(segments)],
    }


def test_a_large_segment_is_part_of_it() -> None:
    """A large segment is read, and listed in order with the others."""
    large = new_segment(2)
    large["constraints"][0]["values"] = [f"user-{number}" for number in range(5_000)]
    segments = {"1": new_segment(1), "2": large}
    snapshot = publish("unleash", {"flags": {"a": new_flag("a")}, "segments": segments}, {})
    assert snapshot._body.large.keys() == {"2"}
    assert json.loads(unleash_document(snapshot))["segments"] == [segments["1"], large]


def test_fields_missing_in_the_response_stay_missing() -> None:
    """A response without version and query leads to a document without them."""
    snapshot = publish("unleash", {"flags": {}, "segments": {}}, {})
    assert unleash_document(snapshot) == '{"features":[],"segments":[]}'


def test_other_providers_flags_have_no_document() -> None:
    """The error names the source and its provider."""
    snapshot = publish("launchdarkly", {"flags": {}, "segments": {}}, {})
    with pytest.raises(ConfigurationError, match="'prod' holds flags of 'launchdarkly'"):
        unleash_document(snapshot)
