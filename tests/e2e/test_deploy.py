"""The template deployed, updated and rolled back by the real `sam`, on the stand-in for AWS."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest
import trustme
from botocore.exceptions import ClientError

from bench.cost import ALARMS
from local.certificates import client_context
from local.deploy import Deployed, build, connect, function_log, sam_deploy
from local.repairs import Stack, repair
from local.stand_in import REPOSITORY, StandIn
from simulators.launchdarkly import LaunchDarklySimulator

from .deployments import checkout, needs_stand_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.build, pytest.mark.e2e, pytest.mark.campaign]

EXAMPLE = REPOSITORY / "examples" / "consumer"
SILENT = "silent"
"""A source that has no webhook: what it holds, the schedule fetched."""
SECRET = "only-for-this-test"
SCHEDULE_WITHIN_S = 120.0
"""The stand-in looks at its schedules every 10 s, and the first firing is a minute away."""
PRO = {"contextKind": "user", "attribute": "plan", "op": "in", "values": ["pro"], "negate": False}
PRO_ONLY = {
    "rules": [{"id": "pro", "variation": 0, "clauses": [PRO]}],
    "fallthrough": {"variation": 1},
}
COLOURS = ["blue", "green"]


class Release(NamedTuple):
    """What distinguishes one deployment from another."""

    code: dict[str, str]
    """Hash of the code of each function and of the layer."""
    level: str
    schedule: str
    alarms: int
    table: str
    table_made_at: float
    webhooks: str


class Life:
    """A stack on the stand-in, its provider, and the example's stack."""

    first: Release
    deployed: Deployed
    consumer: str

    def __init__(self, aws: StandIn, provider: LaunchDarklySimulator, shop: Path) -> None:
        self.aws, self.provider, self.shop = aws, provider, shop

    def deploy(self, home: Path, parameters: Mapping[str, str]) -> Release:
        """Deploy a release that is built, and look at what is there then."""
        sam_deploy(home, self.aws, parameters=parameters)
        self.deployed = deployed = connect(self.aws)
        functions = self.aws.client("lambda")
        sync, webhook = (
            functions.get_function_configuration(FunctionName=name)
            for name in (deployed.sync_function, deployed.webhook_function)
        )
        layer = functions.get_layer_version_by_arn(Arn=deployed.layer_arn)["Content"]
        table = self.aws.client("dynamodb").describe_table(TableName=deployed.table)["Table"]
        scheduler = self.aws.client("scheduler")
        listed = scheduler.list_schedules()["Schedules"]
        schedules = [scheduler.get_schedule(Name=each["Name"]) for each in listed]
        target = f":{deployed.sync_function}"
        (schedule,) = (each for each in schedules if each["Target"]["Arn"].endswith(target))
        return Release(
            {"sync": sync["CodeSha256"], "webhook": webhook["CodeSha256"]}
            | {"layer": layer["CodeSha256"]},
            sync["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"],
            schedule["ScheduleExpression"],
            len(self.aws.client("cloudwatch").describe_alarms()["MetricAlarms"]),
            deployed.table,
            table["CreationDateTime"].timestamp(),
            deployed.webhook_base_url,
        )

    def configure(self) -> None:
        """Write the parameters of both sources; give the provider the webhook URL of one."""
        ssm, provider = self.aws.client("ssm"), self.provider
        credential = {"key": provider.sdk_key, "base_url": provider.url}
        options = {"project": provider.project, "environment": provider.environment}
        for path, content in (
            ("sources/prod", {"allow_http": True}),
            ("credentials/prod", credential),
            ("webhooks/prod", {"secrets": [SECRET], "options": options}),
            (f"sources/{SILENT}", {"allow_http": True}),
            (f"credentials/{SILENT}", credential),
        ):
            kind = "String" if path.startswith("sources") else "SecureString"
            value = json.dumps({"provider": "launchdarkly", **content})
            ssm.put_parameter(Name=f"/flagstore/{path}", Type=kind, Value=value)
        provider.webhook(f"{self.deployed.webhook_base_url}/prod", SECRET)

    def change(self, flag: str, **fields: Any) -> int:
        """Change a flag at the provider; return the last status of its webhook."""
        self.provider.set_flag(flag, **fields)
        self.provider.settle()
        return self.provider.deliveries[-1].statuses[-1]

    def deploy_consumer(self) -> None:
        """Build and deploy the example with its own template and the outputs of the stack."""
        build(self.shop)
        parameters = {"FlagTable": self.deployed.table, "FlagLayer": self.deployed.layer_arn}
        sam_deploy(self.shop, self.aws, parameters=parameters, stack_name="shop")
        stack = Stack.read(self.aws, "shop")
        repair(stack)
        self.consumer = stack.output("CheckoutFunctionName")

    def shop_shows(self, colour: str) -> None:
        """Wait until the example's function has a button of that colour for a "pro" customer."""
        pro = {"checkout": "new", "button": colour, "payment_methods": ["card"]}
        try:
            wait_for(lambda: self._ask("pro") == pro, f"{pro}")
        except AssertionError as error:
            for name in (self.deployed.webhook_function, self.deployed.sync_function):
                error.add_note(function_log(self.aws, name)[-3000:])
            raise
        assert self._ask("free") == {"checkout": "classic"}

    def _ask(self, plan: str) -> Any:
        payload = json.dumps({"user": "ada", "plan": plan})
        functions = self.aws.client("lambda")
        return json.loads(
            functions.invoke(FunctionName=self.consumer, Payload=payload)["Payload"].read()
        )

    def sources(self) -> set[str]:
        """Return the sources that the table has records of."""
        pages = self.aws.client("dynamodb").get_paginator("scan")
        found = pages.paginate(TableName=self.deployed.table, ConsistentRead=True)
        items = (item for page in found for item in page["Items"])
        return {item["namespace"]["S"].partition(":")[0] for item in items}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Build today's release, one with other functions and another layer, and the example."""
    needs_stand_in()
    today, following = (checkout(tmp_path_factory.mktemp(name)) for name in ("today", "next"))
    for name, old, new in (
        ("storesync/http.py", '"User-Agent": "flagstore"', '"User-Agent": "flagstore-next"'),
        ("flagstore/__init__.py", '__version__ = "', '__version__ = "999.'),
    ):
        path = following / "src" / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")
    homes = (today, following, checkout(tmp_path_factory.mktemp("shop"), EXAMPLE))
    with ThreadPoolExecutor() as pool:
        list(pool.map(build, homes))
    return homes


@pytest.fixture(scope="module")
def life(releases: tuple[Path, Path, Path]) -> Iterator[Life]:
    """Deploy with nothing but defaults, to a stand-in that checks signatures and roles."""
    ca = trustme.CA()
    with StandIn(auth=True, ca=ca) as aws, LaunchDarklySimulator() as provider:
        provider.trust = client_context(ca)
        life = Life(aws, provider, releases[2])
        life.first = life.deploy(releases[0], {})
        life.configure()
        life.change("button-color", variations=COLOURS)
        life.change("new-checkout", **PRO_ONLY)
        yield life


def test_deployed_updated_and_rolled_back(life: Life, releases: tuple[Path, Path, Path]) -> None:
    """A flag goes from webhook, queue and table to the example's response, in each release."""
    first = life.first
    assert first[1:4] == ("INFO", "rate(5 minutes)", ALARMS["essential"])
    assert life.change("button-color", fallthrough={"variation": 0}) == 202
    life.deploy_consumer()
    life.shop_shows("blue")
    assert life.provider.requests[-1].headers["user-agent"] == "flagstore"
    assert SILENT not in life.sources()

    # The next release, with other parameters: no flag is lost, and the old layer reads on.
    changed = {"ReconcileMinutes": "1", "LogLevel": "DEBUG", "Monitoring": "full"}
    updated = life.deploy(releases[1], changed)
    assert all(updated.code[name] != first.code[name] for name in first.code)
    assert updated[1:4] == ("DEBUG", "rate(1 minute)", ALARMS["full"])
    assert updated[4:] == first[4:]  # table and webhook URL
    life.shop_shows("blue")
    assert life.change("button-color", fallthrough={"variation": 1}) == 202
    life.shop_shows("green")
    life.deploy_consumer()
    life.shop_shows("green")
    assert life.provider.requests[-1].headers["user-agent"] == "flagstore-next"
    wait_for(lambda: SILENT in life.sources(), "run of the schedule", within_s=SCHEDULE_WITHIN_S)

    # The build of before, naming no parameter: the same bytes, and parameters stay.
    rolled_back = life.deploy(releases[0], {})
    assert rolled_back.code == first.code
    assert rolled_back[1:] == updated[1:]
    life.shop_shows("green")
    assert life.change("button-color", fallthrough={"variation": 0}) == 202
    life.deploy_consumer()
    life.shop_shows("blue")
    assert {"prod", SILENT} <= life.sources()


def test_unsigned_webhook_is_rejected(life: Life) -> None:
    """With 401; other paths with 404."""
    base = life.deployed.webhook_base_url
    for path, status in (("prod", 401), ("nowhere", 404), ("prod/a/b", 404)):
        life.provider.send(f"{base}/{path}", {"x-ld-signature": "0" * 64}, b"{}", 1)
        life.provider.settle()
        assert life.provider.deliveries[-1].statuses == [status], path


def test_reader_policy_is_enforced(life: Life) -> None:
    """A user with FlagReaderPolicy can read, but not write, nor read with a guessed secret."""
    iam = life.aws.client("iam")
    iam.create_user(UserName="reader")
    iam.attach_user_policy(UserName="reader", PolicyArn=life.deployed.reader_policy_arn)
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    right, wrong = (
        boto3.client(
            "dynamodb",
            endpoint_url=life.aws.endpoint,
            verify=str(life.aws.ca_file),
            region_name=life.aws.region,
            aws_access_key_id=made["AccessKeyId"],
            aws_secret_access_key=secret,
        )
        for secret in (made["SecretAccessKey"], "guessed")
    )
    table = life.deployed.table
    key = {"namespace": {"S": "prod:$state"}, "key": {"S": "state"}}
    assert right.get_item(TableName=table, Key=key)["Item"]
    with pytest.raises(ClientError, match="AccessDeniedException"):
        right.put_item(TableName=table, Item=key)
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        wrong.get_item(TableName=table, Key=key)
