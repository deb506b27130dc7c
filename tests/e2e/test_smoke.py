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
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.build, pytest.mark.e2e, pytest.mark.campaign]

NAME = "flagstore-smoke"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the sources, without the one resource that the stand-in's CloudFormation lacks."""
    needs_stand_in()
    home = checkout(tmp_path_factory.mktemp("smoke"))
    path = home / "template.yaml"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split("  AppConfigNotifications:\n")
    path.write_text(before + rest[rest.index("  AppConfigRule:\n") :], encoding="utf-8")
    return home


@pytest.fixture
def aws() -> Iterator[StandIn]:
    """Start a stand-in that checks signatures and policies."""
    with StandIn(auth=True) as stand_in:
        yield stand_in


def place(release: Path, aws: StandIn, connect: Callable[[str], str]) -> Place:
    """Return the stand-in as a place to deploy to, where nothing is worth waiting for."""
    return Place(
        repository=release,
        client=aws.client,
        environment=aws.child_environment(os.environ),
        region=aws.region,
        connect=connect,
        event_s=1,
        alarm_s=1,
    )


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


def test_smoke(release: Path, aws: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step passes except two that the stand-in does not support; nothing is left."""
    before = left(aws)

    def connect(name: str) -> str:
        # The stand-in lists deployments by the profile's name, AWS by its id as well.
        api = aws.client("appconfig")
        (application,) = (each["Id"] for each in api.list_applications()["Items"])
        of_it = {"ApplicationId": application}
        (profile,) = (each["Id"] for each in api.list_configuration_profiles(**of_it)["Items"])
        api.update_configuration_profile(**of_it, ConfigurationProfileId=profile, Name=profile)
        stack = Stack.read(aws, name)
        repair(stack)
        return local_url(stack)

    assert Smoke(NAME, place(release, aws, connect), SystemClock()).run() == 0
    *lines, counts = capsys.readouterr().out.splitlines()
    print("\n".join(lines))
    assert counts.endswith("2 not checked")
    assert left(aws) == before


def test_failed_deployment_is_removed(
    release: Path, aws: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """CloudFormation rolls back, and the retained table is deleted."""
    path = release / "template.yaml"
    taken = "  Taken: {Type: AWS::IAM::User, DependsOn: Dashboard, Properties: {UserName: taken}}\n"
    path.write_text(path.read_text("utf-8").replace("Outputs:\n", f"{taken}\nOutputs:\n"), "utf-8")
    aws.client("iam").create_user(UserName="taken")
    before = left(aws)
    assert Smoke(NAME, place(release, aws, lambda _: ""), SystemClock()).run() == 1
    lines = capsys.readouterr().out.splitlines()
    print("\n".join(lines))
    (failed,) = (line for line in lines if line.startswith("FAILED"))
    assert "first deployment" in failed
    assert "Taken: " in failed
    assert [line for line in lines if "which was retained" in line]
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
