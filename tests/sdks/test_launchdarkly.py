"""LaunchDarkly's own SDKs evaluate published rows as they evaluate LaunchDarkly's response."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from rigs import SOURCE, RedisRig, open_rig
from sdks import processes, sets
from sdks.processes import same
from sdks.sets import ARCHIVED, GONE, MAIN, REMOVED
from simulators.launchdarkly import LaunchDarklySimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rigs import AnyRig, DynamoRig

CONTEXTS = sets.contexts("launchdarkly", 40)
FLAGS = [*sets.launchdarkly()[0], "never-there"]
TASK: dict[str, Any] = {"flags": FLAGS, "contexts": CONTEXTS}


@pytest.fixture(params=["dynamodb", "redis"])
def rig(request: pytest.FixtureRequest) -> Iterator[AnyRig]:
    """Give an empty store and a LaunchDarkly; Redis lets SDKs in with the documented rights."""
    with LaunchDarklySimulator(*sets.launchdarkly()) as server:
        rig = open_rig(request, request.param, server, "launchdarkly")
        if isinstance(rig, RedisRig):
            rig.login = processes.documented_user(rig.server, "launchdarkly-sdk")
        yield rig


def response(rig: AnyRig) -> Any:
    return json.loads(rig.provider.document())


def test_python_sdk_evaluates_rows_as_the_response(rig: AnyRig) -> None:
    """Every value, variation and reason in daemon mode; then flags change, and it shows."""

    def compared() -> list[str]:
        assert rig.sync().outcome == "published"
        ours = processes.python("launchdarkly", rig.environment(), **TASK, **rig.place())
        same(ours, processes.python("launchdarkly", **TASK, document=response(rig)), CONTEXTS)
        return ours

    before = compared()
    sets.change(rig.provider)
    after = compared()
    differing: Counter[str] = Counter()
    for old, new in zip(map(json.loads, before), map(json.loads, after), strict=True):
        differing.update(key for key in FLAGS if old["flags"][key] != new["flags"][key])
        for key in (REMOVED, ARCHIVED):
            assert old["flags"][key][2]["kind"] == "FALLTHROUGH"
            assert new["flags"][key][2] == {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"}
            assert (key in old["all"], key in new["all"]) == (True, False)
    assert differing.keys() >= {MAIN, REMOVED, ARCHIVED}


@pytest.mark.parametrize("rig", ["dynamodb"], indirect=True)
def test_rows_are_those_that_the_sdk_writes(rig: DynamoRig) -> None:
    """Same keys, attributes, types and versions, and the item as LaunchDarkly sent it."""
    rig.sync()
    document = response(rig)
    theirs = {"table": rig.table.name, "prefix": "theirs"}
    processes.python("launchdarkly", rig.environment(), document=document, **theirs, write=True)
    for section, name in (("features", "flags"), ("segments", "segments")):
        ours, written = (
            {item["key"]["S"]: item for item in query(rig, f"{prefix}:{section}")}
            for prefix in (SOURCE, "theirs")
        )
        written.pop(GONE, None)  # they keep a tombstone of what is deleted, flagstore nothing
        assert ours.keys() == written.keys()
        for key, row in ours.items():
            item = document[name][key]
            assert row == {
                "namespace": {"S": f"{SOURCE}:{section}"},
                "key": {"S": key},
                "version": {"N": str(item["version"])},
                "item": {"S": json.dumps(item, separators=(",", ":"))},
            }
            assert written[key].keys() == row.keys()
            assert written[key]["version"] == row["version"]
            assert json.loads(written[key]["item"]["S"]) == item
    marker = {"S": f"{SOURCE}:$inited"}
    assert query(rig, f"{SOURCE}:$inited") == [{"namespace": marker, "key": marker}]
    assert [item.keys() for item in query(rig, "theirs:$inited")] == [{"namespace", "key"}]


def query(rig: DynamoRig, namespace: str) -> list[dict[str, Any]]:
    pages = rig.table.client.get_paginator("query").paginate(
        TableName=rig.table.name,
        KeyConditionExpression="namespace = :n",
        ExpressionAttributeValues={":n": {"S": namespace}},
    )
    return [item for page in pages for item in page["Items"]]
