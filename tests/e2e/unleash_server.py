"""A real Unleash server with a PostgreSQL database of its own, for the end-to-end tests.

    with UnleashServer() as server:
        server.register_webhook("http://127.0.0.1:8080/hook", authorization="a secret")
        server.admin.create_flag("new-checkout")
        server.features("development")

Both bind 127.0.0.1, live in a temporary folder and end with their context. `tools/setup-e2e`
installs what is run here; `missing` names what is not installed.

Unleash caches its list of webhooks for 60 s from the first event that it announces, and a fresh
server announces events of its own within its first second. `UnleashServer.register_webhook`
therefore restarts the server, which takes about a second.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import requests

from local.processes import StartError, free_port
from simulators.server_process import ServerProcess

from .unleash_admin import TIMEOUT_S, Admin, Json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

HOST = "127.0.0.1"
USER = "unleash"
ENVIRONMENTS = ("development", "production")
"""The environments of a fresh Unleash server."""
CLIENT_SPEC = "5.2.0"
"""Asks for segments as a list of their own, as today's SDKs do."""
UNLEASH_FOLDER = Path(__file__).with_name("node") / "node_modules" / "unleash-server" / "dist"

_UNLEASH = UNLEASH_FOLDER / "server.js"
_POSTGRES_SETTINGS = (
    f"listen_addresses={HOST}",
    "unix_socket_directories=",
    # For speed: nothing has to survive a crash.
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
)


def missing() -> str | None:
    """Return what is not installed; None if the servers can run."""
    if postgres_programs() is None:
        return "PostgreSQL is not installed"
    if shutil.which("node") is None:
        return "Node.js is not installed"
    if not _UNLEASH.exists():
        return "the npm package unleash-server is not installed"
    return None


# -- PostgreSQL -----------------------------------------------------------------------------------


class Postgres(NamedTuple):
    """A PostgreSQL server that runs."""

    port: int
    password: str


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: the newest of Debian's, or the PATH's."""
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(folders, key=lambda found: float(found.parts[-3]), default=None)
    found = newest or shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run an empty PostgreSQL server with the database ``unleash``.

    PostgreSQL refuses to run as root, so root runs it as the user of Debian's package.
    """
    programs = postgres_programs()
    if programs is None:
        raise StartError("PostgreSQL is not installed")
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
        yield Postgres(port, password)


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
    done = subprocess.run(
        [program, *arguments], check=False, capture_output=True, text=True, **options
    )
    if done.returncode != 0:
        raise StartError(f"{program.name} failed\n{done.stdout}{done.stderr}")


# -- Unleash --------------------------------------------------------------------------------------


class UnleashServer:
    """A context manager around a fresh Unleash server.

    Args:
        ca_file: authorities that its webhooks trust besides those of Node.js.

    Raises:
        StartError: on entering, if something is missing or does not start.

    """

    def __init__(self, *, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._secret = secrets.token_hex(28)
        self._exit = ExitStack()
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy between the tests and 127.0.0.1

    def __enter__(self) -> Self:
        if lacking := missing():
            raise StartError(lacking)
        with ExitStack() as started:
            database = started.enter_context(postgres())
            home = Path(started.enter_context(TemporaryDirectory(prefix="flagstore-unleash-")))
            self._port = free_port()
            self._environment = self._make_environment(database)
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

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end; the same after a restart."""
        return f"http://{HOST}:{self._port}"

    @property
    def admin_token(self) -> str:
        """The token for the admin API."""
        return f"*:*.{self._secret}"

    @property
    def admin(self) -> Admin:
        """A client of the admin API."""
        return Admin(self.url, self.admin_token)

    def backend_token(self, environment: str = "development") -> str:
        """Return the token with which a server-side SDK reads all projects of *environment*."""
        return f"*:{environment}.{self._secret}"

    def features(self, environment: str = "development") -> Json:
        """Return the response of `/api/client/features`: `features`, `segments`, `meta` and more.

        It may trail a change made through the admin API by up to a second.
        """
        token = self.backend_token(environment)
        headers = {"Authorization": token, "Unleash-Client-Spec": CLIENT_SPEC}
        url = f"{self.url}/api/client/features"
        response = self._http.get(url, headers=headers, timeout=TIMEOUT_S)
        response.raise_for_status()
        return dict(response.json())

    def register_webhook(self, url: str, *, authorization: str = "") -> int:
        """Register a webhook that hears the very next event, and return its id.

        Restarts the server (see the module).
        """
        addon_id = self.admin.register_webhook(url, authorization=authorization)
        self.restart()
        return addon_id

    def restart(self) -> None:
        """Stop and start it on the same port and database, with nothing left in its memory."""
        self._process.stop()
        self._start()

    def _start(self) -> None:
        self._process.start(self._is_ready, env=self._environment)

    def _is_ready(self) -> bool:
        try:
            return self._http.get(f"{self.url}/health", timeout=TIMEOUT_S).ok
        except requests.RequestException:
            return False

    def _make_environment(self, database: Postgres) -> dict[str, str]:
        # Built from nothing: DATABASE_URL or UNLEASH_... of a developer's shell must not leak in.
        trust = {"NODE_EXTRA_CA_CERTS": str(self._ca_file)} if self._ca_file else {}
        return {
            **trust,
            "PATH": os.environ.get("PATH", os.defpath),
            "TZ": "UTC",
            "LOG_LEVEL": "warn",
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "HTTPHOST": HOST,
            "HTTP_PORT": str(self._port),
            "UNLEASH_URL": self.url,
            "DATABASEHOST": HOST,
            "DATABASE_PORT": str(database.port),
            "DATABASE_NAME": "unleash",
            "DATABASE_USERNAME": USER,
            "DATABASE_PASSWORD": database.password,
            "DATABASE_SSL": "false",
            "INIT_ADMIN_API_TOKENS": self.admin_token,
            "INIT_BACKEND_API_TOKENS": ",".join(map(self.backend_token, ENVIRONMENTS)),
        }
