"""A real Unleash server with a PostgreSQL database of its own: `tools/setup-e2e` installs both."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import pytest
import requests

from local.processes import free_port
from simulators.server_process import ServerProcess
from storesync.cli.webhooks import UNLEASH_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

type Json = dict[str, Any]

HOST = "127.0.0.1"
USER = "unleash"
TIMEOUT_S = 10
ENVIRONMENTS = ("development", "production")
"""The environments of a fresh Unleash server."""
CLIENT_SPEC = "5.2.0"
"""Asks for segments as a list of their own, as today's SDKs do."""
UNLEASH_FOLDER = Path(__file__).with_name("node") / "node_modules" / "unleash-server" / "dist"

_UNLEASH = UNLEASH_FOLDER / "server.js"
# For speed: nothing has to survive a crash.
_POSTGRES_SETTINGS = (
    f"listen_addresses={HOST}",
    "unix_socket_directories=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
)
_FEATURES = "/api/admin/projects/default/features"
_ADDONS = "/api/admin/addons"


def needs_unleash() -> None:
    """Skip the test where the server, or what it needs, is not installed."""
    for name, needed in (
        ("PostgreSQL", postgres_programs()),
        ("Node.js", shutil.which("node")),
        ("the npm package unleash-server", _UNLEASH.exists()),
    ):
        if not needed:
            pytest.skip(f"{name} is not installed; run `make setup-e2e`")


# -- PostgreSQL -----------------------------------------------------------------------------------


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: the newest of Debian's, or the PATH's."""
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(folders, key=lambda found: float(found.parts[-3]), default=None)
    found = newest or shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def postgres(programs: Path) -> Iterator[tuple[int, str]]:
    """Run an empty PostgreSQL server with the database ``unleash``; give its port and password.

    PostgreSQL refuses to run as root, so root runs it as the user of Debian's package.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="flagstore-postgres-")))
        owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(home, "postgres", "postgres")
            owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
        password, port = secrets.token_hex(16), free_port()
        _make_data(programs, home, password, owner)
        settings = [part for setting in _POSTGRES_SETTINGS for part in ("-c", setting)]
        command = [programs / "postgres", "-D", home / "data", "-p", str(port), *settings]
        # SIGINT ends it without waiting for its clients to leave.
        process = ServerProcess("PostgreSQL", command, home / "log", stop_with=signal.SIGINT)
        stack.callback(process.stop)
        address = ["-h", HOST, "-p", str(port)]
        ready = [programs / "pg_isready", "-q", *address]
        process.start(lambda: subprocess.run(ready, check=False).returncode == 0, cwd=home, **owner)
        _run(programs / "createdb", *address, "-U", USER, "unleash", env={"PGPASSWORD": password})
        yield port, password


def _make_data(programs: Path, home: Path, password: str, owner: Mapping[str, Any]) -> None:
    file = home / "password"
    file.touch(mode=0o600)
    file.write_text(password)
    if owner:
        shutil.chown(file, owner["user"])
    # With a password: without one, every local user could run commands as its owner.
    access = ["--auth=scram-sha-256", f"--pwfile={file}", f"--username={USER}"]
    options = ["-D", str(home / "data"), "--no-sync", "--encoding=UTF8", "--locale=C", *access]
    _run(programs / "initdb", *options, cwd=home, **owner)


def _run(program: Path, *arguments: str, **options: Any) -> None:
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL, **options)


# -- Unleash --------------------------------------------------------------------------------------


class UnleashServer:
    """A context manager around a fresh server; *ca_file*: authorities that its webhooks trust."""

    def __init__(self, *, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._secret = secrets.token_hex(28)
        self.admin_token = f"*:*.{self._secret}"
        self._exit = ExitStack()
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy between the tests and 127.0.0.1

    def __enter__(self) -> Self:
        programs = postgres_programs()
        assert programs is not None
        with ExitStack() as started:
            database = started.enter_context(postgres(programs))
            home = Path(started.enter_context(TemporaryDirectory(prefix="flagstore-unleash-")))
            port = free_port()
            self.url = f"http://{HOST}:{port}"
            self._environment = self._make_environment(port, *database)
            self._process = ServerProcess(
                "Unleash",
                # Its own use of a deprecated call is nothing to act on.
                ["node", "--no-deprecation", _UNLEASH],
                home / "log",
                stop_with=signal.SIGTERM,
            )
            started.callback(self._process.stop)
            self._start()
            self._exit = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.show_log()
        self._exit.close()

    def backend_token(self, environment: str) -> str:
        """Return the token with which a server-side SDK reads all projects of *environment*."""
        return f"*:{environment}.{self._secret}"

    def frontend_token(self, environment: str) -> str:
        """Return the token with which front ends read all projects of *environment*."""
        return f"*:{environment}.{self._secret[::-1]}"

    def features(self) -> Json:
        """Return what SDKs of the environment ``development`` are served."""
        token = self.backend_token("development")
        headers = {"Authorization": token, "Unleash-Client-Spec": CLIENT_SPEC}
        url = f"{self.url}/api/client/features"
        response = self._http.get(url, headers=headers, timeout=TIMEOUT_S)
        response.raise_for_status()
        return dict(response.json())

    # The admin API; flags are in the project `default`.

    def create_flag(self, name: str, **fields: Any) -> None:
        """Create a flag, off everywhere."""
        self._admin("POST", _FEATURES, {"name": name, "type": "release", **fields})

    def change_flag(self, method: str, path: str, body: Json | None = None) -> Any:
        """Call the admin API about a flag; *path* begins with its name."""
        return self._admin(method, f"{_FEATURES}/{path}", body)

    def switch(self, name: str, state: str, environment: str = "development") -> None:
        """Turn a flag ``on`` or ``off``; Unleash adds a 100 % rollout where it has no strategy."""
        self.change_flag("POST", f"{name}/environments/{environment}/{state}")

    def archive(self, action: str, name: str) -> None:
        """``revive`` an archived flag, or ``delete`` it for good."""
        if action == "revive":
            self._admin("POST", f"/api/admin/archive/revive/{name}")
        else:
            self._admin("DELETE", f"/api/admin/archive/{name}")

    def put_segment(self, name: str, constraints: list[Json], number: int | None = None) -> int:
        """Create a segment and return its id, or replace the one with that id."""
        segment = {"name": name, "constraints": constraints}
        if number is None:
            return int(self._admin("POST", "/api/admin/segments", segment)["id"])
        self._admin("PUT", f"/api/admin/segments/{number}", segment)
        return number

    def register_webhook(self, url: str, *, authorization: str) -> int:
        """Register a webhook for every event, and return its id.

        A server caches its webhooks for 60 s, so it is restarted, on the same port and database.
        """
        addon = {
            "provider": "webhook",
            "enabled": True,
            "description": "flagstore end-to-end test",
            "parameters": {"url": url, "authorization": authorization},
            "events": list(UNLEASH_EVENTS),
            "projects": [],
            "environments": [],
        }
        addon_id = int(self._admin("POST", _ADDONS, addon)["id"])
        self._process.stop()
        self._start()
        return addon_id

    def webhooks(self) -> list[Json]:
        """Return all webhooks; their secrets are masked."""
        return list(self._admin("GET", _ADDONS)["addons"])

    def delivery_log(self, addon_id: int) -> list[Json]:
        """Return the webhook's deliveries, newest first: `state`, `stateDetails`, `event`, ..."""
        return list(self._admin("GET", f"{_ADDONS}/{addon_id}/events")["integrationEvents"])

    def metrics(self, flag: str) -> list[Json]:
        """Return a flag's counts by application, environment and hour: `yes`, `no`, `variants`."""
        path = f"/api/admin/client-metrics/features/{flag}/raw?hoursBack=48"
        return list(self._admin("GET", path)["data"])

    def applications(self) -> set[str]:
        """Return the names of the applications that it lists."""
        found = self._admin("GET", "/api/admin/metrics/applications")
        return {each["appName"] for each in found["applications"]}

    def newest_event(self) -> int:
        """Return the number of the newest event, delivered or not."""
        events = self._admin("GET", "/api/admin/search/events?limit=1")["events"]
        return int(events[0]["id"])

    def _admin(self, method: str, path: str, body: Json | None = None) -> Any:
        headers = {"Authorization": self.admin_token}
        response = self._http.request(
            method, self.url + path, json=body, headers=headers, timeout=TIMEOUT_S
        )
        assert response.ok, f"{method} {path}: {response.status_code}: {response.text}"
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return response.json() if response.content and is_json else None

    def _start(self) -> None:
        self._process.start(self._is_ready, env=self._environment)

    def _is_ready(self) -> bool:
        try:
            return self._http.get(f"{self.url}/health", timeout=TIMEOUT_S).ok
        except requests.RequestException:
            return False

    def _make_environment(self, port: int, database_port: int, password: str) -> dict[str, str]:
        # Built from nothing: DATABASE_URL or UNLEASH_... of a developer's shell must not leak in.
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "TZ": "UTC",
            "LOG_LEVEL": "warn",
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "HTTPHOST": HOST,
            "HTTP_PORT": str(port),
            "UNLEASH_URL": self.url,
            "DATABASEHOST": HOST,
            "DATABASE_PORT": str(database_port),
            "DATABASE_NAME": "unleash",
            "DATABASE_USERNAME": USER,
            "DATABASE_PASSWORD": password,
            "DATABASE_SSL": "false",
            "INIT_ADMIN_API_TOKENS": self.admin_token,
            "INIT_BACKEND_API_TOKENS": ",".join(map(self.backend_token, ENVIRONMENTS)),
            "INIT_FRONTEND_API_TOKENS": ",".join(map(self.frontend_token, ENVIRONMENTS)),
            **({"NODE_EXTRA_CA_CERTS": str(self._ca_file)} if self._ca_file else {}),
        }
