"""`tools/smoke` on the stand-in for AWS."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from local.repairs import Stack, local_url, repair
from local.stand_in import REPOSITORY, StandIn
from storesync.retry import SystemClock
from tests.docs.pages import blocks
from tools.smoke import Place, Smoke

from .deployments import checkout, needs_stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.build, pytest.mark.e2e, pytest.mark.campaign]


@pytest.fixture
def aws() -> Iterator[StandIn]:
    """Start a stand-in that checks signatures and policies."""
    needs_stand_in()
    with StandIn(auth=True) as stand_in:
        yield stand_in


def left(aws: StandIn) -> dict[str, list[Any]]:
    """Return what is still there, by what it is."""
    api = aws.client("appconfig")
    found = {
        "stacks": aws.client("cloudformation").describe_stacks()["Stacks"],
        "tables": aws.client("dynamodb").list_tables()["TableNames"],
        "buckets": aws.client("s3").list_buckets()["Buckets"],
        "functions": aws.client("lambda").list_functions()["Functions"],
        "layers": aws.client("lambda").list_layers()["Layers"],
        "roles": aws.client("iam").list_roles()["Roles"],
        "policies": aws.client("iam").list_policies(Scope="Local")["Policies"],
        "queues": aws.client("sqs").list_queues().get("QueueUrls", []),
        "parameters": aws.client("ssm").describe_parameters()["Parameters"],
        "alarms": aws.client("cloudwatch").describe_alarms()["MetricAlarms"],
        "schedules": aws.client("scheduler").list_schedules()["Schedules"],
        "applications": api.list_applications()["Items"],
    }
    return {kind: items for kind, items in found.items() if items}


def test_smoke(tmp_path: Path, aws: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step passes except two that the stand-in does not support; nothing is left."""
    # The stand-in's CloudFormation lacks one kind of resource.
    path = checkout(tmp_path) / "template.yaml"
    start, rest = path.read_text(encoding="utf-8").split("  AppConfigNotifications:\n")
    path.write_text(start + rest[rest.index("  AppConfigRule:\n") :], encoding="utf-8")
    # It lists deployments by the profile's name, AWS by its id as well.
    module = tmp_path / "src" / "storesync" / "providers" / "appconfig.py"
    text = module.read_text(encoding="utf-8")
    assert text.count('.get("ConfigurationProfileId")') == 1
    module.write_text(text.replace("ConfigurationProfileId", "ConfigurationName"), "utf-8")
    before = left(aws)

    def connect(name: str) -> str:
        api = aws.client("appconfig")
        (application,) = (each["Id"] for each in api.list_applications()["Items"])
        of_it = {"ApplicationId": application}
        (profile,) = (each["Id"] for each in api.list_configuration_profiles(**of_it)["Items"])
        api.update_configuration_profile(**of_it, ConfigurationProfileId=profile, Name=profile)
        stack = Stack.read(aws, name)
        repair(stack)
        return local_url(stack, "WebhookBaseUrl")

    place = Place(
        repository=tmp_path,
        client=aws.client,
        environment=aws.child_environment(os.environ),
        region=aws.region,
        connect=connect,
        event_s=1,
        alarm_s=1,
    )
    assert Smoke("flagstore-smoke", place, SystemClock()).run() == 0
    *lines, counts = capsys.readouterr().out.splitlines()
    print("\n".join(lines))
    assert counts.endswith("2 not checked")
    assert left(aws) == before


@pytest.mark.parametrize(("region", "status"), [("eu-west-1", 0), ("", 2)])
def test_smoke_asks_first(aws: StandIn, region: str, status: int) -> None:
    """It prints the account and region; without a region it fails."""
    before = left(aws)
    environment = aws.child_environment(os.environ)
    environment |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    (command,) = (each.text for each in blocks("docs/releasing.md") if "smoke" in each.text)
    done = subprocess.run(
        command.split(),
        cwd=REPOSITORY,
        input="n\n",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert ("account 000000000000, eu-west-1" in done.stdout) is bool(region)
    assert left(aws) == before
