"""A function that starts while the provider is down: the providers' own SDKs, and ours.

Writes rows of the second table of docs/guarantees.md, as ``test_side_by_side.py`` does, whose
rule holds here too: what the others do is shown, not asserted.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

import flagstore
from bench.world import MAKERS
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport
from sdks import rig as sdks
from simulators import faults
from torture.test_side_by_side import Row, row, run

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table

__all__ = ["row"]

TITLES = {
    "launchdarkly": "LaunchDarkly's SDK, streaming",
    "launchdarkly_daemon": "LaunchDarkly's SDK in daemon mode, on flagstore's rows",
    "split": "Split's SDK, polling",
    "unleash": "UnleashClient, a new sandbox",
}
FLAGS = 98
ENDLESS = 500
"""More failures than a client of ours or theirs asks for."""


def evaluated(aws: StandIn, table: Table, keys: list[str]) -> dict[str, flagstore.Detail]:
    """Return what a reader that starts now says about each flag."""
    known = aws.environment
    lean = LeanTransport(known["AWS_DEFAULT_REGION"], aws.endpoint, known)
    try:
        client = flagstore.Client(sdks.SOURCE, store=DynamoDBReader(table.name, lean))
        return {key: client.detail(key, {"key": "ada"}) for key in keys}
    finally:
        lean.close()


@pytest.mark.parametrize("way", TITLES)
def test_a_function_that_starts_while_the_provider_is_down(
    aws: StandIn, dynamodb_table: Table, row: Row, way: str
) -> None:
    """It says of each flag what it said before the outage, asking the provider nothing."""
    name = way.partition("_")[0]
    simulator, rich_flags = MAKERS[name]
    made = rich_flags(FLAGS)
    with simulator(*made) as server:
        both = sdks.Rig(aws, dynamodb_table, server, name)
        assert both.sync().outcome == "published"
        before = evaluated(aws, dynamodb_table, list(made[0]))
        assert {each.error for each in before.values()} == {""}
        server.faults.extend(faults.status(503) for _ in range(ENDLESS))
        task: dict[str, Any] = {"url": server.url, "key": server.sdk_key, "way": way}
        environment = {**aws.child_environment(os.environ), "FLAGSTORE_TABLE": dynamodb_table.name}
        theirs = run("start_without_provider.py", environment, **task, flag=_on(before))
        asked = len(server.requests)
        after = evaluated(aws, dynamodb_table, list(made[0]))
        assert len(server.requests) == asked
    assert {key: each.value for key, each in after.items()} == {
        key: each.value for key, each in before.items()
    }
    row(
        f"the provider responds with 503 when a function starts ({TITLES[way]})",
        f"`{json.dumps(theirs['value'])}` for a flag that is on, after {theirs['seconds']:.1f} s",
        f"{len(after)} of {len(before)} flags as before, the provider is not asked",
    )


def _on(flags: dict[str, flagstore.Detail]) -> str:
    """Return a flag that is on for this context."""
    return next(key for key, each in flags.items() if each.enabled)
