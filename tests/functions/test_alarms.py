"""Every alarm of the template, triggered by a real fault: it fires, and clears after the fix."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench import cost, results
from flagstore import emf
from flagstore.keys import SourceState
from flagstore.snapshot import Info
from local.stand_in import REPOSITORY
from simulators import faults
from simulators.alarms import Alarm, Point, Stack, points
from simulators.deployment import (
    CLIENT_SECRET,
    KEY,
    MAX_RECEIVES,
    Calls,
    Context,
    batch,
    request,
    signed,
)
from simulators.serving import FEATURES, ask, opened
from simulators.split import SplitSimulator
from simulators.split import rich_flags as split_flags
from simulators.template import read_template
from simulators.usage import delivery, line
from storesync import sync, telemetry, usage, webhook
from storesync.cli.inspect import problems
from storesync.config import WEBHOOKS_AGE_S
from tests.docs.pages import anchors

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.deployment import Deployment, Output, ShiftedClock
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.redis_server import Server

TEMPLATE = read_template()
ALARMS = [
    name
    for name, resource in TEMPLATE["Resources"].items()
    if resource["Type"] == "AWS::CloudWatch::Alarm"
]
NAMES = {
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "some-stack",
    "CollectUsage": "true",
    "DeadLetterQueue.QueueName": "dead",
    "Queue.QueueName": "requests",
    "ServeApi": "serve-api",
    "ServeFlags": "true",
    "ServeFunction": "serve",
    "SyncFunction": "sync",
    "UsageDeadLetters.QueueName": "usage-dead",
    "UsageFunction": "usage",
    "WebhookFunction": "webhook",
}
STACKS = {mode: Stack(TEMPLATE, NAMES | {"Monitoring": mode}) for mode in ("essential", "full")}
STACK = STACKS["full"]
in_both_modes = pytest.mark.parametrize("monitoring", STACKS)
SERVICES = {
    name: STACK.value(
        TEMPLATE["Resources"][f"{name.capitalize()}Function"]["Properties"]["Environment"]
    )["Variables"]["POWERTOOLS_SERVICE_NAME"]
    for name in ("sync", "usage", "webhook")
}
SCHEDULE_S = 60 * int(TEMPLATE["Parameters"]["ReconcileMinutes"]["Default"])
FORGED = "canary-of-a-stranger-0008"
ORDER = ["service", "source", "reason"]
AWS_METRICS = [
    ["AWS/SQS", "ApproximateAgeOfOldestMessage"],
    ["AWS/SQS", "ApproximateNumberOfMessagesVisible"],
    ["AWS/Lambda", "Errors"],
    ["AWS/Lambda", "Throttles"],
    ["AWS/Lambda", "Duration"],
    ["AWS/ApiGateway", "5xx"],
]


class World:
    """The two functions, run like on Lambda, and their metrics in CloudWatch."""

    def __init__(
        self,
        deployment: Deployment,
        clock: ShiftedClock,
        output: Output,
        monkeypatch: pytest.MonkeyPatch,
        monitoring: str,
    ) -> None:
        self.deployment, self.clock = deployment, clock
        self.alarms = [name for name in ALARMS if STACKS[monitoring].has(name)]
        self.recorded: list[Point] = []
        self._output, self._monkeypatch = output, monkeypatch
        self._read = 0

    def schedule(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.clock.advance(SCHEDULE_S)
            self.deployment.run_schedule(partial(self.invoke, "sync"))
            self.count_dead_letters()

    def invoke(self, function: str, event: Any) -> Any:
        """Run a function, and record the metrics it prints, its errors and its duration."""
        handler = {"sync": sync, "usage": usage, "webhook": webhook}[function].handler
        begun, response = self.clock.monotonic(), None
        with self._monkeypatch.context() as environment:
            environment.setenv("POWERTOOLS_SERVICE_NAME", SERVICES[function])
            try:
                response = handler(event, Context())
            except Exception:  # noqa: BLE001 - as Lambda does
                self.note("AWS/Lambda", "Errors", {"FunctionName": function}, 1)
        duration = 1000 * (self.clock.monotonic() - begun)
        self.note("AWS/Lambda", "Duration", {"FunctionName": function}, duration)
        written = self._output.emf
        for each in written[self._read :]:
            self.recorded += points(each, self.clock.now())
        self._read = len(written)
        return response

    def note(self, namespace: str, name: str, dimensions: dict[str, str], value: float) -> None:
        self.recorded.append(Point(namespace, name, dimensions, self.clock.now(), value))

    def count_dead_letters(self, queue: str = "dead") -> None:
        name = "ApproximateNumberOfMessages"
        response = self.deployment.sqs.get_queue_attributes(
            QueueUrl=self.deployment.dlq_url, AttributeNames=[name]
        )
        count = int(response["Attributes"][name])
        self.note("AWS/SQS", f"{name}Visible", {"QueueName": queue}, count)

    def active(self) -> set[str]:
        return {name for name in self.alarms if made(name).is_on(self.recorded, self.clock.now())}

    def written(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        """Return name and dimensions of each custom metric."""
        own = (point for point in self.recorded if point.namespace == "Flagstore")
        return {(point.name, frozenset(point.dimensions.items())) for point in own}


def made(alarm: str) -> Alarm:
    return Alarm(STACK.value(TEMPLATE["Resources"][alarm]["Properties"]))


@pytest.fixture
def monitoring() -> str:
    return "full"


@pytest.fixture
def world(
    monitoring: str,
    stack: Deployment,
    launchdarkly: LaunchDarklySimulator,
    clock: ShiftedClock,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """Give a healthy deployment with one source."""
    stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    stack.put_webhook("prod", "launchdarkly")
    monkeypatch.setenv("FLAGSTORE_MONITORING", monitoring)
    healthy = World(stack, clock, output, monkeypatch, monitoring)
    healthy.schedule(4)
    assert healthy.invoke("webhook", signed("prod", b"{}"))["statusCode"] == 202
    assert len(stack.requests()) == 1
    assert healthy.active() == set()
    return healthy


def assert_alarms(world: World, *alarms: str) -> None:
    """Assert that those that exist are on, and clear once all has been well for long enough."""
    assert world.active() == set(alarms) & set(world.alarms)
    world.schedule(max(made(alarm).span_s for alarm in alarms) // SCHEDULE_S + 1)
    assert world.active() == set()


@pytest.mark.parametrize(
    ("monitoring", "key"), [("full", KEY), ("essential", KEY), ("essential", "revoked")]
)
def test_provider_down(world: World, launchdarkly: LaunchDarklySimulator, key: str) -> None:
    """The alarm fires once the last good check is three schedules old, also for a refused key."""
    world.deployment.put_source("other", "launchdarkly", launchdarkly.url, KEY)
    url = "http://127.0.0.1:1" if key == KEY else launchdarkly.url
    world.deployment.put_source("prod", "launchdarkly", url, key)
    world.clock.advance(30)
    world.schedule(2)
    assert world.active() == set()
    world.schedule(1)
    assert world.active() == {"FreshnessAlarm"}
    world.schedule(3)
    world.deployment.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    world.clock.advance(30)
    assert_alarms(world, "FreshnessAlarm", "SyncFailureAlarm")


@in_both_modes
def test_rows_of_another_program(world: World, launchdarkly: LaunchDarklySimulator) -> None:
    """A prefix that is refused raises the alarm: the rows at the former one go stale."""
    world.deployment.clients["dynamodb"].put_item(
        TableName=world.deployment.table,
        Item={"namespace": {"S": "relay:features"}, "key": {"S": "theirs"}, "item": {"S": "{}"}},
    )
    prod = ("prod", "launchdarkly", launchdarkly.url, KEY)
    world.deployment.put_source(*prod, rows_prefix="relay")
    world.clock.advance(30)
    world.schedule(6)
    world.deployment.put_source(*prod, rows_prefix="relay", adopt=True)
    world.clock.advance(30)
    assert_alarms(world, "SyncFailureAlarm")


@in_both_modes
def test_schedule_stops(world: World) -> None:
    """Missing checks raise the alarm, even if webhooks still arrive."""
    world.clock.advance(2 * SCHEDULE_S)
    world.invoke("sync", {"source": "prod"})
    assert_alarms(world, "FreshnessAlarm")


@in_both_modes
def test_no_sources(world: World) -> None:
    world.deployment.remove("sources/prod")
    world.clock.advance(30)
    world.schedule(4)
    assert world.active() == set()


@pytest.mark.parametrize(
    ("monitoring", "fault", "alarm"),
    [
        ("essential", faults.empty_set(), "RefusedSetAlarm"),
        ("full", faults.empty_set(), "RefusedSetAlarm"),
        ("full", faults.status(401), "RefusedCredentialsAlarm"),
    ],
)
def test_refusal(
    world: World, launchdarkly: LaunchDarklySimulator, fault: faults.Fault, alarm: str
) -> None:
    """The guard's first refusal of a set, or the provider's of a key, raises its alarm."""
    launchdarkly.faults.append(fault)
    world.schedule()
    assert_alarms(world, alarm)


@in_both_modes
def test_pinned_source(world: World) -> None:
    """A pin raises the alarm from the first check that it holds back, and by its age."""
    until = int((world.clock.now() + 4.5 * SCHEDULE_S) * 1000)
    world.deployment.clients["dynamodb"].update_item(
        TableName=world.deployment.table,
        Key={"namespace": {"S": "prod:$state"}, "key": {"S": "state"}},
        UpdateExpression="SET pinned = :until",
        ExpressionAttributeValues={":until": {"N": str(until)}},
    )
    world.schedule(2)
    assert world.active() == {"PinnedAlarm"}
    world.schedule(2)
    assert_alarms(world, "PinnedAlarm", "FreshnessAlarm")


def test_undrained_queues(world: World, redis_server: Server) -> None:
    """Split refuses service for longer than a while; the entries wait."""
    with SplitSimulator(*split_flags(3), sdk_key=KEY) as split:
        url = redis_server.url()
        world.deployment.put_source("fme", "split", split.url, KEY, redis=url, drain=True)
        world.clock.advance(30)
        entry = json.dumps({"m": {"s": "sdk"}, "i": {"k": "a-key", "f": "a", "t": "on", "m": 1}})
        redis_server.admin.rpush("{fme}.SPLITIO.impressions", entry)
        split.report_status = 503
        world.schedule(6)
        split.report_status = 200
        assert_alarms(world, "DrainFailureAlarm")


@in_both_modes
def test_dead_letter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm stays on until the dead letter is removed."""
    monkeypatch.setattr(sync, "RETRY_S", 0)
    world.deployment.send("no JSON")
    for _ in range(MAX_RECEIVES):
        (record,) = world.deployment.receive()
        failed = world.invoke("sync", batch(record))["batchItemFailures"]
        assert [each["itemIdentifier"] for each in failed] == [record["messageId"]]
        assert world.active() == set()
    assert world.deployment.receive() == []
    world.schedule()
    world.deployment.sqs.purge_queue(QueueUrl=world.deployment.dlq_url)
    assert_alarms(world, "DeadLetterAlarm")


def test_usage_dead_letter(
    world: World, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usage that could not be reported in any attempt raises its own alarm."""
    monkeypatch.setattr(usage, "RETRY_S", 0)
    world.deployment.send({"lines": [json.loads(line({"flag": [[1, 0, 1]]}))]})
    world.deployment.put("sources/prod", "{no JSON")
    for _ in range(MAX_RECEIVES):
        (record,) = world.deployment.receive()
        assert world.invoke("usage", batch(record))["batchItemFailures"]
    assert world.deployment.receive() == []
    world.count_dead_letters("usage-dead")
    world.deployment.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    world.deployment.sqs.purge_queue(QueueUrl=world.deployment.dlq_url)
    assert_alarms(world, "UsageDeadLetterAlarm")


def test_refused_usage(world: World, launchdarkly: LaunchDarklySimulator) -> None:
    """A key that the provider refuses raises the alarm; unknown sources never do."""
    for source in ("stranger", "prod"):
        assert world.active() == set()
        world.deployment.put_source("prod", "launchdarkly", launchdarkly.url, "another-key")
        message = line({"flag": [[1, 0, 1]]}, s=source)
        assert world.invoke("usage", delivery(message)) is None
    assert world.deployment.waiting()["delayed"] == 1
    world.deployment.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    world.clock.advance(30)
    assert_alarms(world, "UsageRefusedAlarm")


def test_crashing_usage_function(world: World) -> None:
    world.invoke("usage", {"awslogs": {}})
    assert_alarms(world, "UsageErrorAlarm")


def test_forged_webhooks(world: World) -> None:
    """The third wrong signature in 15 minutes raises the alarm; unknown sources never do."""
    for _ in range(50):
        world.invoke("webhook", signed("stranger", b"{}", FORGED))
    for _ in range(2):
        assert world.invoke("webhook", signed("prod", b"{}", FORGED))["statusCode"] == 401
    assert world.active() == set()
    world.invoke("webhook", request("prod", b"{}"))
    assert_alarms(world, "SignatureAlarm")


def test_misconfigured_webhook(world: World) -> None:
    """The alarm fires when a webhook needs the parameter."""
    world.deployment.put("webhooks/prod", "{no JSON")
    world.clock.advance(WEBHOOKS_AGE_S)
    assert world.invoke("webhook", signed("prod", b"{}"))["statusCode"] == 404
    assert_alarms(world, "MisconfiguredAlarm")


def test_queue_down(world: World, calls: Calls) -> None:
    """A good webhook that could not be queued raises the alarm."""
    calls.down["sqs"] = "AccessDeniedException"
    assert world.invoke("webhook", signed("prod", b"{}"))["statusCode"] == 503
    calls.down.clear()
    assert_alarms(world, "EnqueueFailureAlarm")


def test_crashing_sync(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.delenv("FLAGSTORE_TABLE")
        sync.syncer.cache_clear()
        world.invoke("sync", {"source": "prod"})
    assert_alarms(world, "SyncErrorAlarm")


def test_crashing_receiver(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the receiver raises the alarm; requests of strangers do not."""
    with monkeypatch.context() as broken:
        broken.setattr(webhook, "_request", lambda *_: 1 / 0)
        world.invoke("webhook", signed("prod", b"{}"))
    assert_alarms(world, "WebhookErrorAlarm")


@pytest.mark.parametrize(
    ("function", "alarm"), [("sync", "SyncThrottleAlarm"), ("webhook", "WebhookThrottleAlarm")]
)
def test_throttled_function(world: World, function: str, alarm: str) -> None:
    world.note("AWS/Lambda", "Throttles", {"FunctionName": function}, 1)
    assert_alarms(world, alarm)


def test_slow_store(world: World, calls: Calls) -> None:
    """A run of more than 80 % of its time-out raises the alarm, before one is cut off."""
    calls.slow["dynamodb"] = lambda: world.clock.advance(25)
    assert world.invoke("sync", {"source": "prod"})["outcome"] == "unchanged"
    calls.slow.clear()
    assert_alarms(world, "SyncDurationAlarm")


def test_store_down(world: World, calls: Calls) -> None:
    """Without the store, the age is unknown: freshness fires after one period, failures after 3."""
    calls.down["dynamodb"] = "AccessDeniedException"
    world.schedule(2)
    assert world.active() == {"FreshnessAlarm"}
    world.schedule(4)
    calls.down.clear()
    assert_alarms(world, "FreshnessAlarm", "SyncFailureAlarm")


@in_both_modes
def test_unreadable_parameters(world: World, calls: Calls) -> None:
    """Processes with parameters continue; new ones raise the alarm, and recover."""
    calls.down["ssm"] = "AccessDeniedException"
    world.schedule(4)
    assert world.active() == set()
    sync.syncer.cache_clear()
    webhook.receiver.cache_clear()
    world.schedule(2)
    assert world.invoke("webhook", signed("prod", b"{}"))["statusCode"] == 503
    calls.down.clear()
    assert_alarms(world, "FreshnessAlarm", "SyncErrorAlarm", "EnqueueFailureAlarm")


def test_flags_cannot_be_served(
    world: World, aws: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that gets 503 raises the alarm; strangers never do. API Gateway counts each."""
    world.deployment.put_client()
    monkeypatch.setenv("AWS_REGION", aws.region)
    monkeypatch.setenv("FLAGSTORE_TABLE", "no-such-table")
    with opened(os.environ) as app:
        for secret in (CLIENT_SECRET[:-1], "", CLIENT_SECRET):
            assert world.active() == set()
            status, _ = ask(app, FEATURES, secret)
            world.note("AWS/ApiGateway", f"{status // 100}xx", {"ApiId": "serve-api"}, 1)
    assert status == 503
    assert_alarms(world, "ServeErrorAlarm")


def test_every_alarm_is_tested() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in ALARMS if f'"{name}"' not in tests] == []


def test_runbook_links() -> None:
    """The description of each alarm names a heading that exists."""
    for name in ALARMS:
        description = TEMPLATE["Resources"][name]["Properties"]["AlarmDescription"]
        (anchor,) = re.findall(r"docs/runbook\.md#([\w-]+)", description)
        assert anchor in anchors("docs/runbook.md"), name


def test_alarm_topic() -> None:
    """With AlarmTopicArn each alarm notifies it, on and off; without, none has an action."""
    topic = "arn:aws:sns:eu-west-1:123456789012:on-call"
    stack = Stack(TEMPLATE, {"AlarmTopicArn": topic, **NAMES})
    for name in ALARMS:
        properties = TEMPLATE["Resources"][name]["Properties"]
        for actions in ("AlarmActions", "OKActions"):
            assert STACK.value(properties)[actions] is None
            assert stack.value(properties)[actions] == [topic]


@pytest.mark.parametrize("minutes", TEMPLATE["Parameters"]["ReconcileMinutes"]["AllowedValues"])
def test_alarm_periods(minutes: int) -> None:
    """A period contains two schedules, the oldest check may be three, and CloudWatch accepts it.

    `status --check` reports a source as stale at the same age.
    """
    stack = Stack(TEMPLATE, {"ReconcileMinutes": str(minutes), **NAMES})
    for name in ALARMS:
        alarm = Alarm(stack.value(TEMPLATE["Resources"][name]["Properties"]))
        assert alarm.period_s % 60 == 0
        assert alarm.span_s <= (86_400 if alarm.period_s < 3600 else 7 * 86_400)
    freshness = stack.value(TEMPLATE["Resources"]["FreshnessAlarm"]["Properties"])
    assert (freshness["Period"], freshness["Threshold"]) == (120 * minutes, 180 * minutes)
    checked = SourceState(published=1, rows_version=1, checked_at=0)
    for late_ms in (0, 1):
        found = list(problems("prod", checked, 180_000 * minutes + late_ms, minutes))
        assert len(found) == late_ms, "`storesync status` does not follow the alarm"


def test_long_run_threshold() -> None:
    """The alarm fires at 80 % of any time-out."""
    timeouts = TEMPLATE["Parameters"]["SyncTimeout"]["AllowedValues"]
    assert TEMPLATE["Mappings"]["LongRunOfSyncTimeout"] == {
        str(timeout): {"Milliseconds": 800 * timeout} for timeout in timeouts
    }


SEARCH = re.compile(
    r"SEARCH\('\{Flagstore,([\w,]+)\} MetricName=\"(\w+)\"(?: service=\"(.*)\")?', "
)


def exercise(world: World, launchdarkly: LaunchDarklySimulator) -> None:
    """Publish a change, and make most things fail that have a metric."""
    launchdarkly.set_flag("one-more")
    world.clock.advance(10)
    world.invoke("webhook", signed("prod", b"{}"))
    world.invoke("sync", batch(*world.deployment.receive()))
    world.invoke("webhook", signed("prod", b"{}", FORGED))
    world.invoke("webhook", signed("stranger", b"{}"))
    world.invoke("webhook", {**signed("prod", b""), "isBase64Encoded": True, "body": "%"})
    launchdarkly.faults.append(faults.status(401))
    world.schedule()


@pytest.mark.parametrize("monitoring", ["essential"])
def test_essential_metrics(
    world: World, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """While all is well, one metric covers all sources; none is written that no alarm reads.

    The log has the others' values.
    """
    world.deployment.put_source("other", "launchdarkly", launchdarkly.url, KEY)
    world.clock.advance(30)
    world.schedule()
    service = ("service", SERVICES["sync"])
    healthy = {("SyncAgeSeconds", frozenset({service}))}
    assert world.written() == healthy
    exercise(world, launchdarkly)
    world.invoke("usage", delivery(line({"flag": [[1, 0, 1]]})))
    assert world.written() == healthy | {("SyncFailures", frozenset({service}))}
    logged = {name for each in output.logs for name in each}
    assert {"RequestToPublishSeconds", "SignatureFailures", "NotFound", "Fetches"} <= logged


def test_metrics_and_alarms_that_are_billed() -> None:
    """The cost page's formula knows how many there are."""
    read = set()
    for mode, stack in STACKS.items():
        without = Stack(TEMPLATE, {"Monitoring": mode})
        assert sum(map(without.has, ALARMS)) == cost.ALARMS[mode]
        assert stack.has("Dashboard") == (mode == "full")
    for name in filter(STACKS["essential"].has, ALARMS):
        properties = STACK.value(TEMPLATE["Resources"][name]["Properties"])
        if properties["Namespace"] == "Flagstore":
            dimensions = {each["Name"]: each["Value"] for each in properties["Dimensions"]}
            read.add((properties["MetricName"], dimensions.get("reason", "")))
    assert read == telemetry.ESSENTIAL


def test_cost_of_a_month() -> None:
    """The small deployment costs at most $2, $1.50 of it CloudWatch's; the large one $70."""
    counted = results.load(REPOSITORY / "docs/benchmarks/results.json")["P8"].figures
    small, _, large = (cost.ours(load, cost.Units(**counted[load.name])) for load in cost.LOADS)
    assert sum(small.values()) <= 2
    assert sum(each for name, each in small.items() if name.startswith("CloudWatch")) <= 1.5
    assert sum(large.values()) <= 70


def test_cost_of_a_gradual_deployment() -> None:
    """An hour costs at most $0.002, whatever the size."""
    counted = results.load(REPOSITORY / "docs/benchmarks/results.json")["P8"].figures
    for load in cost.LOADS:
        assert 0.0005 < cost.deployment(60, cost.Units(**counted[load.name])) < 0.002


def dashboard(stack: Stack) -> list[dict[str, Any]]:
    """Return the dashboard's widgets; values of its own names come before those of resources."""
    text, names = TEMPLATE["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for name, value in names.items():
        text = text.replace(f"${{{name}}}", stack.value(value))
    widgets: list[dict[str, Any]] = json.loads(stack.value({"Fn::Sub": text}))["widgets"]
    return widgets


def plotted(stack: Stack) -> list[list[Any]]:
    return [metric for each in dashboard(stack) for metric in each["properties"]["metrics"]]


def test_dashboard_metrics(world: World, launchdarkly: LaunchDarklySimulator) -> None:
    """Each metric in the dashboard is written by the functions, a reader or AWS."""
    asked: set[tuple[str, str, str]] = set()
    assert all(each["x"] + each["width"] <= 24 for each in dashboard(STACK))
    for metric in plotted(STACK):
        if isinstance(metric[0], dict):
            (found,) = SEARCH.findall(metric[0]["expression"])
            asked.add((found[0], found[1], found[2]))
        elif metric[0] == "Flagstore":
            asked.add((metric[2], metric[1], metric[3]))
        else:
            assert metric[:2] in AWS_METRICS
            assert metric[3] in {*NAMES.values()}
    exercise(world, launchdarkly)
    world.invoke("usage", delivery(line({"flag": [[1, 0, 1]]})))
    launchdarkly.faults.extend([faults.status(400)] * 2)
    world.invoke("usage", delivery(line({"flag": [[1, 0, 1]]})))
    nowhere = "redis://127.0.0.1:1/0"
    world.deployment.put_source(
        "fme", "split", "http://127.0.0.1:1", KEY, redis=nowhere, drain=True
    )
    world.clock.advance(30)
    world.schedule()
    info = Info("prod", "", 1, "", {}, 0, 1.0, 2.0, 3.5, stale=False, error="")
    world.recorded += points(json.loads(emf.line(info)), 0)
    written = {
        (",".join(sorted(p.dimensions, key=ORDER.index)), p.name, p.dimensions.get("service", ""))
        for p in world.recorded
        if p.namespace == "Flagstore"
    }
    assert asked <= written


@pytest.mark.parametrize(
    "off", [(), ("ServeFlags",), ("CollectUsage",), ("ServeFlags", "CollectUsage")]
)
def test_dashboard_shows_every_function(off: tuple[str, ...]) -> None:
    """It has errors and throttles of those that exist, and refers to nothing that does not."""
    given = NAMES | dict.fromkeys(off, "false")
    everything = Stack(TEMPLATE, given)
    absent = {name for name in TEMPLATE["Resources"] if not everything.has(name)}
    known = {name: each for name, each in given.items() if name.partition(".")[0] not in absent}
    shown = {(each[1], each[3]) for each in plotted(Stack(TEMPLATE, known)) if len(each) > 3}
    for name, resource in TEMPLATE["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function" and name not in absent:
            assert {("Errors", NAMES[name]), ("Throttles", NAMES[name])} <= shown
