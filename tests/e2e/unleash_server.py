"""A real Unleash server with a PostgreSQL database of its own, for the end-to-end tests.

    with UnleashServer() as server:
        server.register_webhook("http://127.0.0.1:8080/hook", authorization="a secret")
        server.admin.create_flag("new-checkout")
        server.features("development")

Everything binds 127.0.0.1, lives in a temporary folder and ends with its context.
`tools/setup-e2e` installs what is run here; `missing` tells what of it isn't there.

Unleash keeps its list of webhooks for 60 s, counted from the first event it announces. A fresh
server announces events of its own within its first second (the tokens that it was told to make),
so a webhook registered even right after the start hears nothing for the rest of that minute.
`UnleashServer.register_webhook` therefore restarts the server, which forgets the list: about a
second instead of sixty. Whoever registers several can use `admin.register_webhook` for each and
call `restart` once.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import requests

from local.processes import StartError, free_port

from .postgres_server import HOST, PostgresServer, programs_folder
from .server_process import LOG_LINES, ServerProcess
from .unleash_admin import TIMEOUT_S, Admin, Json

if TYPE_CHECKING:
    from types import TracebackType

ENVIRONMENTS = ("development", "production")
"""The environments of a fresh Unleash server."""

CLIENT_SPEC = "5.2.0"
"""Asks for segments as a list of their own, as the SDKs of today do."""

UNLEASH_FOLDER = Path(__file__).with_name("node") / "node_modules" / "unleash-server" / "dist"
"""Where the npm package's code is, if it is installed."""

_UNLEASH = UNLEASH_FOLDER / "server.js"
_SECRET = secrets.token_hex(28)  # one per process, so that servers on one database share it


def missing() -> str | None:
    """Say in words what isn't installed; None when the servers can run."""
    if programs_folder() is None:
        return "PostgreSQL is not installed"
    if shutil.which("node") is None:
        return "Node.js is not installed"
    if not _UNLEASH.exists():
        return "the npm package unleash-server is not installed"
    return None


class UnleashServer:
    """A fresh Unleash server; a context manager."""

    def __init__(
        self,
        postgres: PostgresServer | None = None,
        *,
        database: str = "unleash",
        ca_file: Path | None = None,
    ) -> None:
        """Use *database* of a running *postgres*, or a PostgreSQL server of its own.

        Its webhooks trust the authorities in *ca_file* besides those of Node.js.

        Two servers on one database behave like the instances of one installation: flags, tokens
        and webhooks are common, and each learns of changes on its own, up to a second late. Either
        may be the one to announce an event, so a new webhook needs a `restart` of both.
        """
        self._postgres = postgres
        self._database = database
        self._ca_file = ca_file
        self._port = 0
        self._exit = ExitStack()
        self._process: ServerProcess | None = None
        self._environment: dict[str, str] = {}
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy of the developer's between us and 127.0.0.1

    def __enter__(self) -> Self:
        """Start it; the first start on an empty database takes about two seconds.

        Raises:
            StartError: when something is missing or doesn't start.

        """
        if lacking := missing():
            raise StartError(lacking)
        with ExitStack() as started:
            postgres = self._postgres or started.enter_context(PostgresServer())
            home = Path(started.enter_context(TemporaryDirectory(prefix="flagstore-unleash-")))
            postgres.ensure_database(self._database)
            self._port = free_port()
            self._environment = self._make_environment(postgres)
            self._process = ServerProcess(
                "Unleash",
                # Its own use of a deprecated call is nothing that a reader of the log can act on.
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
        """Stop it and remove its data; show its log when the context failed."""
        if kind is not None and self._process is not None:
            self._process.show_log()
        self._exit.close()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end; the same after a restart."""
        return f"http://{HOST}:{self._port}"

    @property
    def admin_token(self) -> str:
        """The token for the admin API."""
        return f"*:*.{_SECRET}"

    @property
    def admin(self) -> Admin:
        """A client of the admin API."""
        return Admin(self.url, self.admin_token)

    def backend_token(self, environment: str = "development") -> str:
        """Return the token with which a server-side SDK reads all projects of *environment*."""
        if environment not in ENVIRONMENTS:
            raise ValueError(f"no environment {environment!r}; there are {ENVIRONMENTS}")
        return f"*:{environment}.{_SECRET}"

    def features(self, environment: str = "development") -> Json:
        """Return the response of `/api/client/features`: `features`, `segments`, `meta` and more.

        It may trail a change made through the admin API by up to a second.
        """
        headers = {
            "Authorization": self.backend_token(environment),
            "Unleash-Client-Spec": CLIENT_SPEC,
        }
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
        self._running().stop()
        self._start()

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Return the last *lines* of its log: warnings and errors."""
        return self._process.log_tail(lines) if self._process else ""

    def _start(self) -> None:
        process = self._running()
        process.start(self._is_ready, env=self._environment)

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise StartError("the server was not started")
        return self._process

    def _is_ready(self) -> bool:
        try:
            return self._http.get(f"{self.url}/health", timeout=TIMEOUT_S).ok
        except requests.RequestException:
            return False

    def _make_environment(self, postgres: PostgresServer) -> dict[str, str]:
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
            "DATABASE_PORT": str(postgres.port),
            "DATABASE_NAME": self._database,
            "DATABASE_USERNAME": postgres.user,
            "DATABASE_PASSWORD": postgres.password,
            "DATABASE_SSL": "false",
            "INIT_ADMIN_API_TOKENS": self.admin_token,
            "INIT_BACKEND_API_TOKENS": ",".join(map(self.backend_token, ENVIRONMENTS)),
        }
