"""The whole chain: a real Unleash server, the deployed stack, and a reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest
import requests
import trustme

from flagstore.clients import Client
from flagstore.keys import row_namespace
from flagstore.stores import network
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport
from local.deploy import Deployed, deploy, function_log
from local.stand_in import DEFAULT_EXECUTABLE, REPOSITORY, StandIn
from storesync.cli.webhooks import UNLEASH_EVENTS, Registrar
from storesync.model import Secret, WebhookConfig

from . import unleash_server
from .unleash_admin import Admin, Json, rollout
from .unleash_server import UnleashServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from flagstore.snapshot import Snapshot

    type Seen = Callable[[Snapshot], bool]

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]

SOURCE = "unleash"
SILENT = "silent"
PREFIX = "/flagstore"
SECRET = "only-for-this-test"
AUTHORIZATION = f"Bearer {SECRET}"
PARAMETERS = {
    "ReconcileMinutes": "1",
    # What arrives is to be a webhook's doing, not a later check's that an earlier webhook left.
    "FollowUpSyncSeconds": "0",
}

LIMIT_S = 20.0
"""Within this, what a webhook requested a sync for must be readable, on a busy machine too."""
SCHEDULE_LIMIT_S = 90.0
"""The stand-in looks at its schedules every 10 s, and one firing may meet a restart."""
ALONE_S = 1.1
"""After a pause as long as this, a sync request waits for no earlier one's check."""
TTL_S = 0.05
UNSUNG = "unsung"
"""A flag that is on where no webhook requests a sync."""

BULK = [f"bulk-{number:02}" for number in range(30)]


class Content(NamedTuple):
    """Flags by name and segments by id, each the provider's own JSON."""

    flags: dict[str, Any]
    segments: dict[str, Any]


@dataclass(frozen=True)
class Chain:
    """Everything from the admin API to the reader."""

    aws: StandIn
    deployed: Deployed
    server: UnleashServer
    admin: Admin
    addon_id: int
    client: Client
    silent: Client
    """Reads the source that no webhook ever sync requests."""
    begun_after: int
    """The last event before the webhook was registered."""
    ready_at: float = field(default_factory=time.monotonic)
    latencies: list[float] = field(default_factory=list)

    @property
    def webhook(self) -> str:
        """Where the webhook goes."""
        return f"{self.deployed.webhook_base_url}/{SOURCE}"

    def follow(self, change: Callable[[], object], kind: str, arrived: Seen) -> None:
        """Make a change with one call; wait for its webhook, and until a reader shows it.

        Args:
            change: the call of the admin API.
            kind: the type of the event that must have been delivered.
            arrived: whether a flag set shows the change.
        """
        time.sleep(ALONE_S)
        newest = self.newest()
        begun = time.monotonic()
        change()
        wait_for(lambda: self.shows(arrived), f"readable change after {kind}")
        self.latencies.append(time.monotonic() - begun)
        delivery = wait_for(lambda: self.delivery(kind, newest), f"delivery of {kind}")
        assert delivery["state"] == "success"
        assert "202" in delivery["stateDetails"]
        self.agree()

    def shows(self, arrived: Seen) -> bool:
        """Return whether a reader shows it."""
        return arrived(self.client.snapshot())

    def agree(self) -> None:
        """Wait until reader and table hold what the server serves."""
        wait_for(
            lambda: self.served() == read(self.client) == self.rows(), "agreement on all flags"
        )

    def served(self, environment: str = "development") -> Content:
        """Return what the server serves to any SDK."""
        response = self.server.features(environment)
        return Content(
            {flag["name"]: flag for flag in response["features"]},
            {str(segment["id"]): segment for segment in response["segments"]},
        )

    def rows(self) -> Content:
        """Return what a person who opens the table finds."""
        return Content(self._rows("flags"), self._rows("segments"))

    def _rows(self, section: str) -> dict[str, Any]:
        namespace = row_namespace(SOURCE, "unleash", section)
        pages = self.aws.client("dynamodb").get_paginator("query")
        found = pages.paginate(
            TableName=self.deployed.table,
            KeyConditionExpression="namespace = :n",
            ExpressionAttributeValues={":n": {"S": namespace}},
            ConsistentRead=True,
        )
        return {
            row["key"]["S"]: json.loads(row["item"]["S"]) for page in found for row in page["Items"]
        }

    def deliveries(self) -> list[Json]:
        """Return the server's records of its deliveries, newest first."""
        return self.admin.delivery_log(self.addon_id)

    def newest(self) -> int:
        """Return the number of the newest event, delivered or not yet."""
        return max(each["id"] for each in self.admin.events())

    def delivery(self, kind: str, after: int) -> Json | None:
        """Return the delivery of an event of that type, later than the event of number *after*."""
        return next(
            (
                each
                for each in self.deliveries()
                if each["event"]["type"] == kind and each["event"]["id"] > after
            ),
            None,
        )

    def delivered(self) -> bool:
        """Return whether the server has delivered its newest events."""
        done = {each["event"]["id"] for each in self.deliveries()}
        sync_requests = [
            each["id"] for each in self.admin.events() if each["type"] in UNLEASH_EVENTS
        ]
        return {number for number in sync_requests[:10] if number > self.begun_after} <= done

    def delivery_about(self, flag: str) -> Json | None:
        """Return the newest delivery of an event of that flag."""
        return next((d for d in self.deliveries() if d["event"]["featureName"] == flag), None)

    def invoke(self, event: Json) -> Any:
        """Invoke SyncFunction through the Lambda API and return its response."""
        response = self.aws.client("lambda").invoke(
            FunctionName=self.deployed.sync_function, Payload=json.dumps(event)
        )
        text = response["Payload"].read()
        assert "FunctionError" not in response, text
        return json.loads(text)

    def queued(self, url: str = "") -> int:
        """Return the number of messages that are on the queue, in flight and delayed included."""
        names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
        response = self.aws.client("sqs").get_queue_attributes(
            QueueUrl=url or self.deployed.queue_url, AttributeNames=names
        )
        return sum(int(response["Attributes"][name]) for name in names)

    @contextmanager
    def webhook_at(self, url: str, authorization: str = AUTHORIZATION) -> Iterator[None]:
        """Send the server's webhook elsewhere once all earlier requests are served."""
        wait_for(self.delivered, "delivery of every event so far")
        self._point(url, authorization)
        wait_for(lambda: not self.queued(), "empty queue")
        try:
            yield
        finally:
            self._point(self.webhook, AUTHORIZATION)

    def _point(self, url: str, authorization: str) -> None:
        self.admin.change_webhook(self.addon_id, url, authorization=authorization)
        self.server.restart()  # else it goes on as before for up to a minute

    @contextmanager
    def nobody_takes(self) -> Iterator[None]:
        """Keep what is put on the queue there for a while."""
        functions = self.aws.client("lambda")
        (mapping,) = functions.list_event_source_mappings(FunctionName=self.deployed.sync_function)[
            "EventSourceMappings"
        ]
        wait_for(lambda: not self.queued(), "empty queue")
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        try:
            yield
        finally:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    def log(self, function: str) -> list[Json]:
        """Return what a function logged."""
        lines = function_log(self.aws, function).splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"level"')]

    def refusals(self) -> list[int]:
        """Return the statuses with which webhooks were refused so far."""
        lines = self.log(self.deployed.webhook_function)
        return [line["status"] for line in lines if line["message"] == "refused a webhook"]

    def fetches(self) -> int:
        """Count how often the server was asked so far."""
        return sum(line.get("fetches", 0) for line in self.log(self.deployed.sync_function))


class Gate:
    """A context manager: passes requests on to an address, a few at a time, and keeps statuses.

    The stand-in starts a process for every request that comes while all others are busy. For the
    60 that Unleash sends at once that is more than a small machine can do within the 10 s that
    Unleash waits; AWS has a machine for each.
    """

    def __init__(self, target: str, ca_file: Path, names: list[str], at_once: int = 3) -> None:
        self.statuses: list[int] = []
        """Of webhooks about these flags: earlier tests' may still be on their way."""
        self._names = names
        self._target = target
        self._ca_file = ca_file
        self._turns = threading.Semaphore(at_once)
        self._server = _GateServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {
                    name: self.headers[name]
                    for name in ("Authorization", "Content-Type")
                    if name in self.headers
                }
                with gate._turns:
                    status = post(gate._target, body, headers, gate._ca_file)
                if json.loads(body).get("featureName") in gate._names:
                    gate.statuses.append(status)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


class _GateServer(ThreadingHTTPServer):
    request_queue_size = 128


@pytest.fixture(scope="module")
def chain(record_testsuite_property: Callable[[str, object], None]) -> Iterator[Chain]:
    """Run one server and one deployed stack for this module; their flags stay."""
    _skip_if_missing()
    with ExitStack() as running:
        # Signatures are checked, and every call of a function against its role's policies.
        aws = running.enter_context(StandIn(auth=True, ca=trustme.CA()))
        patch = running.enter_context(pytest.MonkeyPatch.context())
        # The readers run in this process, in which other tests may have read another store.
        patch.setenv("SSL_CERT_FILE", str(aws.ca_bundle))
        patch.setattr(network, "_contexts", {})
        server = running.enter_context(UnleashServer(ca_file=aws.ca_file))
        deployed = deploy(REPOSITORY, aws, parameters=PARAMETERS)
        clients = []
        for source, environment in ((SOURCE, "development"), (SILENT, "production")):
            key = server.backend_token(environment)
            configure(aws, source, environment, key=key, base_url=server.url)
            transport = LeanTransport(aws.region, aws.endpoint, aws.environment)
            running.callback(transport.close)
            store = DynamoDBReader(deployed.table, transport)
            clients.append(Client(source, store=store, ttl_s=TTL_S))
        webhook = {"provider": "unleash", "method": "authorization", "secrets": [SECRET]}
        options = {"environment": "development"}
        put(aws, f"webhooks/{SOURCE}", webhook | {"options": options}, secret=True)
        url = f"{deployed.webhook_base_url}/{SOURCE}"
        addon_id = server.register_webhook(url, authorization=AUTHORIZATION)
        begun_after = max(each["id"] for each in server.admin.events())
        chain = Chain(aws, deployed, server, server.admin, addon_id, *clients, begun_after)
        for source in (SOURCE, SILENT):
            assert chain.invoke({"source": source})["outcome"] == "published"
        chain.admin.create_flag(UNSUNG)
        chain.admin.enable(UNSUNG, "production")
        wait_for(lambda: UNSUNG in chain.client, "first flag")
        yield chain
        if chain.latencies:
            middle, worst = median(chain.latencies), max(chain.latencies)
            print(f"{len(chain.latencies)} changes: median {middle:.2f} s, worst {worst:.2f} s")
            record_testsuite_property("unleash_change_to_readable_median_seconds", middle)
            record_testsuite_property("unleash_change_to_readable_worst_seconds", worst)


def test_new_flag_with_a_segment(chain: Chain) -> None:
    """A flag, its strategy and the segment that it names are readable after their webhooks."""
    segment = chain.admin.create_segment("pro-plan", [plan("pro")])
    chain.follow(
        lambda: chain.admin.create_flag("with-segment"),
        "feature-created",
        lambda flags: "with-segment" in flags,
    )
    strategy = rollout(50, segments=[segment], constraints=[plan("team")])
    chain.follow(
        lambda: chain.admin.add_strategy("with-segment", strategy),
        "feature-strategy-add",
        lambda flags: flags["with-segment"]["strategies"] != [],
    )

    snapshot = chain.client.snapshot()
    assert [segment] == snapshot["with-segment"]["strategies"][0]["segments"]
    assert snapshot.item("segments", str(segment))["constraints"][0]["values"] == ["pro"]


def test_switched_flag(chain: Chain) -> None:
    """A flag that is switched on, and off again, is readable so after its webhook."""
    chain.admin.create_flag("flipped")
    chain.admin.enable("flipped")
    wait_for(lambda: chain.shows(lambda flags: is_on(flags, "flipped")), "flag that is on")
    chain.agree()
    chain.follow(
        lambda: chain.admin.disable("flipped"),
        "feature-environment-disabled",
        lambda flags: not is_on(flags, "flipped"),
    )
    chain.follow(
        lambda: chain.admin.enable("flipped"),
        "feature-environment-enabled",
        lambda flags: is_on(flags, "flipped"),
    )


def test_strategies_arrive(chain: Chain) -> None:
    """A strategy that is added, changed or removed is readable so after its webhook."""
    chain.admin.create_flag("strategies")
    first = chain.admin.add_strategy("strategies", rollout(10))

    def percents(flags: Snapshot) -> list[str]:
        found = flags["strategies"]["strategies"] if "strategies" in flags else []
        return [each["parameters"]["rollout"] for each in found]

    wait_for(lambda: chain.shows(lambda flags: percents(flags) == ["10"]), "first strategy")
    chain.agree()
    chain.follow(
        lambda: chain.admin.add_strategy("strategies", rollout(20, constraints=[plan("pro")])),
        "feature-strategy-add",
        lambda flags: sorted(percents(flags)) == ["10", "20"],
    )
    chain.follow(
        lambda: chain.admin.update_strategy("strategies", first, rollout(30)),
        "feature-strategy-update",
        lambda flags: sorted(percents(flags)) == ["20", "30"],
    )
    chain.follow(
        lambda: chain.admin.remove_strategy("strategies", first),
        "feature-strategy-remove",
        lambda flags: percents(flags) == ["20"],
    )


def test_edited_segment(chain: Chain) -> None:
    """A segment that is edited is readable so, though no flag has changed."""
    segment = chain.admin.create_segment("edited", [plan("pro")])
    chain.admin.create_flag("names-the-edited")
    chain.admin.add_strategy("names-the-edited", rollout(segments=[segment]))
    wait_for(lambda: str(segment) in read(chain.client).segments, "segment")
    chain.agree()

    def values(flags: Snapshot) -> list[str]:
        return list(flags.item("segments", str(segment))["constraints"][0]["values"])

    chain.follow(
        lambda: chain.admin.update_segment(segment, "edited", [plan("pro", "team")]),
        "segment-updated",
        lambda flags: values(flags) == ["pro", "team"],
    )


def test_dependency(chain: Chain) -> None:
    """A dependency between two flags is readable after its webhook, and its removal too."""
    chain.admin.create_flag("parent")
    chain.admin.create_flag("child")
    wait_for(lambda: chain.shows(lambda flags: "child" in flags), "flags")
    chain.agree()
    chain.follow(
        lambda: chain.admin.add_dependency("child", "parent"),
        "feature-dependency-added",
        lambda flags: [d["feature"] for d in flags["child"].get("dependencies", [])] == ["parent"],
    )
    chain.follow(
        lambda: chain.admin.remove_dependency("child", "parent"),
        "feature-dependency-removed",
        lambda flags: not flags["child"].get("dependencies"),
    )


def test_archived_and_deleted_flags(chain: Chain) -> None:
    """An archived flag is gone, comes back when it is revived, and stays gone once deleted."""
    chain.admin.create_flag("short-lived")
    wait_for(lambda: chain.shows(lambda flags: "short-lived" in flags), "flag")
    chain.agree()
    for _ in range(2):
        chain.follow(
            lambda: chain.admin.archive("short-lived"),
            "feature-archived",
            lambda flags: "short-lived" not in flags,
        )
        chain.follow(
            lambda: chain.admin.revive("short-lived"),
            "feature-revived",
            lambda flags: "short-lived" in flags,
        )
    chain.admin.archive("short-lived")
    chain.admin.delete("short-lived")
    wait_for(lambda: chain.shows(lambda flags: "short-lived" not in flags), "disappearance")
    delivery = wait_for(lambda: chain.delivery("feature-deleted", 0), "delivery of the deletion")
    assert delivery["state"] == "success"
    chain.agree()
    assert "short-lived" not in chain.rows().flags


def test_other_environments_request_no_sync(chain: Chain) -> None:
    """A change in another environment is acknowledged, and requests no sync."""
    newest = chain.newest()
    chain.admin.create_flag("elsewhere")
    chain.admin.enable("elsewhere", "production")
    kind = "feature-environment-enabled"
    delivery = wait_for(lambda: chain.delivery(kind, newest), f"delivery of {kind}")
    assert delivery["event"]["environment"] == "production"
    assert delivery["state"] == "success"
    wait_for(lambda: chain.shows(lambda flags: "elsewhere" in flags), "flag")
    assert not is_on(chain.client.snapshot(), "elsewhere")
    requested = {line.get("delivery") for line in chain.log(chain.deployed.webhook_function)}
    assert str(delivery["event"]["id"]) not in requested
    chain.agree()


def test_many_webhooks_at_once(chain: Chain) -> None:
    """A bulk switch of 30 flags, and back, leaves what the server serves in far fewer fetches."""
    with Gate(chain.webhook, chain.aws.ca_file, BULK) as gate, chain.webhook_at(gate.url):
        for name in BULK:
            chain.admin.create_flag(name)
        wait_for(lambda: chain.shows(lambda flags: set(BULK) <= set(flags)), "new flags")
        chain.agree()
        fetched = chain.fetches()
        for switch, required in ((chain.admin.enable_all, True), (chain.admin.disable_all, False)):
            begun = time.monotonic()
            switch(BULK)
            called = time.monotonic()
            wait_for(
                lambda required=required: chain.shows(all_are(BULK, on=required)), "bulk switch"
            )
            print(
                f"30 flags on={required}: {called - begun:.2f} s for the call, "
                f"{time.monotonic() - begun:.2f} s from its beginning to readable"
            )
        # 30 for new flags, 60 since the first switch adds a strategy too, 30.
        wait_for(lambda: len(gate.statuses) >= 4 * len(BULK), "webhook for every event")
        wait_for(lambda: not chain.queued(), "empty queue")
        chain.agree()
        fetched = chain.fetches() - fetched
        print(f"{len(gate.statuses)} webhooks; {fetched} fetches for the last {3 * len(BULK)}")
        assert set(gate.statuses) == {202}
        assert fetched < len(BULK)


def test_fresh_process_reads_with_the_layer(chain: Chain) -> None:
    """A process that has only the built layer and the environment reads what the server serves."""
    chain.agree()
    program = """
import flagstore, json, sys
flags = flagstore.client()
for _ in range(10):  # a busy machine may need longer than a first load may take
    try:
        flags.snapshot()
        break
    except flagstore.StoreUnavailableError:
        pass
json.dump({key: flags[key] for key in flags}, sys.stdout)
"""
    environment = chain.aws.child_environment(os.environ) | {
        "FLAGSTORE_TABLE": chain.deployed.table,
        "FLAGSTORE_SOURCE": SOURCE,
        "PYTHONPATH": str(REPOSITORY / ".aws-sam" / "build" / "FlagstoreLayer" / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert chain.served().flags == json.loads(done.stdout)


def test_webhook_without_the_secret_is_refused(chain: Chain) -> None:
    """A missing or wrong authorization header is responded with 401, and nothing is queued."""
    event = b'{"id":1,"type":"feature-created","featureName":"forged","environment":null}'
    with chain.nobody_takes():
        for given in (None, "", "Bearer", "Bearer wrong", SECRET + "x", SECRET[:-1]):
            headers = {} if given is None else {"Authorization": given}
            assert post(chain.webhook, event, headers, chain.aws.ca_file) == 401, given
        assert chain.queued() == 0
        # The same with the secret is queued: it was the secret, and the count does count.
        signed = {"Authorization": AUTHORIZATION}
        assert post(chain.webhook, event, signed, chain.aws.ca_file) == 202
        assert post(f"{chain.webhook}-other", event, signed, chain.aws.ca_file) == 404
        assert chain.queued() == 1
    wait_for(lambda: not chain.queued(), "empty queue")


@pytest.mark.parametrize("name", ["admin", "elsewhere"])
def test_flags_of_another_environment_are_refused(chain: Chain, name: str) -> None:
    """An admin token, or another environment's, fails with the remedy and publishes nothing."""
    token, message = {
        "admin": (chain.server.admin_token, "use a backend (client) token of the environment"),
        "elsewhere": (
            chain.server.backend_token("production"),
            "'production' instead of 'development'",
        ),
    }[name]
    with configured(chain.aws, name, key=token, base_url=chain.server.url):
        response = chain.invoke({"source": name})
    assert response["outcome"] == "failed"
    assert message in response["error"]
    assert token not in response["error"]
    key = {"namespace": {"S": f"{name}:$snapshot"}, "key": {"S": "1"}}
    found = chain.aws.client("dynamodb").get_item(TableName=chain.deployed.table, Key=key)
    assert "Item" not in found


def test_deployed_schedule(chain: Chain) -> None:
    """A source whose webhooks never come follows its provider by the deployed schedule alone."""
    wait_for(lambda: is_on(chain.silent.snapshot(), UNSUNG), "healing", within_s=SCHEDULE_LIMIT_S)
    waited = time.monotonic() - chain.ready_at
    print(f"the deployed schedule had brought it when looked for after {waited:.1f} s")
    wait_for(
        lambda: chain.served("production").flags == read(chain.silent).flags,
        "agreement on all flags of the other environment",
        within_s=SCHEDULE_LIMIT_S,
    )


def test_schedule_makes_up_for_a_rejected_webhook(chain: Chain) -> None:
    """The next scheduled check brings what a webhook with an outdated secret did not."""
    with chain.webhook_at(chain.webhook, authorization="Bearer outdated"):
        refused, begun = len(chain.refusals()), time.time()
        chain.admin.create_flag("rejected")
        failed = wait_for(lambda: chain.delivery_about("rejected"), "delivery")
        assert failed["state"] == "failed"
        wait_for(lambda: chain.refusals()[refused:] == [401], "refusal in the log")
        wait_for(lambda: "rejected" in chain.served().flags, "flag on the server")
        outcomes = {each["source"]: each["outcome"] for each in chain.invoke({"schedule": True})}
        assert outcomes[SOURCE] == "queued"
        chain.agree()
        assert "rejected" in chain.client
        assert chain.client.info().published_at >= begun - 1


def test_cli_registers_the_webhook(chain: Chain) -> None:
    """`source add --register` makes one webhook with every event, finds it, and changes that."""
    base = "http://127.0.0.1:9/webhooks"
    registrar = Registrar(chain.server.url, chain.server.admin_token)
    webhook = WebhookConfig("registered", "unleash", "authorization", (Secret(AUTHORIZATION),))
    assert registrar.find(base, webhook) is None
    before = len(chain.admin.webhooks())
    assert registrar.register(base, webhook) == "created"
    header = replace(
        webhook, method="header", header="x-secret", options={"environment": "production"}
    )
    assert registrar.register(base, header) == "updated"
    there = registrar.find(base, webhook)
    assert there is not None
    assert there["enabled"]
    assert set(there["events"]) == set(UNLEASH_EVENTS)
    assert there["environments"] == ["production"]
    assert len(chain.admin.webhooks()) == before + 1
    chain.admin.delete_webhook(there["id"])


def test_server_knows_every_registered_event() -> None:
    """No event name is misspelt: the server would take it and never send it."""
    names = unleash_server.UNLEASH_FOLDER / "lib" / "events" / "index.js"
    if not names.exists():
        pytest.skip("the npm package unleash-server is not installed; run `make setup-e2e`")
    known = names.read_text()
    assert [event for event in UNLEASH_EVENTS if f"'{event}'" not in known] == []


def test_no_errors_or_dead_letters(chain: Chain) -> None:
    """After all of this no sync request was given up, and neither function logged an error."""
    wait_for(lambda: not chain.queued(), "empty queue")
    assert chain.queued(chain.deployed.dlq_url) == 0
    for function in (chain.deployed.sync_function, chain.deployed.webhook_function):
        ours = [line for line in chain.log(function) if line.get("source") in {None, SOURCE}]
        errors = [line for line in ours if line["level"] in {"ERROR", "CRITICAL"}]
        # A check of the schedule may have met a restart of the server.
        assert [each for each in errors if each.get("reason") != "ProviderUnavailable"] == []


def read(client: Client) -> Content:
    """Return what a reader is given."""
    snapshot = client.snapshot()
    segments = snapshot._body.keys("segments")
    return Content(
        {key: snapshot[key] for key in snapshot},
        {key: snapshot.item("segments", key) for key in segments},
    )


def wait_for[T](probe: Callable[[], T | None], what: str, *, within_s: float = LIMIT_S) -> T:
    """Call *probe* until it returns something true, and return that."""
    deadline = time.monotonic() + within_s
    while not (found := probe()):
        assert time.monotonic() < deadline, f"no {what} within {within_s:g} s"
        time.sleep(TTL_S)
    return found


def plan(*values: str) -> Json:
    """Build a constraint."""
    return {"contextName": "plan", "operator": "IN", "values": list(values)}


def is_on(flags: Snapshot, name: str) -> bool:
    """Return whether the flag exists and is on."""
    return name in flags and flags[name]["enabled"]


def all_are(names: Sequence[str], *, on: bool) -> Seen:
    """Return whether a flag set has all these flags on, or all off."""
    return lambda flags: all(is_on(flags, name) == on for name in names)


def post(url: str, body: bytes, headers: dict[str, str], ca_file: Path) -> int:
    """Send a webhook and return the status of the response."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy of the developer's between us and 127.0.0.1
        session.verify = str(ca_file)
        return session.post(url, data=body, headers=headers, timeout=LIMIT_S).status_code


def put(aws: StandIn, name: str, value: Json, *, secret: bool) -> None:
    """Write one parameter."""
    aws.client("ssm").put_parameter(
        Name=f"{PREFIX}/{name}",
        Value=json.dumps(value),
        Type="SecureString" if secret else "String",
    )


def configure(aws: StandIn, source: str, environment: str, *, key: str, base_url: str) -> None:
    """Write the parameters of a source; the secret first, so that it is never without."""
    options = {"environment": environment}
    public = {"provider": "unleash", "options": options, "allow_http": True}
    private = {"provider": "unleash", "key": key, "base_url": base_url}
    put(aws, f"credentials/{source}", private, secret=True)
    put(aws, f"sources/{source}", public, secret=False)


@contextmanager
def configured(aws: StandIn, source: str, *, key: str, base_url: str) -> Iterator[None]:
    """Have one more source for a while."""
    configure(aws, source, "development", key=key, base_url=base_url)
    try:
        yield
    finally:
        names = [f"{PREFIX}/{kind}/{source}" for kind in ("sources", "credentials")]
        aws.client("ssm").delete_parameters(Names=names)


def _skip_if_missing() -> None:
    lacking = unleash_server.missing()
    for program in (DEFAULT_EXECUTABLE, REPOSITORY / ".venv-sam" / "bin" / "sam"):
        if not program.exists():
            lacking = lacking or f"{program.name} is not installed"
    if lacking:
        pytest.skip(f"{lacking}; run `make setup-e2e` and `make setup`")
