"""Modules imported and store calls made for a first flag."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rigs import DynamoRig
from simulators.launchdarkly import LaunchDarklySimulator, rich_flags
from simulators.serving import FEATURES
from simulators.unleash import UnleashSimulator
from simulators.unleash import rich_flags as unleash_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stand_in import StandIn
    from simulators.aws import Table

SOURCES = Path(__file__).parents[2] / "src"
PERSON = {"key": "ada", "plan": "team", "country": "DE"}
NEEDY = "needs-much"
FIRST_FLAG = """
import json, sys
before = set(sys.modules)
import flagstore
detail = flagstore.client("prod").detail(sys.argv[1], json.loads(sys.argv[2]))
assert not detail.error, detail
print(*sorted(set(sys.modules) - before))
"""
OURS = {
    "flagstore",
    *(f"flagstore.{name}" for name in ("cache", "clients", "codec", "errors", "flags", "keys")),
    *("flagstore.evaluation", "flagstore.evaluation.base"),
    *("flagstore.evaluation.launchdarkly", "flagstore.evaluation.launchdarkly_flags"),
    *("flagstore.snapshot", "flagstore.stores", "flagstore.stores.aws"),
    *("flagstore.stores.dynamodb", "flagstore.stores.http", "flagstore.stores.network"),
}
"""Up to a flag without rules: what rules, segments and dates need is imported with them."""
RESPONSE = """
import json, sys
before = set(sys.modules)
from flagserve.function import handler
response = handler(json.loads(sys.argv[1]), None)
assert response["statusCode"] == 200, response
print(*sorted(set(sys.modules) - before))
"""
MOST_OTHERS = 40
"""Modules of the standard library besides json's; 38 with Python 3.13."""
MORE_TO_SERVE = 8


@pytest.fixture
def rig(aws: StandIn, dynamodb_table: Table) -> Iterator[DynamoRig]:
    """Give 500 flags that are published, one that needs others and segments among them."""
    flags, segments = rich_flags(500)
    with LaunchDarklySimulator(flags, segments) as server:
        server.set_flag("plain")
        server.set_flag("needed", prerequisites=[{"key": "plain", "variation": 0}])
        clauses = [{"attribute": "", "op": "segmentMatch", "values": sorted(segments)}]
        rules = [{"id": "r", "variation": 1, "clauses": clauses}]
        needs = [{"key": "needed", "variation": 0}]
        server.set_flag(NEEDY, prerequisites=needs, rules=rules)
        made = DynamoRig(aws, dynamodb_table, server, name="launchdarkly")
        assert made.sync().outcome == "published"
        yield made


def run(*arguments: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={"PATH": os.defpath, "PYTHONPATH": str(SOURCES), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_of_a_first_flag(rig: DynamoRig) -> None:
    """A new one has to be worth its time."""
    loaded = set(
        run(
            *("-S", "-c", FIRST_FLAG, "plain", '{"key": "ada"}'),
            **rig.aws.child_environment({}),
            FLAGSTORE_TABLE=rig.table.name,
        ).split()
    )
    assert {name for name in loaded if name.startswith("flagstore")} == OURS
    others = {name for name in loaded if not name.startswith("flagstore")}
    assert not others & {"boto3", "dataclasses", "email", "http", "inspect", "logging", "ssl"}
    assert len(others) <= MOST_OTHERS, sorted(others)
    print(f"a first flag imports {len(OURS)} flagstore modules and {len(others)} others")


def test_modules_of_served_flags(aws: StandIn, dynamodb_table: Table) -> None:
    """A first response costs little more than a first flag: two services of AWS, and no boto3."""
    with UnleashSimulator(*unleash_flags(50)) as server:
        rig = DynamoRig(aws, dynamodb_table, server, name="unleash")
        assert rig.sync().outcome == "published"
    secret, prefix = "canary-client-secret-0009", f"/cold/{dynamodb_table.name}"
    key = {"source": "prod", "kind": "server", "secrets": [secret]}
    aws.client("ssm").put_parameter(
        Name=f"{prefix}/clients/app", Value=json.dumps(key), Type="SecureString"
    )
    headers = {"authorization": secret, "accept-encoding": "gzip"}
    loaded = set(
        run(
            *("-S", "-c", RESPONSE, json.dumps({"routeKey": FEATURES, "headers": headers})),
            **aws.child_environment({}),
            FLAGSTORE_TABLE=dynamodb_table.name,
            FLAGSTORE_PARAMETER_PREFIX=prefix,
        ).split()
    )
    unwanted = {"boto3", "dataclasses", "email", "gzip", "http", "inspect", "logging", "urllib"}
    assert not loaded & unwanted
    ours = {name for name in loaded if name.startswith("flag")}
    assert ours >= {"flagserve.function", "flagstore.evaluation.unleash"}
    assert len(loaded) - len(ours) <= MOST_OTHERS + MORE_TO_SERVE, sorted(loaded - ours)
    print(f"a first response imports {len(ours)} own modules and {len(loaded) - len(ours)} others")


def test_any_number_of_flags_costs_one_call(rig: DynamoRig) -> None:
    """Fifty flags, one with prerequisites and segments, then all."""
    flags, transport = rig.reader()
    user = flags.for_context(PERSON)
    for key in [*flags.keys()[:50], NEEDY]:
        assert not user.detail(key).error
    assert len(user.all()) == 503
    assert transport.calls == ["GetItem"]
    transport.close()
    print(f"a first flag, then all {len(user.all())} flags: {len(transport.calls)} store call")
