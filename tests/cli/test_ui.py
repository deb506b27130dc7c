"""The page of `storesync ui`, by its requests: who is answered, and with what."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import pytest

from flagstore.keys import state_key
from simulators.appconfig import AppConfigSimulator, Strategy
from simulators.rollout_rig import doc
from storesync.cli import views
from storesync.cli.app import Operator
from storesync.cli.screen import CommandError, Screen
from storesync.cli.ui import MAX_BODY, served
from storesync.retry import SystemClock
from storesync.usage_records import DAY_S, UsageRecords
from tests.cli.rig import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from simulators.launchdarkly import LaunchDarklySimulator
    from tests.cli.rig import Rig

ADA = {"key": "ada"}
READS = {"GetItem", "GetParametersByPath", "GetQueueAttributes", "Query"}
"""All that the page's server may call."""
CANARY = "canary-0123456789abcdef"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Ui:
    """The page's server, as a browser on this machine sees it."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.address = address
        self.port = int(parts.port or 0)
        self.host = f"127.0.0.1:{self.port}"
        self.token = parts.query.removeprefix("token=")
        self.seen = ""
        """All that it ever sent."""

    def send(
        self, method: str, target: str, headers: Mapping[str, str | None], body: bytes = b""
    ) -> Answer:
        """Send a request with exactly these headers; None leaves out the usual one."""
        usual = {"Host": self.host, "Authorization": f"Bearer {self.token}"}
        if body:
            usual |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {**usual, **headers}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        text = response.read().decode()
        self.seen += f"{response.headers}{text}"
        connection.close()
        return Answer(response.status, dict(response.headers.items()), text)

    def get(self, path: str, **given: object) -> Answer:
        query = f"?{urlencode(given)}" if given else ""
        return self.send("GET", f"/api/{path}{query}", {})

    def post(self, path: str, given: object) -> Answer:
        return self.send("POST", f"/api/{path}", {}, json.dumps(given).encode())


@contextmanager
def shown(rig: Rig, monkeypatch: pytest.MonkeyPatch, **env: str) -> Iterator[Ui]:
    """Run the server in this process; at the end, check that it changed nothing in AWS."""
    for name, value in {**rig.environ, **env}.items():
        monkeypatch.setenv(name, value)
    operator, calls = Operator(Screen(as_json=True), None, None, None), set[str]()
    operator._session.events.register("before-call", lambda model, **_: calls.add(model.name))
    with served(operator) as (server, address):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Ui(address)
        server.shutdown()
        thread.join(10)
    assert calls <= READS


@pytest.fixture
def ui(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ui]:
    with shown(rig, monkeypatch) as made:
        yield made


# -- who is answered ------------------------------------------------------------------------------

TARGETS = ("/", "/api/sources", "/api/nothing", "/favicon.ico")
STRANGERS: list[dict[str, str | None]] = [
    {"Host": "evil.example"},
    {"Host": "evil.example:{port}"},
    {"Host": "127.0.0.1"},
    {"Host": "127.0.0.1:1"},
    {"Host": "127.0.0.1:{port}.evil.example"},
    {"Host": "127.0.0.2:{port}"},
    {"Host": None},
    {"Host": ""},
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": ""},
]


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
def test_other_websites_are_refused(ui: Ui, headers: dict[str, str | None]) -> None:
    """Whatever they ask for, and even if they know the token."""
    named = {name: value and value.format(port=ui.port) for name, value in headers.items()}
    for method in ("GET", "POST"):
        for target in TARGETS:
            answer = ui.send(method, f"{target}?token={ui.token}", named)
            assert answer.status == 403, (method, target)
            assert answer.json["error"]["message"].startswith("the request ")


def test_two_hosts_are_refused(ui: Ui) -> None:
    """Whichever of them a program between would take."""
    with socket.create_connection(("127.0.0.1", ui.port)) as connection:
        hosts = f"Host: {ui.host}\r\nHost: evil.example\r\n"
        connection.sendall(f"GET /?token={ui.token} HTTP/1.0\r\n{hosts}\r\n".encode())
        assert b" 403 " in connection.makefile("rb").readline()


def test_own_page_is_answered(ui: Ui, prod: LaunchDarklySimulator) -> None:  # noqa: ARG001
    """By both names of this machine, with what browsers add."""
    for host in (ui.host, f"localhost:{ui.port}"):
        opened = {"Host": host, "Sec-Fetch-Site": "none", "Authorization": None}
        assert ui.send("GET", f"/?token={ui.token}", opened).status == 200
        called = {"Host": host, "Sec-Fetch-Site": "same-origin", "Origin": f"http://{host}"}
        assert ui.send("GET", "/api/sources", called).status == 200


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Bearer x", "Basic {token}", "{token}"])
def test_token_is_needed(ui: Ui, given: str) -> None:
    """For the page in its address, for the rest in a header: never in an address of the rest."""
    headers = {"Authorization": given.format(token=ui.token)}
    for target in (*TARGETS[1:], f"/api/sources?token={ui.token}"):
        assert ui.send("GET", target, headers).status == 403
        assert ui.send("POST", target, headers, b"{}").status == 403
    for query in ("", "?token=", "?token=x", f"?token={ui.token}x", f"?token={quote('é')}"):
        assert ui.send("GET", f"/{query}", {}).status == 403


def test_token_is_long_and_of_one_run(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(rig, monkeypatch) as first, shown(rig, monkeypatch) as second:
        assert len(first.token) >= 43
        assert first.token != second.token
        assert first.send("GET", f"/?token={second.token}", {}).status == 403


def test_only_one_method_each(ui: Ui) -> None:
    """A context is posted; all else is read. No preflight of another website succeeds."""
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FOO"):
        answer = ui.send(method, f"/?token={ui.token}", {})
        assert (answer.status, method) == (405, method)
        assert ui.send(method, "/api/status?source=prod", {}, b"{}").status == 405
    assert ui.send("GET", "/api/evaluate", {}).status == 405
    assert ui.send("HEAD", "/api/sources", {}).status == 405
    assert ui.send("GET", "/api/nothing", {}).status == 404
    assert ui.send("GET", "//evil.example/api/sources", {}).status == 404
    assert [name for name in views.VIEWS if not name.startswith("GET ")] == ["POST /api/evaluate"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", 415),
        ({"Content-Type": None}, b"{}", 415),
        ({"Content-Length": None}, b"", 413),
        ({"Content-Length": "-1"}, b"", 413),
        ({"Content-Length": str(MAX_BODY + 1)}, b"", 413),
        ({"Content-Length": "9" * 5_000}, b"", 413),
        ({}, b"[]", 400),
        ({}, b"{", 400),
        ({}, b"\xff", 400),
        ({}, b"[" * 60_000, 400),
        ({}, b"{}", 400),
    ],
)
def test_bodies(ui: Ui, headers: dict[str, str | None], body: bytes, status: int) -> None:
    """Only small JSON objects: forms of other websites cannot send their type."""
    headers = {"Content-Type": "application/json", **headers}
    assert ui.send("POST", "/api/evaluate", headers, body).status == status


def test_every_response_is_guarded(ui: Ui) -> None:
    """No cache, frame, or other website's page gets it; the page runs only its own script."""
    page = ui.send("GET", f"/?token={ui.token}", {})
    others = [ui.get("sources"), ui.get("nothing"), ui.send("PUT", "/", {}), ui.post("evaluate", 1)]
    for answer in (page, *others, ui.send("GET", "/", {"Host": "evil.example"})):
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert "Python" not in answer.headers["Server"]
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert policy[0] == "default-src 'none'"
        assert not [part for part in policy if "unsafe" in part or "http" in part or "*" in part]
        assert {"connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'"} < {*policy}
        assert {"base-uri 'none'", "require-trusted-types-for 'script'"} < {*policy}
    for name in ("script", "style"):
        (text,) = re.findall(f"<{name}>(.*?)</{name}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_closed_connections_are_no_errors(ui: Ui, capsys: pytest.CaptureFixture[str]) -> None:
    """Browsers drop requests that their pages no longer need: the terminal stays as it is."""
    connection = socket.create_connection(("127.0.0.1", ui.port))
    connection.sendall(b"GET / HTTP/1.0\r\n")
    assert ui.get("nothing").status == 404
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()  # with a reset
    while any("process_request_thread" in each.name for each in threading.enumerate()):
        time.sleep(0.01)
    assert capsys.readouterr().err == ""


def test_page_is_one_file() -> None:
    """It loads nothing, and makes no HTML of text."""
    text = (REPOSITORY / "src/storesync/cli/ui.html").read_text(encoding="utf-8")
    for word in ("http:", "https:", "src=", "@import", "url(", "innerHTML", "eval(", " style="):
        assert word not in text
    assert len(text.splitlines()) < 600


def test_only_this_machine_is_served(ui: Ui) -> None:
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", ui.port), 5)


# -- what is shown --------------------------------------------------------------------------------


def test_documents_are_the_commands(rig: Rig, prod: LaunchDarklySimulator, ui: Ui) -> None:
    """Each is what the command prints with --json, but for ages."""

    def same(answer: Answer, *arguments: str) -> Any:
        assert answer.status == 200, answer
        found, printed = answer.json["result"], rig.json(*arguments)
        for each in (found, printed, found.get("origin", {}), printed.get("origin", {})):
            each.pop("age_s", None)
        for each in (found, printed):
            each.get("detail", {}).pop("age_s", None)
        assert found == printed
        return answer.json["shown"]

    first = str(rig.state().published)
    prod.set_flag("new-checkout", on=True, variations=[9_007_199_254_740_993, 1.0])
    prod.set_flag("another")
    rig.json("sync")
    second = str(rig.state().published)
    data = rig.json("status")
    found = ui.get("sources").json
    assert found["result"] == {"deployment": data["deployment"], "sources": ["prod"]}
    (source,) = data["sources"]
    answer = ui.get("status", source="prod").json
    answer["result"]["age_s"] = source["age_s"]
    assert answer["result"] == source
    assert len(answer["shown"]["row"]) == len(found["shown"]["headers"])
    queues = ui.get("queues").json
    assert queues["result"] == {"queue": data["queue"], "dlq": data["dlq"]}
    assert queues["shown"]["notes"][0] in rig.run("status").out
    texts = same(ui.get("history", source="prod"), "history", "prod")
    assert [row[0] for row in texts["rows"]] == [int(second), int(first)]
    texts = same(ui.get("diff", source="prod", **{"from": first}), "diff", "prod", "--from", first)
    assert texts["summary"] == "1 added, 1 changed"
    assert {'-  "on": false,', '+  "on": true,'} < {*texts["changed"]["flags/new-checkout"]}
    both = {"from": second, "to": first}
    back = ("diff", "prod", "--from", second, "--to", first)
    assert same(ui.get("diff", source="prod", **both), *back)["summary"] == "1 changed, 1 removed"
    assert ui.get("flags", source="prod").json["result"]["flags"] == sorted(prod.flags())
    get = ("get", "prod", "new-checkout")
    texts = same(ui.get("flag", source="prod", key="new-checkout"), *get)
    assert "9007199254740993,\n    1.0\n" in texts["item"]
    assert texts["origin"].startswith("from prod (launchdarkly in dynamodb), version")
    given = {"source": "prod", "key": "new-checkout", "context": json.dumps(ADA)}
    texts = same(ui.post("evaluate", given), *get, "--context", json.dumps(ADA))
    assert texts["value"] == "9007199254740993"
    same(ui.get("usage", source="prod", days=7), "usage", "prod", "--days", "7")


def test_calls_are_seen(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check after each of these tests is about what the page's server really calls."""
    monkeypatch.setattr("tests.cli.test_ui.READS", set())
    with pytest.raises(AssertionError, match="GetParametersByPath"), shown(rig, monkeypatch) as ui:
        ui.get("sources")


def test_usage(rig: Rig, prod: LaunchDarklySimulator, ui: Ui) -> None:
    """Unused flags, and what the command prints of each."""
    assert "has been collected" in ui.get("usage", source="prod", days=30).json["shown"]["note"]
    table, now = rig.environ["FLAGSTORE_TABLE"], int(time.time())
    records = UsageRecords(rig.aws.client("dynamodb"), table, SystemClock())
    records.record_use("prod", {"new-checkout": {"0": now - 300, "1": now - 40 * DAY_S}})
    answer = ui.get("usage", source="prod", days=30).json
    assert answer["result"]["unused"] == sorted(set(prod.flags()) - {"new-checkout"})
    (row,) = (row for row in answer["shown"]["rows"] if row[0] == "new-checkout")
    assert row[1:] == ["5 min ago", "0 (true) 5 min ago, 1 (false) 40 d ago"]


def test_gradual_deployment(rig: Rig, ui: Ui) -> None:
    """Its percentage and next step, and which version a context has."""
    with AppConfigSimulator({}) as server:
        server.checks_signatures = False
        server.roll_out(server.put(doc({"a": 1})))
        assert rig.add("shop", server).code == 0
        assert rig.run("sync", "shop").code == 0
        number = server.deploy(server.put(doc({"a": 2})), Strategy(30, 20, bake_minutes=30))
        server.step(number, 40.0)
        assert rig.run("sync", "shop").code == 0
    (source,) = rig.json("status", "shop")["sources"]
    answer = ui.get("status", source="shop").json
    assert answer["result"]["deployment"] == source["deployment"]
    (note,) = answer["shown"]["notes"]
    assert re.match(rf"deployment {number} is deploying, at 40%", note)
    for person in ("ada", "bob"):
        given = {"source": "shop", "key": "a", "context": json.dumps({"key": person})}
        detail = ui.post("evaluate", given).json["result"]["detail"]
        printed = rig.json("get", "shop", "a", "--context", given["context"])["detail"]
        assert detail["deployment"] == f"deployment {number} at 40%, by key"
        assert {**detail, "age_s": 0} == {**printed, "age_s": 0}


@pytest.mark.usefixtures("prod")
def test_pin_is_shown(rig: Rig, ui: Ui) -> None:
    rig.change(state_key("prod"), pinned=4_000_000_000_000)
    (note,) = ui.get("status", source="prod").json["shown"]["notes"]
    assert "kill switches" in note
    (note,) = ui.get("history", source="prod").json["shown"]["notes"]
    assert note.startswith("pinned until 2096")


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("prod")
def test_errors_are_the_commands(rig: Rig, ui: Ui) -> None:
    """With the message and remedy of the terminal; a wrong source hides no other."""
    break_sources(rig)
    cases: list[tuple[str, dict[str, str], tuple[str, ...]]] = [
        ("status", {"source": "nope"}, ("status", "nope")),
        ("flag", {"source": "nope", "key": "a"}, ("get", "nope", "a")),
        ("flag", {"source": "prod", "key": "nope"}, ("get", "prod", "nope")),
        ("diff", {"source": "prod", "from": "5"}, ("diff", "prod", "--from", "5")),
        ("history", {"source": "broken"}, ("history", "broken")),
        ("usage", {"source": "broken", "days": "3"}, ("usage", "broken")),
        ("flag", {"source": "down", "key": "a"}, ("get", "down", "a")),
    ]
    for path, given, arguments in cases:
        answer = ui.get(path, **given)
        error = json.loads(rig.run(*arguments, "--json").err)["error"]
        assert answer.json["error"] == error
        assert answer.status == {3: 404}.get(error["code"], 502)
    assert ui.get("status", source="prod").json["result"]["state"] == "ok"
    for name in ("broken", "down"):
        (source,) = rig.json("status", name)["sources"]
        found = ui.get("status", source=name).json
        assert found["result"] == source
        assert found["shown"]["notes"] == [*source["problems"], f"fix: {source['remedy']}"]


def break_sources(rig: Rig) -> None:
    """Add a source with wrong parameters, and one whose store is down."""
    rig.put_parameter("sources/broken", {"provider": "launchdarkly"})
    down = rig.parameter("sources/prod") | {"store": "redis"}
    rig.put_parameter("sources/down", down)
    store = f"redis://user:{CANARY}@127.0.0.1:1/0"
    rig.put_parameter("credentials/down", rig.parameter("credentials/prod") | {"store_url": store})


@pytest.mark.parametrize(
    ("path", "given", "text"),
    [
        ("status", {}, "source is missing"),
        ("flag", {"source": "prod"}, "key is missing"),
        ("diff", {"source": "prod"}, "from is missing"),
        ("diff", {"source": "prod", "from": "x"}, "not a valid integer"),
        ("usage", {"source": "prod", "days": "0"}, "range"),
        ("evaluate", {"source": "prod", "key": "new-checkout"}, "write it as JSON"),
        ("evaluate", {"source": "prod", "key": "new-checkout", "context": "ada"}, "as JSON"),
        ("evaluate", {"source": "prod", "key": "a", "context": "[" * 50_000}, "as JSON"),
        ("evaluate", {"source": "prod", "key": 1, "context": "{}"}, "key is missing"),
    ],
)
@pytest.mark.usefixtures("prod")
def test_wrong_requests(ui: Ui, path: str, given: dict[str, Any], text: str) -> None:
    answer = ui.post(path, given) if path == "evaluate" else ui.get(path, **given)
    assert (answer.status, answer.json["error"]["kind"]) == (400, "usage")
    assert text in answer.json["error"]["message"]


@pytest.mark.usefixtures("prod")
def test_missing_permission_and_credentials(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says how to get them, per request, as the terminal does."""
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    with shown(rig, monkeypatch, **nobody) as ui:
        for path in ("sources", "queues"):
            answer = ui.get(path)
            assert (answer.status, answer.json["error"]["kind"]) == (502, "denied")
            assert "sign in to AWS" in answer.json["error"]["remedy"]


@pytest.mark.usefixtures("prod")
def test_bug_is_in_the_terminal(
    ui: Ui, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text may be anything, so the page does not show it."""

    def fail(*_: object) -> None:
        raise KeyError(CANARY)

    monkeypatch.setitem(views.VIEWS, "GET /api/sources", fail)
    answer = ui.get("sources")
    assert (answer.status, answer.json["error"]["kind"]) == (500, "bug")
    assert f"KeyError: '{CANARY}'" in capsys.readouterr().err
    assert CANARY not in ui.seen


@pytest.mark.usefixtures("prod")
def test_slow_source_delays_no_other(ui: Ui, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    status = views.VIEWS["GET /api/status"]

    def slow(operator: Operator, given: Mapping[str, Any]) -> Any:
        assert given["source"] == "prod" or release.wait(20)
        return status(operator, given)

    monkeypatch.setitem(views.VIEWS, "GET /api/status", slow)
    waiting = threading.Thread(target=ui.get, args=("status",), kwargs={"source": "slow"})
    waiting.start()
    assert ui.get("status", source="prod").status == 200
    assert waiting.is_alive()
    release.set()
    waiting.join(10)


@pytest.mark.usefixtures("prod")
def test_requests_at_once(ui: Ui) -> None:
    """As the page sends them when it opens: the first ones share what none has made before."""
    paths = [path for path in ("sources", "queues", "status", "flags", "history") for _ in range(8)]
    with ThreadPoolExecutor(len(paths)) as pool:
        statuses = list(pool.map(lambda path: ui.get(path, source="prod").status, paths))
    assert statuses == [200] * len(paths)


# -- secrets --------------------------------------------------------------------------------------


def test_no_secret_is_sent(
    rig: Rig, prod: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither keys, webhook secrets and store URLs, nor the token and AWS credentials."""
    webhook = rig.parameter("webhooks/prod")
    secrets = [*webhook["secrets"], prod.sdk_key, rig.parameter("credentials/prod")["key"]]
    break_sources(rig)
    rig.put_parameter("clients/shop", {"source": "prod", "kind": "server", "secrets": [CANARY]})
    aws = {"AWS_SECRET_ACCESS_KEY": f"aws-{CANARY}", "AWS_SESSION_TOKEN": f"session-{CANARY}"}
    with shown(rig, monkeypatch, **aws) as ui:
        ui.send("GET", f"/?token={ui.token}", {})
        for name in ("prod", "broken", "nope"):
            for path in ("sources", "queues", "status", "flags", "history", "usage", "nothing"):
                ui.get(path, source=name, days=30)
            ui.get("flag", source=name, key="new-checkout")
            ui.get("diff", source=name, **{"from": rig.state().published})
            given = {"source": name, "key": "new-checkout", "context": json.dumps(ADA)}
            ui.post("evaluate", given)
        ui.get("status", source="down")
        ui.get("flags", source="down")
        ui.send("GET", "/", {"Authorization": f"Bearer {CANARY}", "Host": CANARY})
        assert len(ui.seen) > 10_000
        for secret in (*secrets, ui.token, CANARY):
            assert len(secret) > 10
            assert secret not in ui.seen


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("prod")
def test_command(rig: Rig) -> None:
    """It prints one address, serves it, logs no request, changes nothing, and ends with Ctrl-C."""
    records = rig.state(), rig.parameters()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background
    process = subprocess.Popen(
        [REPOSITORY / "tools" / "storesync", "ui", "--json"],
        env={"PATH": os.environ["PATH"], **rig.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)  # of a shell ignores it, and so would its children
    assert process.stdout
    text = "".join(process.stdout.readline() for _ in range(3))
    ui = Ui(json.loads(text)["url"])
    assert ui.send("GET", f"/?token={ui.token}", {}).status == 200
    assert ui.get("status", source="prod").json["result"]["state"] == "ok"
    assert ui.send("GET", "/", {}).status == 403
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    assert (rig.state(), rig.parameters()) == records
    assert rig.requests() == []


def test_port_is_taken(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(rig, monkeypatch) as ui:
        done = rig.run("ui", "--port", str(ui.port))
        assert (done.code, "choose another --port" in done.err) == (2, True), done
    with shown(rig, monkeypatch) as ui:
        operator = Operator(Screen(as_json=True), None, None, None)
        with pytest.raises(CommandError), served(operator, ui.port):
            pass


def test_unknown_deployment_is_an_error_of_the_command(rig: Rig) -> None:
    assert rig.run("ui", "--stack", "none").code == 3
