"""The template deployed, updated and rolled back by the real `sam`, on the stand-in for AWS.

Each fixture deploys over the one before.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trustme
from botocore.exceptions import ClientError

from local.certificates import client_context
from local.deploy import build
from local.stand_in import DEFAULT_EXECUTABLE, REPOSITORY, StandIn
from simulators.launchdarkly import LaunchDarklySimulator

from .deployments import (
    EXAMPLE,
    NEXT_AGENT,
    SILENT,
    Life,
    Responses,
    Seen,
    checkout,
    next_release,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.deploy import Deployed

pytestmark = [pytest.mark.build, pytest.mark.e2e, pytest.mark.campaign]

CHANGED = {"ReconcileMinutes": "1", "LogLevel": "DEBUG"}
SCHEDULE_WITHIN_S = 120.0
"""The stand-in looks at its schedules every 10 s, and the first firing is a minute away."""

PRO_ONLY = {
    "rules": [
        {
            "id": "pro",
            "variation": 0,
            "clauses": [
                {
                    "contextKind": "user",
                    "attribute": "plan",
                    "op": "in",
                    "values": ["pro"],
                    "negate": False,
                }
            ],
        }
    ],
    "fallthrough": {"variation": 1},
}
COLOURS = ["blue", "green"]
CLASSIC = {"checkout": "classic"}


def new(colour: str) -> dict[str, object]:
    """Return the response to a customer with the new checkout."""
    return {"checkout": "new", "button": colour, "payment_methods": ["card"]}


@dataclass(frozen=True)
class Stage:
    """What one deployment left, and what happened on it then."""

    seen: Seen
    statuses: list[int]
    """Of the webhooks."""
    agent: str
    """What the functions called themselves at the provider."""
    responses: Responses
    """Of a consumer that has this deployment's layer."""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Build today's release, the next one, and the example."""
    for needed in (DEFAULT_EXECUTABLE, REPOSITORY / ".venv-sam" / "bin" / "sam"):
        if not needed.exists():
            pytest.skip(f"{needed.name} is missing: run `make setup`")
    homes = (
        checkout(tmp_path_factory.mktemp("today")),
        next_release(tmp_path_factory.mktemp("next")),
        checkout(tmp_path_factory.mktemp("shop"), EXAMPLE),
    )
    with ThreadPoolExecutor() as pool:
        list(pool.map(build, homes))
    return homes


@pytest.fixture(scope="module")
def life(releases: tuple[Path, Path, Path]) -> Iterator[Life]:
    """Start the stand-in over TLS, which checks signatures and roles, and a provider."""
    ca = trustme.CA()
    with StandIn(auth=True, ca=ca) as aws, LaunchDarklySimulator() as provider:
        provider.trust = client_context(ca)
        yield Life(aws, provider, releases[2])


def live(life: Life, seen: Seen, colour: str) -> Stage:
    """Change what the button looks like, give the shop the new layer, and ask it."""
    deployed = seen.deployed
    statuses = [life.change("button-color", fallthrough={"variation": COLOURS.index(colour)})]
    life.deploy_consumer(deployed)
    responses = settled(life, deployed, Responses(pro=new(colour), free=CLASSIC))
    return Stage(seen, statuses, life.agent(), responses)


def settled(life: Life, deployed: Deployed, required: Responses) -> Responses:
    """Wait until the shop responds with this; on failure, show the last response and the logs."""
    try:
        wait_for(lambda: life.responses() == required, f"{required}")
    except AssertionError as error:
        error.add_note(life.log(deployed)[-6000:])
        raise
    return life.responses()


@pytest.fixture(scope="module")
def first(life: Life, releases: tuple[Path, Path, Path]) -> Stage:
    """Deploy with nothing but defaults."""
    seen = life.deploy(releases[0], {})
    life.configure(seen.deployed)
    life.change("button-color", variations=COLOURS)
    life.change("new-checkout", **PRO_ONLY)
    return live(life, seen, "blue")


@pytest.fixture(scope="module")
def updated(life: Life, releases: tuple[Path, Path, Path], first: Stage) -> Stage:
    """Deploy the next release over it, with two other parameters."""
    assert first.responses
    return live(life, life.deploy(releases[1], CHANGED), "green")


@pytest.fixture(scope="module")
def scheduled(life: Life, updated: Stage) -> frozenset[tuple[str, str]]:
    """Wait for the schedule, and return the records of the source that nothing else requests."""
    deployed = updated.seen.deployed

    def silent() -> frozenset[tuple[str, str]]:
        return frozenset(each for each in life.records(deployed) if each[0].startswith(SILENT))

    return wait_for(silent, "run of the schedule", within_s=SCHEDULE_WITHIN_S)


@pytest.fixture(scope="module")
def rolled_back(
    life: Life,
    releases: tuple[Path, Path, Path],
    updated: Stage,
    scheduled: frozenset[tuple[str, str]],
) -> Stage:
    """Deploy the build of before, naming no parameter."""
    assert updated.responses
    assert scheduled
    return live(life, life.deploy(releases[0], {}), "blue")


def test_first_deployment(first: Stage) -> None:
    """A flag goes from webhook, queue and table to the example's response, by its rules."""
    assert first.statuses == [202]
    assert first.responses == Responses(pro=new("blue"), free=CLASSIC)
    assert first.seen.schedule == "rate(5 minutes)"


def test_unsigned_webhook_is_rejected(life: Life, first: Stage) -> None:
    """With 401; other paths with 404."""
    base = first.seen.deployed.webhook_base_url
    for path, status in (("prod", 401), ("nowhere", 404), ("prod/a/b", 404)):
        life.provider.send(f"{base}/{path}", {"x-ld-signature": "0" * 64}, b"{}", 1)
        life.provider.settle()
        assert life.provider.deliveries[-1].statuses == [status], path


def test_reader_policy_is_enforced(life: Life, first: Stage) -> None:
    """A reader can read, but not write, nor read unsigned."""
    table = first.seen.deployed.table
    key = {"namespace": {"S": "prod:$state"}, "key": {"S": "state"}}
    right, wrong = life.reader(first.seen.deployed)
    assert right.get_item(TableName=table, Key=key)["Item"]
    with pytest.raises(ClientError, match="AccessDeniedException"):
        right.put_item(TableName=table, Item=key)
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        wrong.get_item(TableName=table, Key=key)


def test_update_changes_code_and_parameters(first: Stage, updated: Stage) -> None:
    """Functions and layer are those of the next release."""
    before, after = first.seen, updated.seen
    assert (first.agent, updated.agent) == ("flagstore", NEXT_AGENT)
    assert all(after.code[name] != before.code[name] for name in ("sync", "webhook", "layer"))
    assert after.schedule == "rate(1 minute)"
    assert after.settings["POWERTOOLS_LOG_LEVEL"] == "DEBUG"
    assert before.settings["POWERTOOLS_LOG_LEVEL"] == "INFO"


def test_update_keeps_table_and_webhook_url(first: Stage, updated: Stage) -> None:
    """No flag is lost, and webhooks arrive as before."""
    before, after = first.seen, updated.seen
    assert after.deployed.webhook_base_url == before.deployed.webhook_base_url
    assert after.deployed.table == before.deployed.table
    assert after.table_made_at == before.table_made_at
    assert after.records
    assert updated.statuses == [202]
    assert updated.responses == Responses(pro=new("green"), free=CLASSIC)


def test_update_keeps_the_old_layer(updated: Stage) -> None:
    """A consumer of the previous layer continues to read."""
    assert updated.seen.responses == Responses(pro=new("blue"), free=CLASSIC)


def test_schedule_runs(updated: Stage, scheduled: frozenset[tuple[str, str]]) -> None:
    """A source without webhooks gets its flags."""
    assert not [each for each in updated.seen.records if each[0].startswith(SILENT)]
    assert {namespace.partition(":")[0] for namespace, _ in scheduled} == {SILENT}


def test_rollback_restores_the_code(first: Stage, updated: Stage, rolled_back: Stage) -> None:
    """The same bytes as before the update; parameters stay."""
    assert rolled_back.seen.code == first.seen.code
    assert rolled_back.agent == "flagstore"
    assert rolled_back.seen.schedule == updated.seen.schedule
    assert rolled_back.seen.settings == updated.seen.settings


def test_rollback_keeps_the_table(
    first: Stage, rolled_back: Stage, scheduled: frozenset[tuple[str, str]]
) -> None:
    """Flags of the next release stay readable, and webhooks change them."""
    assert rolled_back.seen.table_made_at == first.seen.table_made_at
    assert rolled_back.seen.records >= scheduled
    assert rolled_back.seen.responses == Responses(pro=new("green"), free=CLASSIC)
    assert rolled_back.statuses == [202]
    assert rolled_back.responses == Responses(pro=new("blue"), free=CLASSIC)
