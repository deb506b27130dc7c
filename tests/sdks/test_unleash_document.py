"""Unleash's own SDK evaluates the document that we store as it does what Unleash responded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.encode import unleash_document
from sdks import unleash_set
from sdks.rig import RedisRig, Rig, same
from sdks.unleash_set import ARCHIVED, LARGE, MAIN
from simulators.unleash import UnleashSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    type AnyRig = Rig | RedisRig

SCRIPT = "unleash_python.py"
CONTEXTS = unleash_set.contexts(200)


@pytest.fixture(params=["dynamodb", "redis"])
def rig(request: pytest.FixtureRequest) -> Iterator[AnyRig]:
    """Give an empty store and an Unleash."""
    give: Callable[[str], Any] = request.getfixturevalue
    with UnleashSimulator(*unleash_set.flag_set()) as server:
        if request.param == "redis":
            yield RedisRig(give("redis_server"), server, "unleash")
        else:
            yield Rig(give("aws"), give("dynamodb_table"), server, "unleash")


def stored(rig: AnyRig) -> str | None:
    """Return the document as it lies in the store."""
    if isinstance(rig, RedisRig):
        text: Any = rig.redis.admin.get("flagstore:{prod}:document:features")
        return text if text is None else text.decode()
    key = {"namespace": {"S": "prod:document"}, "key": {"S": "features"}}
    item = rig.table.client.get_item(TableName=rig.table.name, Key=key).get("Item")
    return item and item["item"]["S"]


def check(rig: AnyRig) -> list[str]:
    """See that the stored document is what a reader rebuilds, and let the SDK evaluate both."""
    document = stored(rig)
    assert document is not None
    with rig.snapshot() as snapshot:
        assert document == unleash_document(snapshot)
    server: Any = rig.server
    flags = [*unleash_set.flag_set()[0], "never-there"]
    task: dict[str, Any] = {"flags": flags, "contexts": CONTEXTS}
    ours = rig.python(SCRIPT, document=document, **task)
    assert json.loads(ours[0])["known"] == len(json.loads(document)["features"]) > 0
    same(ours, rig.python(SCRIPT, document=server.document().decode(), **task), CONTEXTS)
    return ours


@pytest.mark.parametrize("rows", [True, False])
def test_the_sdk_evaluates_the_stored_document_as_unleashs_response(
    rig: AnyRig, rows: bool
) -> None:
    """With rows or without, before and after changes; large segments are in it."""
    assert rig.sync(document=True, rows=rows).skipped_rows == ()
    before = check(rig)
    server: Any = rig.server
    server.set_flag(MAIN, strategies=[])
    server.remove_flag(ARCHIVED)
    server.set_segment(2, constraints=[])
    assert rig.sync(document=True, rows=rows).outcome == "published"
    assert check(rig) != before
    segments = json.loads(stored(rig) or "")["segments"]
    assert LARGE in {segment["id"] for segment in segments}


@pytest.mark.parametrize("rows", [True, False])
def test_the_document_comes_and_goes_with_the_option(rig: AnyRig, rows: bool) -> None:
    """At the next check, although no flag has changed."""
    rig.sync(rows=rows)
    assert stored(rig) is None
    rig.sync(document=True, rows=rows)
    assert stored(rig) is not None
    rig.sync(rows=rows)
    assert stored(rig) is None
