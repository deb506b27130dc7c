"""Unleash's own SDK evaluates flagstore's documents as it evaluates Unleash's response."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.encode import unleash_document
from rigs import RedisRig, open_rig
from sdks import processes, sets
from sdks.processes import same
from sdks.sets import ARCHIVED, MAIN
from simulators.unleash import UnleashSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rigs import AnyRig

CONTEXTS = sets.contexts("unleash", 20)
FLAGS = [*sets.unleash()[0], "never-there"]


@pytest.fixture(params=["dynamodb", "redis"])
def rig(request: pytest.FixtureRequest) -> Iterator[AnyRig]:
    with UnleashSimulator(*sets.unleash()) as server:
        yield open_rig(request, request.param, server, "unleash")


def sdk(document: str, flags: list[str]) -> list[str]:
    """Let the SDK evaluate a document; it must have taken all of it."""
    lines = processes.python("unleash", document=document, flags=flags, contexts=CONTEXTS)
    assert json.loads(lines[0])["known"] == len(json.loads(document)["features"]) > 0
    return lines


def stored(rig: AnyRig) -> Any:
    if isinstance(rig, RedisRig):
        text: Any = rig.server.admin.get("flagstore:{prod}:document:features")
        return text.decode()
    key = {"namespace": {"S": "prod:document"}, "key": {"S": "features"}}
    found = rig.table.client.get_item(TableName=rig.table.name, Key=key)
    return found["Item"]["item"]["S"]


def test_stored_document_is_evaluated_as_the_response(rig: AnyRig) -> None:
    """It is the one that a reader rebuilds, before and after changes; large segments are in it."""
    seen = []
    for _ in range(2):
        report = rig.sync(document=True)
        assert (report.outcome, report.skipped_rows) == ("published", ())
        document = stored(rig)
        with rig.snapshot() as snapshot:
            assert document == unleash_document(snapshot)
            assert snapshot._body.large.keys() == {"4"}
        seen.append(sdk(document, FLAGS))
        same(seen[-1], sdk(rig.provider.document().decode(), FLAGS), CONTEXTS)
        if len(seen) == 1:
            sets.change(rig.provider)
    differing: Counter[str] = Counter()
    for old, new in zip(*(map(json.loads, lines) for lines in seen), strict=True):
        assert (old["flags"][ARCHIVED][0], new["flags"][ARCHIVED][0]) == (True, False)
        differing.update(name for name in FLAGS if old["flags"][name] != new["flags"][name])
    assert differing.keys() > {MAIN, ARCHIVED}
