"""One stack through its life on the stand-in: releases of it, its provider, and who reads it."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from local.deploy import Deployed, build, connect, function_log, sam_deploy
from local.repairs import Stack, repair
from local.stand_in import REPOSITORY, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from simulators.launchdarkly import LaunchDarklySimulator

EXAMPLE = REPOSITORY / "examples" / "consumer"
CONSUMER_STACK = "shop"
PREFIX = "/flagstore"
SOURCE = "prod"
SILENT = "silent"
"""A source that no webhook ever sync requests: what it holds, the schedule fetched."""
SECRET = "only-for-this-test"
NEXT_AGENT = "flagstore-next"

WITHIN_S = 60.0
"""A consumer that is warm asks every 30 s for something new."""
POLL_S = 0.2


@dataclass(frozen=True)
class Responses:
    """What the example's function responds to a customer of each plan."""

    pro: dict[str, Any]
    free: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The stack after a deployment.

    Attributes:
        deployed: its parts.
        code: hash of the code of each of its functions, and of the layer.
        settings: variables of SyncFunction.
        schedule: the expression of its schedule.
        table_made_at: when the table was made.
        records: keys of the table's records.
        responses: of a consumer that was there before the deployment.

    """

    deployed: Deployed
    code: Mapping[str, str]
    settings: Mapping[str, str]
    schedule: str
    table_made_at: float
    records: frozenset[tuple[str, str]]
    responses: Responses | None = None


def checkout(home: Path, folder: Path = REPOSITORY) -> Path:
    """Copy a template with its sources, to be built separately."""
    ignore = shutil.ignore_patterns("__pycache__", ".*_cache")
    shutil.copytree(folder / "src", home / "src", ignore=ignore)
    for name in ("template.yaml", "LICENSE", "README.md"):
        if (folder / name).exists():  # the example has no licence of its own
            shutil.copy(folder / name, home)
    (home / ".venv-sam").symlink_to(REPOSITORY / ".venv-sam")
    return home


def next_release(home: Path) -> Path:
    """Return the sources of a release whose functions and layer are not those of today."""
    checkout(home)
    _replace(home / "src/storesync/http.py", 'USER_AGENT = "flagstore"', NEXT_AGENT)
    _replace(home / "src/flagstore/__init__.py", '__version__ = "', "999.0.0")
    return home


def _replace(path: Path, start: str, value: str) -> None:
    """Give the one line that starts so another value."""
    name = start.partition(" = ")[0]
    lines = path.read_text(encoding="utf-8").splitlines()
    (number,) = (n for n, line in enumerate(lines) if line.startswith(start))
    lines[number] = f'{name} = "{value}"'
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def wait_for[T](probe: Callable[[], T | None], what: str, *, within_s: float = WITHIN_S) -> T:
    """Call *probe* until it returns something true, and return that."""
    deadline = time.monotonic() + within_s
    while not (found := probe()):
        assert time.monotonic() < deadline, f"no {what} within {within_s:g} s"
        time.sleep(POLL_S)
    return found


@dataclass
class Life:
    """A stack on the stand-in, its provider, and the example's stack."""

    aws: StandIn
    provider: LaunchDarklySimulator
    shop: Path
    """The example's template with its sources."""
    consumer: str = ""
    """The example's function."""

    def deploy(self, release: Path, parameters: Mapping[str, str]) -> Seen:
        """Deploy a release that is built, and look at what is there then."""
        begun = time.monotonic()
        sam_deploy(release, self.aws, parameters=parameters)
        deployed = connect(self.aws)
        print(f"\nsam deploy: {time.monotonic() - begun:.1f} s")
        sync = self._configuration(deployed.sync_function)
        webhook = self._configuration(deployed.webhook_function)
        layer = self.aws.client("lambda").get_layer_version_by_arn(Arn=deployed.layer_arn)
        table = self.aws.client("dynamodb").describe_table(TableName=deployed.table)["Table"]
        return Seen(
            deployed=deployed,
            code={
                "sync": sync["CodeSha256"],
                "webhook": webhook["CodeSha256"],
                "layer": layer["Content"]["CodeSha256"],
            },
            settings=sync["Environment"]["Variables"],
            schedule=self._schedule(deployed.sync_function),
            table_made_at=table["CreationDateTime"].timestamp(),
            records=self.records(deployed),
            responses=self.responses() if self.consumer else None,
        )

    def configure(self, deployed: Deployed) -> None:
        """Write the parameters of both sources; give the provider the webhook URL of one."""
        ssm = self.aws.client("ssm")
        base = {"provider": "launchdarkly"}
        source = {**base, "allow_http": True}
        credential = {**base, "key": self.provider.sdk_key, "base_url": self.provider.url}
        options = {"project": self.provider.project, "environment": self.provider.environment}
        webhook_config = {**base, "secrets": [SECRET], "options": options}
        for path, kind, content in (
            (f"sources/{SOURCE}", "String", source),
            (f"credentials/{SOURCE}", "SecureString", credential),
            (f"webhooks/{SOURCE}", "SecureString", webhook_config),
            (f"sources/{SILENT}", "String", source),
            (f"credentials/{SILENT}", "SecureString", credential),
        ):
            ssm.put_parameter(Name=f"{PREFIX}/{path}", Type=kind, Value=json.dumps(content))
        self.provider.webhook(f"{deployed.webhook_base_url}/{SOURCE}", SECRET)

    def change(self, flag: str, **fields: Any) -> int:
        """Change a flag at the provider; return the last status of its webhook."""
        self.provider.set_flag(flag, **fields)
        self.provider.settle()
        return self.provider.deliveries[-1].statuses[-1]

    def deploy_consumer(self, deployed: Deployed) -> None:
        """Build and deploy the example with its own template and the outputs of the stack."""
        build(self.shop)
        parameters = {"FlagTable": deployed.table, "FlagLayer": deployed.layer_arn}
        sam_deploy(self.shop, self.aws, parameters=parameters, stack_name=CONSUMER_STACK)
        stack = Stack.read(self.aws, CONSUMER_STACK)
        repair(stack)
        self.consumer = stack.output("CheckoutFunctionName")

    def responses(self) -> Responses:
        """Invoke the example's function for two customers."""
        return Responses(self._ask("pro"), self._ask("free"))

    def agent(self) -> str:
        """Return what the last fetch called itself."""
        return self.provider.requests[-1].headers["user-agent"]

    def records(self, deployed: Deployed) -> frozenset[tuple[str, str]]:
        """Return the keys of all records in the table."""
        pages = self.aws.client("dynamodb").get_paginator("scan")
        return frozenset(
            (item["namespace"]["S"], item["key"]["S"])
            for page in pages.paginate(TableName=deployed.table, ConsistentRead=True)
            for item in page["Items"]
        )

    def reader(self, deployed: Deployed) -> tuple[Any, Any]:
        """Return clients of DynamoDB for a user with FlagReaderPolicy: a right and a wrong one.

        The wrong one knows the user's key, and not the secret that belongs to it.
        """
        iam = self.aws.client("iam")
        iam.create_user(UserName="somebody")
        iam.attach_user_policy(UserName="somebody", PolicyArn=deployed.reader_policy_arn)
        made = iam.create_access_key(UserName="somebody")["AccessKey"]
        right, wrong = (
            boto3.client(
                "dynamodb",
                endpoint_url=self.aws.endpoint,
                verify=str(self.aws.ca_file),
                region_name=self.aws.region,
                aws_access_key_id=made["AccessKeyId"],
                aws_secret_access_key=secret,
            )
            for secret in (made["SecretAccessKey"], "guessed")
        )
        return right, wrong

    def log(self, deployed: Deployed) -> str:
        """Return the functions' logs."""
        functions = (deployed.webhook_function, deployed.sync_function)
        return "\n".join(function_log(self.aws, name) for name in functions)

    def _ask(self, plan: str) -> dict[str, Any]:
        response = self.aws.client("lambda").invoke(
            FunctionName=self.consumer, Payload=json.dumps({"user": "ada", "plan": plan})
        )
        # Before the first publication that is an error, which is no response that anybody waits
        # for.
        result: dict[str, Any] = json.loads(response["Payload"].read())
        return result

    def _configuration(self, function: str) -> dict[str, Any]:
        functions = self.aws.client("lambda")
        found: dict[str, Any] = functions.get_function_configuration(FunctionName=function)
        return found

    def _schedule(self, function: str) -> str:
        """Return the expression of the one schedule that invokes a function."""
        scheduler = self.aws.client("scheduler")
        listed = scheduler.list_schedules()["Schedules"]
        found = [scheduler.get_schedule(Name=each["Name"]) for each in listed]
        (schedule,) = (each for each in found if each["Target"]["Arn"].endswith(f":{function}"))
        return str(schedule["ScheduleExpression"])
