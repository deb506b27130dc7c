"""The harness itself: a real Unleash server starts, serves flags and rings its webhook."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import loads
from queue import Empty, Queue
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest
import requests

from storesync.cli.registration import Registrar
from storesync.model import Hook, Secret

from . import unleash_server
from .postgres_server import PostgresServer
from .unleash_admin import (
    EVENTS,
    EVENTS_BY_API_ONLY,
    EVENTS_IN_UI,
    Admin,
    AdminError,
    Json,
    rollout,
)
from .unleash_server import UnleashServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e

AUTHORIZATION = "Bearer only-for-this-test"
LIMIT_S = 5.0
PRO_PLAN: Json = {"contextName": "plan", "operator": "IN", "values": ["pro"]}


class Delivery(NamedTuple):
    """One webhook request: its headers, names in lower case, and the event in its body."""

    headers: dict[str, str]
    event: Json


class Receiver:
    """A context manager: a local HTTP server that answers 200 and keeps what it was sent."""

    def __init__(self) -> None:
        self._deliveries: Queue[Delivery] = Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next(self) -> Delivery:
        """Return the oldest delivery that wasn't returned before."""
        try:
            return self._deliveries.get(timeout=LIMIT_S)
        except Empty:
            pytest.fail(f"no webhook within {LIMIT_S:g} s")

    def until(self, kinds: set[str]) -> set[str]:
        """Wait for an event of each of *kinds* and return the types of all that came."""
        seen: set[str] = set()
        while not kinds <= seen:
            seen.add(self.next().event["type"])
        return seen

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        deliveries = self._deliveries

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                deliveries.put(Delivery(headers, loads(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stays quiet."""

        return Handler


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """Run one PostgreSQL server for this module."""
    if lacking := unleash_server.missing():
        pytest.skip(f"{lacking}; run `make setup-e2e`")
    with PostgresServer() as running:
        yield running


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> Iterator[UnleashServer]:
    """Run one Unleash server for this module; its flags and webhooks stay."""
    with UnleashServer(postgres) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: UnleashServer) -> Admin:
    """Return a client of the server's admin API."""
    return server.admin


def test_starts_within_half_a_minute(
    postgres: PostgresServer,
    server: UnleashServer,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    """PostgreSQL and Unleash start from nothing in less than 30 seconds."""
    record_testsuite_property("postgres_start_seconds", round(postgres.start_seconds, 2))
    record_testsuite_property("unleash_start_seconds", round(server.start_seconds, 2))
    assert postgres.start_seconds + server.start_seconds < 30


def test_serves_a_new_flag_with_its_segment(server: UnleashServer, admin: Admin) -> None:
    """A flag made through the admin API is served to SDKs together with the segment it uses."""
    segment_id = admin.create_segment("pro-plan", [PRO_PLAN])
    admin.create_flag("with-segment")
    admin.add_strategy("with-segment", rollout(50, segments=[segment_id]))
    admin.enable("with-segment")

    flag = wait_for(lambda: served(server, "with-segment", enabled=True), "flag that is on")

    assert [segment_id] == flag["strategies"][0]["segments"]
    assert flag["strategies"][0]["parameters"]["rollout"] == "50"
    segment = next(each for each in server.features()["segments"] if each["id"] == segment_id)
    assert segment["constraints"][0]["values"] == ["pro"]


def test_environments_have_tokens_of_their_own(server: UnleashServer, admin: Admin) -> None:
    """A flag that is on in development is off in production."""
    admin.create_flag("only-in-development")
    admin.enable("only-in-development")

    wait_for(lambda: served(server, "only-in-development", enabled=True), "flag")

    assert served(server, "only-in-development", enabled=False, environment="production")
    with pytest.raises(ValueError, match="staging"):
        server.backend_token("staging")


def test_flags_need_a_token(server: UnleashServer) -> None:
    """The client API refuses a request without a token, and one with an unknown token."""
    url = f"{server.url}/api/client/features"
    unknown = {"Authorization": f"*:development.{'0' * 56}"}
    assert requests.get(url, timeout=5).status_code == 401
    assert requests.get(url, headers=unknown, timeout=5).status_code == 401


def test_a_created_token_reads_flags(server: UnleashServer, admin: Admin) -> None:
    """A backend token created through the admin API is accepted."""
    token = admin.create_backend_token("test", "production", ["default"])
    url = f"{server.url}/api/client/features"
    assert requests.get(url, headers={"Authorization": token}, timeout=5).status_code == 200


def test_webhook_rings_with_its_secret(server: UnleashServer, admin: Admin) -> None:
    """A webhook rings within 5 s for the first event after its registration, secrets included."""
    with Receiver() as receiver:
        addon_id = server.register_webhook(
            receiver.url, authorization=AUTHORIZATION, custom_headers={"X-Api-Key": "second secret"}
        )
        admin.create_flag("rings")
        headers, event = receiver.next()

    assert (event["type"], event["featureName"]) == ("feature-created", "rings")
    assert headers["authorization"] == AUTHORIZATION
    assert headers["x-api-key"] == "second secret"
    delivery = wait_for(lambda: admin.delivery_log(addon_id), "entry in the log")[0]
    assert ("success", event["id"]) == (delivery["state"], delivery["event"]["id"])


def test_webhook_rings_for_what_the_ui_does_not_offer(server: UnleashServer, admin: Admin) -> None:
    """Segments, deletions, dependencies and the order of strategies ring, if asked for by API."""
    with Receiver() as receiver:
        server.register_webhook(receiver.url)
        live_a_life(admin)
        seen = receiver.until(
            {
                "feature-deleted",
                "feature-dependency-added",
                "feature-dependency-removed",
                "segment-created",
                "segment-deleted",
                "segment-updated",
                "strategy-order-changed",
            }
        )

    assert seen <= set(EVENTS)


def test_the_command_line_registers_at_a_real_server(server: UnleashServer, admin: Admin) -> None:
    """`source add --register` makes one webhook with every event, finds it, and changes that."""
    base = "http://127.0.0.1:9/webhooks"
    registrar = Registrar(server.url, server.admin_token)
    hook = Hook("registered", "unleash", "authorization", (Secret(AUTHORIZATION),))
    assert registrar.find(base, hook) is None
    before = len(admin.webhooks())
    assert registrar.register(base, hook) == "made"
    header = replace(
        hook, method="header", header="x-secret", options={"environment": "production"}
    )
    assert registrar.register(base, header) == "changed"
    there = registrar.find(base, hook)
    assert there is not None
    assert there["enabled"]
    assert set(there["events"]) == set(EVENTS)
    assert there["environments"] == ["production"]
    assert len(admin.webhooks()) == before + 1


def test_every_event_is_one_that_the_server_knows() -> None:
    """No event name is misspelt: the server would take it and never ring."""
    names = unleash_server.UNLEASH_FOLDER / "lib" / "events" / "index.js"
    if not names.exists():
        pytest.skip("the npm package unleash-server is not installed; run `make setup-e2e`")
    known = names.read_text()
    assert [event for event in EVENTS if f"'{event}'" not in known] == []
    assert set() == set(EVENTS_IN_UI) & set(EVENTS_BY_API_ONLY)


def test_a_refusal_says_why(admin: Admin) -> None:
    """What the admin API refuses is raised with its status and the server's own words."""
    admin.create_flag("twice")
    with pytest.raises(AdminError, match="name already exists") as refused:
        admin.create_flag("twice")
    assert refused.value.status == 409


def wait_for[T](probe: Callable[[], T | None], what: str) -> T:
    """Call *probe* until it returns something true, for at most 5 s, and return that."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := probe()):
        assert time.monotonic() < deadline, f"no {what} within {LIMIT_S:g} s"
        time.sleep(0.05)
    return found


def served(
    server: UnleashServer, name: str, *, enabled: bool, environment: str = "development"
) -> Json | None:
    """Return the flag as SDKs get it, or None unless it is there and on (or off) as asked."""
    flags = server.features(environment)["features"]
    return next(
        (each for each in flags if (each["name"], each["enabled"]) == (name, enabled)), None
    )


def live_a_life(admin: Admin) -> None:
    """Make every kind of change once, from the first segment to the deleted flag."""
    segment_id = admin.create_segment("short-lived", [PRO_PLAN])
    admin.create_flag("parent")
    admin.create_flag("child", kind="kill-switch", description="lives a short life")
    first = admin.add_strategy("child", rollout(10, segments=[segment_id]))
    second = admin.add_strategy("child", rollout(20, group="other"))
    admin.order_strategies("child", [second, first])
    admin.update_strategy("child", first, rollout(30))
    admin.remove_strategy("child", second)
    admin.update_segment(segment_id, "short-lived", [PRO_PLAN | {"values": ["pro", "team"]}])
    admin.delete_segment(segment_id)
    admin.enable("child")
    admin.disable("child")
    admin.enable("child")
    admin.disable_all(["child"])
    admin.set_metadata("child", "stale", value=True)
    admin.add_dependency("child", "parent")
    admin.remove_dependency("child", "parent")
    admin.archive("child")
    admin.revive("child")
    admin.archive("child")
    admin.delete("child")
