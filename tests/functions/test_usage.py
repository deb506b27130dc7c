"""UsageFunction counts each evaluation once, however often and in whatever order it arrives."""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from simulators import faults
from simulators.deployment import CLIENT_SECRET, KEY, Calls, Context, batch
from simulators.serving import ask, opened
from simulators.usage import HOUR, delivery, event_line, line
from storesync import sync, usage, usage_records
from storesync.errors import BadRequestError
from storesync.http import HttpLimits
from storesync.retry import Deadline
from storesync.stores.dynamodb import DynamoDBStore
from storesync.usage_records import WRITTEN_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.appconfig import AppConfigSimulator
    from simulators.deployment import Deployment, Output, ShiftedClock
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.split import SplitSimulator
    from simulators.unleash import UnleashSimulator


@pytest.fixture(autouse=True)
def no_lines_in_the_log(output: Output, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail if the function printed what it read, since it would then read it again."""
    monkeypatch.setattr(usage, "RETRY_S", 0)
    monkeypatch.setattr(usage, "REFUSED_S", 0)
    yield
    assert "flagstore.usage" not in output.text
    assert "checkout" not in output.text


class World:
    """A provider with a published source, and its view of the usage."""

    def __init__(self, stack: Deployment, name: str, provider: Any) -> None:
        self.stack, self.name, self.provider = stack, name, provider
        provider.set_flag("flag")
        stack.put_source("prod", name, provider.url, KEY)
        outcome = sync.handler({"source": "prod"}, Context())
        assert outcome["outcome"] == "published"
        provider.requests.clear()

    def line(self, *, on: int, off: int, **more: Any) -> str:
        """Return a line with evaluations of the flag."""
        pair = {
            "launchdarkly": [[on, 0, 1], [off, 1, 1]],
            "unleash": [[on, 1], [off, 0]],
            "split": [[on, "on", 1], [off, "off", 1]],
        }[self.name]
        return line({"flag": pair}, self.name, **more)

    def total(self) -> int:
        """Return how many evaluations the provider has counted."""
        return int(self.provider.counted.total())

    def drain(self, rounds: int = 20) -> None:
        """Deliver what is on the queue as the poller does, each message twice."""
        for _ in range(rounds):
            if not (records := self.stack.receive()):
                return
            response = usage.handler(batch(*records), Context())
            failed = {each["itemIdentifier"] for each in response["batchItemFailures"]}
            done = [record for record in records if record["messageId"] not in failed]
            usage.handler(batch(*done), Context())
            self.stack.acknowledge(done)

    def waiting(self) -> int:
        return self.stack.waiting()["due"]


PROVIDERS = ("launchdarkly", "unleash", "split")


@pytest.fixture(params=PROVIDERS)
def world(request: pytest.FixtureRequest, stack: Deployment) -> World:
    return World(stack, request.param, request.getfixturevalue(request.param))


@pytest.fixture
def adding(stack: Deployment, unleash: UnleashSimulator) -> World:
    """Give a provider that adds up whatever it receives."""
    return World(stack, "unleash", unleash)


def deliver(*messages: str, **more: Any) -> None:
    assert usage.handler(delivery(*messages, **more), Context()) is None


def test_counts(world: World, output: Output, clock: ShiftedClock) -> None:
    """Evaluations arrive as each provider counts them, with metrics about them."""
    provider = world.provider
    deliver(world.line(on=3, off=2), "another log line", world.line(on=4, off=1))
    if world.name == "launchdarkly":
        assert provider.counted == {("flag", 0): 7, ("flag", 1): 3}
        counter = provider.events[0]["features"]["flag"]["counters"][0]
        assert counter["value"] == provider.flags()["flag"]["variations"][0]
    elif world.name == "split":
        assert provider.counted == {("flag", 1000 * HOUR): 10}
    else:
        hour = "2026-11-28T14:00:00Z"
        assert provider.counted == {
            ("checkout", hour, "flag", "yes"): 7, ("checkout", hour, "flag", "no"): 3
        }  # fmt: skip
        assert [each["appName"] for each in provider.applications] == ["checkout"]
    found = output.sums(source="prod")
    assert found["UsageEvaluations"] == 10
    assert found["UsageAgeSeconds"] == pytest.approx(clock.now() - HOUR - 100, abs=60)
    assert not {"UsageLost", "UsageDuplicates", "UsageDelayed", "UsageRefused"} & set(found)


def test_repeated_shuffled_and_cut_deliveries(world: World) -> None:
    """Every line comes at least twice, in other company, while the provider fails at times."""
    chance = random.Random(5)
    lines = [world.line(on=number + 1, off=1) for number in range(30)]
    expected = sum(range(1, 31)) + 30
    twice = lines * 2
    chance.shuffle(twice)
    statuses = [503, 429, 500, 502]
    while twice:
        cut = chance.randint(1, 8)
        if chance.random() < 0.4:
            world.provider.faults.extend([faults.status(chance.choice(statuses))] * 2)
        deliver(*twice[:cut])
        world.provider.faults.clear()
        twice = twice[cut:]
        if chance.random() < 0.3:
            usage.collector.cache_clear()
        if chance.random() < 0.3:
            world.drain(1)
    world.drain()
    assert world.waiting() == 0
    assert world.total() == expected


def test_provider_down(adding: World, output: Output) -> None:
    """Lines wait on the queue, and arrive once it is back."""
    adding.provider.faults.extend([faults.status(503)] * 60)
    deliver(*(adding.line(on=1, off=1) for _ in range(40)))
    assert adding.waiting() == 3
    assert output.sums(source="prod")["UsageDelayed"] == 80
    assert len(adding.provider.requests) == 2, "nothing is sent after a failure"
    records = adding.stack.receive()
    response = usage.handler(batch(*records), Context())
    assert len(response["batchItemFailures"]) == len(records)
    adding.provider.faults.clear()
    adding.drain()
    assert adding.total() == 80


def test_message_in_parts(adding: World, launchdarkly: LaunchDarklySimulator) -> None:
    """What a provider has received is not left on the queue, for however long the rest stays."""
    adding.stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    lines = [json.loads(line({"flag": [[1, 0, 1]]})) for _ in range(10)]
    adding.stack.send({"lines": lines})
    launchdarkly.faults.extend([faults.status(202)] * 4 + [faults.status(503)] * 2)
    (record,) = adding.stack.receive()
    assert usage.handler(batch(record), Context()) == {"batchItemFailures": []}
    (left,) = adding.stack.receive()
    assert json.loads(left["body"])["lines"] == [{**each, "k": ["user"]} for each in lines[4:]]


def test_queue_down(adding: World, calls: Calls) -> None:
    """What reaches neither the provider nor the queue is counted in Lambda's own retry."""
    adding.provider.faults.extend([faults.status(503)] * 2)
    calls.down["sqs"] = "ServiceUnavailable"
    event = delivery(adding.line(on=5, off=5))
    with pytest.raises(ClientError):
        usage.handler(event, Context())
    calls.down.clear()
    usage.handler(event, Context())
    usage.handler(event, Context())
    assert adding.total() == 10


def test_given_up_delivery(adding: World) -> None:
    """Lambda puts what failed three times on the queue, with its event."""
    event = delivery(adding.line(on=5, off=5))
    adding.stack.send(
        {"requestContext": {"condition": "RetriesExhausted"}, "requestPayload": event}
    )
    adding.drain()
    assert adding.total() == 10


@pytest.mark.parametrize("broken", ["dynamodb", "ssm"])
def test_aws_down(adding: World, calls: Calls, broken: str) -> None:
    """Without parameters, flags or records nothing is sent, and nothing is lost."""
    calls.down[broken] = "AccessDeniedException"
    deliver(adding.line(on=5, off=5))
    assert (adding.total(), adding.waiting()) == (0, 1)
    calls.down.clear()
    usage.collector.cache_clear()
    adding.drain()
    assert adding.total() == 10


def test_refused_key(adding: World, output: Output) -> None:
    """It raises an alarm, and its lines wait for a new key."""
    adding.stack.put_source("prod", adding.name, adding.provider.url, "another-key-of-the-provider")
    deliver(adding.line(on=5, off=5))
    assert output.sums()["UsageRefused"] == 1
    adding.stack.put_source("prod", adding.name, adding.provider.url, KEY)
    usage.collector.cache_clear()
    adding.drain()
    assert adding.total() == 10


def test_lost_lines_are_counted(adding: World, output: Output) -> None:
    """Lines that a provider rejects for good are not sent again."""
    adding.provider.faults.extend([faults.status(400)] * 2)
    deliver(adding.line(on=5, off=5))
    assert (adding.total(), adding.waiting()) == (0, 0)
    assert output.sums(source="prod")["UsageLost"] == 10


def test_silence_is_a_doubt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A post without a response is repeated only where a repetition does no harm."""
    monkeypatch.setattr(usage, "LIMITS", HttpLimits(connect_s=1, total_s=0.3))
    usage.collector.cache_clear()
    world.provider.faults.append(faults.silence())
    deliver(world.line(on=5, off=5))
    assert world.total() == (10 if world.name == "launchdarkly" else 0)
    assert world.waiting() == 0


def test_forged_lines(adding: World, output: Output) -> None:
    """Lines of unknown sources or wrong providers are sent to nobody and create no metric."""
    deliver(
        adding.line(on=1, off=1, s="stranger"),
        line({"flag": [[5, 1, 1]]}, "launchdarkly"),
        '{"flagstore.usage":1,"id":"cut',
    )
    assert adding.provider.requests == []
    assert "stranger" not in output.text
    found = output.sums()
    assert (found["UsageUnknown"], found["UsageMalformed"]) == (1, 1)


def test_own_log_group(adding: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscription to its own log does not become a loop."""
    monkeypatch.setenv("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/checkout")
    deliver(adding.line(on=1, off=1))
    deliver(adding.line(on=1, off=1), messageType="CONTROL_MESSAGE", logGroup="other")
    assert adding.provider.requests == []


@pytest.mark.parametrize("event", [{}, {"Records": 5}, {"awslogs": {}}, {"awslogs": {"data": "x"}}])
def test_other_events_are_refused(stack: Deployment, event: Any) -> None:
    del stack
    with pytest.raises(BadRequestError):
        usage.handler(event, Context())


def test_other_messages_become_dead_letters(adding: World) -> None:
    adding.stack.send("no JSON", {}, [], {"lines": 5}, {"requestPayload": {}}, {"lines": [5, {}]})
    records = adding.stack.receive()
    response = usage.handler(batch(*records), Context())
    assert len(response["batchItemFailures"]) == 5, "a list without a good line is done with"


def test_applications_are_listed_once_a_day(
    stack: Deployment, unleash: UnleashSimulator, clock: ShiftedClock
) -> None:
    """This holds for any number of processes, and a failure loses no counts."""
    world = World(stack, "unleash", unleash)
    for app in ("checkout", "cart", "checkout"):
        deliver(world.line(on=1, off=1, n=app))
        usage.collector.cache_clear()
    assert [each["appName"] for each in unleash.applications] == ["checkout", "cart"]
    clock.advance(86_400)
    unleash.faults.extend([faults.status(202), faults.status(400)])
    deliver(world.line(on=1, off=1))
    deliver(world.line(on=1, off=1))
    assert len(unleash.applications) == 2
    deliver(*(world.line(on=1, off=1, n=f"forged-{number}") for number in range(50)))
    assert len(unleash.applications) == 2 + usage.MAX_APPS


@pytest.mark.parametrize("collects", ["true", "false"])
def test_metrics_of_clients(
    adding: World, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch, collects: str
) -> None:
    """What an SDK reports to ServeFunction arrives with its application's name, if wanted."""
    adding.stack.put_client()
    monkeypatch.setenv("FLAGSTORE_SERVE_USAGE", collects)
    monkeypatch.setenv("AWS_REGION", os.environ["AWS_DEFAULT_REGION"])
    toggles = {"flag": {"yes": 3, "no": 1, "variants": {"blue": 2}}}
    report = {"appName": "shop", "bucket": {"start": "x", "stop": "y", "toggles": toggles}}
    written: list[tuple[int, bytes]] = []
    with opened(os.environ) as app, monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *of: written.append(of))
        assert ask(app, "POST /api/client/metrics", CLIENT_SECRET, report)[0] == 202
    if collects == "false":
        assert written == []
        return
    ((descriptor, printed),) = written
    assert descriptor == 1
    deliver(printed.decode(), at=time.time())
    assert {(key[0], key[2], key[3]): count for key, count in unleash.counted.items()} == {
        ("shop", "flag", "yes"): 3,
        ("shop", "flag", "no"): 1,
        ("shop", "flag", "blue"): 2,
    }


# -- last use


def uses(stack: Deployment, source: str = "prod") -> dict[str, dict[str, Any]]:
    del stack
    return {flag: dict(use.variants) for flag, use in started()._records.uses(source)}


def started() -> usage.Collector:
    return usage.Collector(usage.UsageSettings.from_env(os.environ))


def test_last_use(
    stack: Deployment, appconfig: AppConfigSimulator, calls: Calls, output: Output
) -> None:
    """It is recorded per flag and variant, to the hour, even for providers without usage."""
    stack.put_source("prod", "appconfig", appconfig.url, "", options=appconfig.options)
    assert sync.handler({"source": "prod"}, Context())["outcome"] == "published"
    deliver(line({"new-checkout": [[3, 1, "blue"], [2, 0]], "none": [[1, 0]]}, "appconfig"))
    assert uses(stack) == {"new-checkout": {"blue": HOUR + 160, "off": HOUR + 160}}
    assert output.sums(source="prod")["UsageEvaluations"] == 6
    writes = len(calls.of("PutItem"))
    deliver(line({"new-checkout": [[1, 0]]}, "appconfig", b=HOUR + WRITTEN_S))
    assert len(calls.of("PutItem")) == writes, "little later"
    late = HOUR + 160 + WRITTEN_S
    deliver(line({"new-checkout": [[1, 0]]}, "appconfig", b=late), at=late)
    assert uses(stack) == {"new-checkout": {"blue": HOUR + 160, "off": late}}
    deliver(line({"new-checkout": [[1, 0]]}, "appconfig", b=HOUR))
    assert uses(stack)["new-checkout"]["off"] == late


def test_last_use_in_a_freeform_profile(stack: Deployment, appconfig: AppConfigSimulator) -> None:
    """Its flags may be any JSON, such as false."""
    appconfig.freeform, appconfig._values["off"] = True, False
    appconfig.set_flag("on")
    stack.put_source("prod", "appconfig", appconfig.url, "", options=appconfig.options)
    assert sync.handler({"source": "prod"}, Context())["outcome"] == "published"
    deliver(line({"off": [[1, 1]], "on": [[1, 1]]}, "appconfig"))
    assert uses(stack).keys() == {"off", "on"}


@pytest.mark.parametrize("percentage", [0.0, 100.0])
def test_last_use_in_a_gradual_deployment(
    stack: Deployment, appconfig: AppConfigSimulator, percentage: float
) -> None:
    """It is recorded for the flags of both versions, whichever UsageFunction would have."""
    stack.put_source("prod", "appconfig", appconfig.url, "", options=appconfig.options)
    sync.handler({"source": "prod"}, Context())
    new = appconfig.current()
    new = {name: {**new[name], "added": new[name]["new-checkout"]} for name in ("flags", "values")}
    for items in new.values():
        del items["new-checkout"]
    number = appconfig.deploy(appconfig.put({"version": "1", **new}))
    appconfig.step(number, percentage)
    assert sync.handler({"source": "prod"}, Context())["outcome"] == "published"
    deliver(line({"new-checkout": [[1, 1]], "added": [[1, 0]], "none": [[1, 0]]}, "appconfig"))
    assert uses(stack).keys() == {"new-checkout", "added"}


def test_last_use_after_a_purge(adding: World, clock: ShiftedClock) -> None:
    """A process that knew an earlier use records the next one; no line is counted twice."""
    first, late = adding.line(on=1, off=0), HOUR + 160 + WRITTEN_S
    deliver(first)
    deadline = Deadline(clock, random.Random(1), 60)
    table = DynamoDBStore(adding.stack.clients["dynamodb"], adding.stack.table, deadline)
    usage_records.delete_records("prod", table)
    deliver(first, adding.line(on=1, off=0, b=late), at=late)
    assert uses(adding.stack) == {"flag": {"on": late}}
    assert adding.total() == 2


def test_last_use_of_two_processes(adding: World) -> None:
    """Neither loses what the other recorded, even if both had read the records before."""
    first, second = started(), started()
    for collector in (first, second):
        collector._records.record_use("prod", {})
    for collector, enabled in ((first, 1), (second, 0)):
        event = delivery(line({"flag": [[5, enabled]]}, "unleash"))
        collector.delivery(event["awslogs"], 60)
    assert len(uses(adding.stack)["flag"]) == 2


def test_source_in_redis(
    stack: Deployment, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flags cannot be read, but counts and last use are recorded, for a bounded number."""
    monkeypatch.setattr(usage_records, "MAX_FLAGS", 1)
    nowhere = "redis://127.0.0.1:1/0"
    stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY, redis=nowhere)
    deliver(line({"flag": [[5, 0, 1]], "none": [[1, None, None]]}))
    assert launchdarkly.counted == {("flag", 0): 5, ("none", -1): 1}
    assert launchdarkly.events[0]["features"]["flag"]["counters"][0]["value"] is None
    assert uses(stack) == {"flag": {"0": HOUR + 160}}
    deliver(line({"made-up": [[5, 0, 1]]}))
    assert uses(stack).keys() == {"flag"}


@pytest.mark.parametrize("collects", ["events", "true"])
def test_exposures_and_events(
    stack: Deployment, split: SplitSimulator, monkeypatch: pytest.MonkeyPatch, collects: str
) -> None:
    """If collected, each line is posted once, alongside the counts, in whatever order they come."""
    monkeypatch.setenv("FLAGSTORE_COLLECT_USAGE", collects)
    world = World(stack, "split", split)
    at = 1000 * (HOUR + 100)
    impression = [0, at, "flag", "on", "default rule", 1, None]
    event = [0, at, "bought", "user", 2.5, None]
    lines = [
        event_line("flagstore.exposure", impression),
        event_line("flagstore.event", event),
        world.line(on=3, off=0),
    ]
    split.faults.extend([faults.status(503)] * 2)
    deliver(*lines)
    deliver(*reversed(lines))
    world.drain()
    posts = {
        path: [json.loads(each.body) for each in split.requests if each.path.endswith(path)]
        for path in ("/testImpressions/bulk", "/events/bulk", "/testImpressions/count")
    }
    assert world.total() == 3
    if collects == "true":  # made up, then: whoever can write to the log can opt in
        assert not posts["/testImpressions/bulk"]
        assert not posts["/events/bulk"]
        return
    (impressions,), (events,), _ = posts.values()
    keys = {"k": "ada", "t": "on", "m": at, "c": 1, "r": "default rule", "b": None, "pt": None}
    assert impressions == [{"f": "flag", "i": [keys]}]
    assert [(each["key"], each["eventTypeId"], each["value"]) for each in events] == [
        ("ada", "bought", 2.5)
    ]
