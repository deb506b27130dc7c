"""The whole chain: a real Unleash server, the deployed stack, and a reader."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests
import trustme

from flagstore.clients import Client
from flagstore.stores import network
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport
from local.deploy import Deployed, deploy, function_log
from local.stand_in import REPOSITORY, StandIn
from sdks.processes import PYTHON, needs_python, output
from storesync.cli.webhooks import UNLEASH_EVENTS, Registrar
from storesync.model import Secret, WebhookConfig
from tests.build.tooling import run
from tests.docs.pages import blocks

from .deployments import needs_stand_in, wait_for
from .served_flags import rollout
from .unleash_server import UNLEASH_FOLDER, Json, UnleashServer, needs_unleash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flagstore.snapshot import Snapshot

    type Seen = Callable[[Snapshot], object]

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]

SOURCE = "unleash"
SECRET = "only-for-this-test"
AUTHORIZATION = f"Bearer {SECRET}"
# What arrives is to be a webhook's doing, not a later check's that an earlier webhook left.
PARAMETERS = {"FollowUpSyncSeconds": "0", "ServeFlags": "true"}
ALONE_S = 1.1
"""After a pause as long as this, a sync request waits for no earlier one's check."""
TTL_S = 0.05


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
    addon_id: int
    client: Client

    def follow(self, change: Callable[[], Any], kind: str, arrived: Seen) -> Any:
        """Make a change with one call; wait for its webhook, and until a reader shows it.

        Args:
            change: the call of the admin API; its result is returned.
            kind: the type of the event that must have been delivered.
            arrived: whether a flag set shows the change.
        """
        time.sleep(ALONE_S)
        newest = self.server.newest_event()
        result = change()
        wait_for(lambda: self.shows(arrived), f"readable change after {kind}")
        delivery = wait_for(lambda: self.delivery(kind, newest), f"delivery of {kind}")
        assert delivery["state"] == "success"
        assert "202" in delivery["stateDetails"]
        self.agree()
        return result

    def shows(self, arrived: Seen) -> bool:
        """Return whether a reader shows it."""
        return bool(arrived(self.client.snapshot()))

    def agree(self) -> None:
        """Wait until a reader has what the server serves."""
        wait_for(lambda: self.served() == self.read(), "agreement on all flags")

    def served(self) -> Content:
        """Return what the server serves to any SDK."""
        response = self.server.features()
        return Content(
            {flag["name"]: flag for flag in response["features"]},
            {str(segment["id"]): segment for segment in response["segments"]},
        )

    def read(self) -> Content:
        """Return what a reader is given."""
        snapshot = self.client.snapshot()
        segments = snapshot._body.keys("segments")
        return Content(
            {key: snapshot[key] for key in snapshot},
            {key: snapshot.item("segments", key) for key in segments},
        )

    def delivery(self, kind: str, after: int) -> Json | None:
        """Return the delivery of an event of that type, later than the event of number *after*."""
        deliveries = self.server.delivery_log(self.addon_id)
        events = ((each, each["event"]) for each in deliveries)
        return next((each for each, e in events if e["type"] == kind and e["id"] > after), None)

    def invoke(self, event: Json) -> Any:
        """Invoke SyncFunction through the Lambda API and return its response."""
        response = self.aws.client("lambda").invoke(
            FunctionName=self.deployed.sync_function, Payload=json.dumps(event)
        )
        text = response["Payload"].read()
        assert "FunctionError" not in response, text
        return json.loads(text)

    def queued(self, url: str) -> int:
        """Return the number of messages that are on a queue, in flight and delayed included."""
        names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
        response = self.aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(response["Attributes"][name]) for name in names)

    def log(self, function: str) -> list[Json]:
        """Return what a function logged."""
        lines = function_log(self.aws, function).splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"level"')]


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    """Run one server and one deployed stack for this module; their flags stay."""
    needs_unleash()
    needs_stand_in()
    with ExitStack() as running:
        # Signatures are checked, and every call of a function against its role's policies.
        aws = running.enter_context(StandIn(auth=True, ca=trustme.CA()))
        patch = running.enter_context(pytest.MonkeyPatch.context())
        # The reader runs in this process, in which other tests may have read another store.
        patch.setenv("SSL_CERT_FILE", str(aws.ca_bundle))
        patch.setattr(network, "_contexts", {})
        server = running.enter_context(UnleashServer(ca_file=aws.ca_file))
        deployed = deploy(REPOSITORY, aws, parameters=PARAMETERS)
        configure(aws, SOURCE, key=server.backend_token("development"), base_url=server.url)
        transport = LeanTransport(aws.region, aws.endpoint, aws.environment)
        running.callback(transport.close)
        client = Client(SOURCE, store=DynamoDBReader(deployed.table, transport), ttl_s=TTL_S)
        url = f"{deployed.webhook_base_url}/{SOURCE}"
        addon_id = server.register_webhook(url, authorization=AUTHORIZATION)
        chain = Chain(aws, deployed, server, addon_id, client)
        server.create_flag("first")
        assert chain.invoke({"source": SOURCE})["outcome"] == "published"
        yield chain


def test_flags_and_strategies_arrive(chain: Chain) -> None:
    """What is created, switched, changed or removed is readable so after its webhook."""
    server, follow = chain.server, chain.follow
    path = "flag/environments/development/strategies"
    segment = server.put_segment("pro-plan", [plan("pro")])
    follow(lambda: server.create_flag("flag"), "feature-created", lambda flags: "flag" in flags)
    added = follow(
        lambda: server.change_flag("POST", path, rollout(50, segments=[segment])),
        "feature-strategy-add",
        lambda flags: percents(flags) == ["50"],
    )
    snapshot = chain.client.snapshot()
    assert snapshot["flag"]["strategies"][0]["segments"] == [segment]
    assert snapshot.item("segments", str(segment))["constraints"][0]["values"] == ["pro"]
    follow(
        lambda: server.put_segment("pro-plan", [plan("pro", "team")], segment),
        "segment-updated",
        lambda flags: "team" in flags.item("segments", str(segment))["constraints"][0]["values"],
    )
    follow(
        lambda: server.switch("flag", "on"),
        "feature-environment-enabled",
        lambda flags: flags["flag"]["enabled"],
    )
    follow(
        lambda: server.switch("flag", "off"),
        "feature-environment-disabled",
        lambda flags: not flags["flag"]["enabled"],
    )
    one = f"{path}/{added['id']}"
    follow(
        lambda: server.change_flag("PUT", one, rollout(30)),
        "feature-strategy-update",
        lambda flags: percents(flags) == ["30"],
    )
    follow(
        lambda: server.change_flag("DELETE", one),
        "feature-strategy-remove",
        lambda flags: percents(flags) == [],
    )


def test_archived_and_deleted_flags(chain: Chain) -> None:
    """An archived flag is gone, comes back when it is revived, and stays gone once deleted."""
    server, name = chain.server, "short-lived"
    server.create_flag(name)
    wait_for(lambda: chain.shows(lambda flags: name in flags), "flag")
    chain.agree()

    def archive() -> None:
        server.change_flag("DELETE", name)

    chain.follow(archive, "feature-archived", lambda flags: name not in flags)
    chain.follow(
        lambda: server.archive("revive", name), "feature-revived", lambda flags: name in flags
    )
    chain.follow(archive, "feature-archived", lambda flags: name not in flags)
    chain.follow(
        lambda: server.archive("delete", name), "feature-deleted", lambda flags: name not in flags
    )


def test_other_environments_request_no_sync(chain: Chain) -> None:
    """A change in another environment is acknowledged, and requests no sync."""
    newest = chain.server.newest_event()
    chain.server.create_flag("elsewhere")
    chain.server.switch("elsewhere", "on", "production")
    kind = "feature-environment-enabled"
    delivery = wait_for(lambda: chain.delivery(kind, newest), f"delivery of {kind}")
    assert delivery["event"]["environment"] == "production"
    assert delivery["state"] == "success"
    wait_for(lambda: chain.shows(lambda flags: "elsewhere" in flags), "flag")
    assert not chain.client.snapshot()["elsewhere"]["enabled"]
    requested = {line.get("delivery") for line in chain.log(chain.deployed.webhook_function)}
    assert str(delivery["event"]["id"]) not in requested
    chain.agree()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("admin", "use a backend (client) token of the environment"),
        ("production", "'production' instead of 'development'"),
    ],
)
def test_flags_of_another_environment_are_refused(chain: Chain, name: str, message: str) -> None:
    """An admin token, or another environment's, fails with the remedy and publishes nothing."""
    server = chain.server
    token = server.admin_token if name == "admin" else server.backend_token(name)
    configure(chain.aws, name, key=token, base_url=server.url)
    response = chain.invoke({"source": name})
    names = [f"/flagstore/{kind}/{name}" for kind in ("sources", "credentials", "webhooks")]
    chain.aws.client("ssm").delete_parameters(Names=names)
    assert response["outcome"] == "failed"
    assert message in response["error"]
    assert token not in response["error"]
    key = {"namespace": {"S": f"{name}:$snapshot"}, "key": {"S": "1"}}
    found = chain.aws.client("dynamodb").get_item(TableName=chain.deployed.table, Key=key)
    assert "Item" not in found


def test_cli_registers_the_webhook(chain: Chain) -> None:
    """`source add --register` makes one webhook with every event, finds it, and changes that."""
    base = "http://127.0.0.1:9/webhooks"
    registrar = Registrar(chain.server.url, chain.server.admin_token)
    webhook = WebhookConfig("registered", "unleash", "authorization", (Secret(AUTHORIZATION),))
    assert registrar.find(base, webhook) is None
    before = len(chain.server.webhooks())
    assert registrar.register(base, webhook) == "created"
    header = replace(
        webhook,
        method="header",
        header="x-secret",
        sources={"registered": {"environment": "production"}},
    )
    assert registrar.register(base, header) == "updated"
    there = registrar.find(base, webhook)
    assert there is not None
    assert there["enabled"]
    assert set(there["events"]) == set(UNLEASH_EVENTS)
    assert there["environments"] == ["production"]
    assert len(chain.server.webhooks()) == before + 1


def test_server_knows_every_registered_event() -> None:
    """No event name is misspelt: the server would take it and never send it."""
    names = UNLEASH_FOLDER / "lib" / "events" / "index.js"
    if not names.exists():
        pytest.skip("the npm package unleash-server is not installed; run `make setup-e2e`")
    known = names.read_text()
    assert [event for event in UNLEASH_EVENTS if f"'{event}'" not in known] == []


SDK = """
import json, logging, sys, time
from UnleashClient import UnleashClient
logging.basicConfig(stream=sys.stdout)  # refused metrics are warnings
url, token, folder = sys.argv[1:]
client = UnleashClient(
    url, "shop", custom_headers={"Authorization": token}, cache_directory=folder, metrics_interval=1
)
client.initialize_client()
names = sorted(client.feature_definitions())
contexts = [{"userId": str(number), "properties": {"plan": "pro"}} for number in range(50)]
print(json.dumps([[name, client.is_enabled(name, each)] for name in names for each in contexts]))
time.sleep(2)  # metrics are sent
client.destroy()
"""


def test_steps_of_the_edge_page(chain: Chain, tmp_path: Path) -> None:
    """The commands of docs/unleash-edge.md, with the server in Edge's place; then URLs change."""
    needs_python()
    server, aws = chain.server, chain.aws
    segment = server.put_segment("half", [plan("pro")])
    for name in ("new-checkout", "banner-top", "not-listed"):
        server.create_flag(name)
        path = f"{name}/environments/production/strategies"
        server.change_flag("POST", path, rollout(50, segments=[segment]))
        server.switch(name, "on", "production")
    backend, frontend = server.backend_token("production"), server.frontend_token("production")
    secrets = {"token": backend, "backend": backend, "frontend": frontend}
    for name, secret in {**secrets, "admin": server.admin_token}.items():
        (tmp_path / f"{name}.txt").write_text(secret)
    assert take_steps(chain, tmp_path).endswith("\nno difference\n")
    urls = (f"{server.url}/api", chain.deployed.serve_base_url)
    trust = {"REQUESTS_CA_BUNDLE": str(aws.ca_bundle)}
    before, after = (
        output([PYTHON, "-I", "-c", SDK, url, backend, str(tmp_path)], trust) for url in urls
    )
    assert before == after
    assert all(f'["new-checkout", {value}]' in after for value in ("true", "false"))
    for number in range(50):
        query = f"/frontend?userId={number}&properties[plan]=pro"
        theirs, ours = (ask(aws, url + query, frontend)["toggles"] for url in urls)
        listed = [toggle for toggle in theirs if toggle["name"] in {"new-checkout", "banner-top"}]
        assert sorted(ours, key=str) == sorted(listed, key=str)
    theirs, ours = (report(aws, url, backend, frontend) for url in urls)
    assert theirs == ours == [202, 202, 200, 200]


def take_steps(chain: Chain, folder: Path) -> str:
    """Run the page's commands, and return what they print."""
    deployed, url = chain.deployed, chain.server.url
    environment = {
        **chain.aws.child_environment({"PATH": os.environ["PATH"]}),
        "CURL_CA_BUNDLE": str(chain.aws.ca_bundle),
        "FLAGSTORE_TABLE": deployed.table,
        "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
        "FLAGSTORE_WEBHOOK_BASE_URL": deployed.webhook_base_url,
        "FLAGSTORE_SERVE_BASE_URL": deployed.serve_base_url,
        "SERVE_BASE_URL": deployed.serve_base_url,
        "EDGE_URL": url,
    }
    steps = [
        each.text for each in blocks("docs/unleash-edge.md") if each.mark and each.mark["test"]
    ]
    command = f'storesync() {{ "{REPOSITORY}/tools/storesync" "$@"; }}'
    script = "\n".join([command, *steps]).replace(
        "https://unleash.example.com", f"{url} --allow-http"
    )
    return run("/bin/bash", "-euc", script, cwd=folder, environment=environment).stdout


def report(aws: StandIn, url: str, backend: str, frontend: str) -> list[int]:
    """Send what SDKs of servers and front ends report, and return the statuses."""
    begun, ended = "2026-11-29T00:00:00Z", "2026-11-29T00:01:00Z"
    who = {"appName": "shop", "instanceId": "1", "started": begun, "interval": 60_000}
    toggles = {"new-checkout": {"yes": 1, "no": 0, "variants": {}}}
    return [
        requests.post(
            f"{url}/{path}/{kind}",
            json={**who, "strategies": []} if kind == "register" else {**who, "bucket": bucket},
            headers={"Authorization": token},
            verify=str(aws.ca_bundle),
            timeout=10,
        ).status_code
        for path, token in (("client", backend), ("frontend/client", frontend))
        for kind, bucket in (
            ("register", None),
            ("metrics", {"start": begun, "stop": ended, "toggles": toggles}),
        )
    ]


def ask(aws: StandIn, url: str, token: str) -> Json:
    """Fetch what a page of shop.example fetches."""
    headers = {"Authorization": token, "Origin": "https://shop.example"}
    response = requests.get(url, headers=headers, verify=str(aws.ca_bundle), timeout=10)
    response.raise_for_status()
    return dict(response.json())


def test_no_errors_or_dead_letters(chain: Chain) -> None:
    """After all of this no sync request was given up, and neither function logged an error."""
    wait_for(lambda: not chain.queued(chain.deployed.queue_url), "empty queue")
    assert chain.queued(chain.deployed.dlq_url) == 0
    for function in (chain.deployed.sync_function, chain.deployed.webhook_function):
        ours = [line for line in chain.log(function) if line.get("source") in {None, SOURCE}]
        assert [line for line in ours if line["level"] in {"ERROR", "CRITICAL"}] == []


def plan(*values: str) -> Json:
    """Build a constraint."""
    return {"contextName": "plan", "operator": "IN", "values": list(values)}


def percents(flags: Snapshot) -> list[str]:
    """Return the percentage of each strategy of the flag."""
    return [each["parameters"]["rollout"] for each in flags["flag"]["strategies"]]


def configure(aws: StandIn, source: str, *, key: str, base_url: str) -> None:
    """Write all parameters of a source; the credential first, so that it is never without."""
    options = {"environment": "development"}
    webhook = {"method": "authorization", "secrets": [SECRET], "options": options}
    for path, content in (
        ("credentials", {"key": key, "base_url": base_url}),
        ("webhooks", webhook),
        ("sources", {"options": options, "allow_http": True}),
    ):
        aws.client("ssm").put_parameter(
            Name=f"/flagstore/{path}/{source}",
            Value=json.dumps({"provider": "unleash", **content}),
            Type="String" if path == "sources" else "SecureString",
        )
