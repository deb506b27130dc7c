"""The OpenFeature provider over real flags: the client's own values, and contexts of every kind."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from flagstore.adapters.openfeature import FlagstoreProvider
from flagstore.clients import Client
from flagstore.encode import encode
from sdks import sets
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE
from simulators.reader_store import RecordsReader
from storesync.model import Changes, FlagSet
from storesync.publisher import Check, Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULTS: dict[str, Any] = {
    "boolean": True,
    "string": "x",
    "integer": 3,
    "float": 2.5,
    "object": {"z": 1},
}


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    """Leave no provider behind."""
    yield
    api.shutdown()


def publish(provider: str, sections: dict[str, dict[str, Any]]) -> Client:
    """Publish a flag set, and return a client that reads it."""
    store = MemoryStore()
    token, seen = store.next_token("prod", 1)
    encoded = encode(sections, {}, token=token)
    check = Check(token, seen, started_at=1, etag="", revision=0)
    publisher = Publisher(SOURCE, store, FakeClock())
    publisher.publish(check, FlagSet(provider, sections, {}), encoded, "writer", Changes())
    return Client("prod", store=RecordsReader(store.records))


def launchdarkly() -> tuple[Client, list[tuple[dict[str, Any], EvaluationContext]]]:
    """Return a client, and contexts in its terms and in OpenFeature's."""
    flags, segments = sets.launchdarkly()
    del flags[sets.GONE]
    contexts = []
    for ours in sets.contexts("launchdarkly", 30):
        theirs = json.loads(json.dumps(ours))
        if ours["kind"] == "multi":
            for part in theirs.values():
                if isinstance(part, dict):
                    part["targetingKey"] = part.pop("key")
            contexts.append((ours, EvaluationContext(None, theirs)))
        else:
            contexts.append((ours, EvaluationContext(theirs.pop("key"), theirs)))
    return publish("launchdarkly", {"flags": flags, "segments": segments}), contexts


def split() -> tuple[Client, list[tuple[dict[str, Any], EvaluationContext]]]:
    """Return the same of Split."""
    flags, segments, rule_based = sets.split()
    keys = {name: {"name": name, "keys": listed} for name, listed in segments.items()}
    sections = {"flags": flags, "rule_based_segments": rule_based, "segments": keys}
    contexts = [
        ({**told["attributes"], "key": told["key"]}, EvaluationContext(**_renamed(told)))
        for told in sets.contexts("split", 30)
    ]
    return publish("split", sections), contexts


def _renamed(told: dict[str, Any]) -> dict[str, Any]:
    return {"targeting_key": told["key"], "attributes": told["attributes"]}


@pytest.mark.parametrize(
    ("make", "reasons"),
    [
        (launchdarkly, {"DEFAULT", "DISABLED", "TARGETING_MATCH", "SPLIT", "ERROR"}),
        (split, {"DEFAULT", "DISABLED", "TARGETING_MATCH", "SPLIT", "ERROR"}),
    ],
)
def test_values_equal_the_clients(make: Any, reasons: set[str]) -> None:
    """For each flag, type and context."""
    client, contexts = make()
    api.set_provider_and_wait(FlagstoreProvider(client))
    features = api.get_client()
    told: Counter[str] = Counter()
    for ours, theirs in contexts:
        for key in client:
            for kind, default in DEFAULTS.items():
                found = getattr(features, f"get_{kind}_details")(key, default, theirs)
                value = client.value(key, ours, default=default)
                if kind == "object" and value == default:  # a list will do for OpenFeature
                    value = client.value(key, ours, default=[default])
                    value = default if value == [default] else value
                value = float(value) if kind == "float" else value
                assert (found.value, type(found.value)) == (value, type(value)), (key, kind, ours)
                told[str(found.reason)] += 1
    assert told.keys() == reasons
    assert min(told.values()) >= 20
    assert told["ERROR"] < 0.8 * told.total()
