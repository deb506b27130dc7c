"""An empty PostgreSQL server, for the servers under test that keep their data in one.

It binds 127.0.0.1, lives in a temporary folder and ends with its context.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from local.processes import StartError, free_port

from .server_process import LOG_LINES, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

HOST = "127.0.0.1"

_SETTINGS = [
    *("-c", f"listen_addresses={HOST}"),
    *("-c", "unix_socket_directories="),
    # Speed: what is lost in a crash is a test's.
    *("-c", "fsync=off"),
    *("-c", "synchronous_commit=off"),
    *("-c", "full_page_writes=off"),
]


class PostgresServer:
    """A context manager: the server while it runs.

    PostgreSQL refuses to run as root, so root runs it as the user `postgres`, which Debian's
    package makes.
    """

    user = "unleash"

    def __init__(self) -> None:
        """Nothing runs before the context is entered."""
        self.port = 0
        self.password = secrets.token_hex(16)
        self._databases: set[str] = set()
        self._programs = Path()
        self._exit = ExitStack()
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            StartError: when PostgreSQL is missing or doesn't start.

        """
        folder = programs_folder()
        if folder is None:
            raise StartError("PostgreSQL is not installed")
        self._programs = folder
        with ExitStack() as started:
            home = Path(started.enter_context(TemporaryDirectory(prefix="flagstore-postgres-")))
            self._process = self._start(home, started)
            self._exit = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Stop it and remove its data; show its log when the context failed."""
        if kind is not None and self._process is not None:
            self._process.show_log()
        self._exit.close()

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Return the last *lines* of its log."""
        return self._process.log_tail(lines) if self._process else ""

    def ensure_database(self, name: str) -> None:
        """Create the database *name* unless this object did before."""
        if name not in self._databases:
            options = ["--host", HOST, "--port", str(self.port), "--username", self.user]
            _run(self._programs / "createdb", *options, name, env={"PGPASSWORD": self.password})
            self._databases.add(name)

    def _start(self, home: Path, started: ExitStack) -> ServerProcess:
        as_owner = _as_postgres(home)
        data = home / "data"
        self._make_data(home, data, as_owner)
        self.port = free_port()
        process = ServerProcess(
            "PostgreSQL",
            [self._programs / "postgres", "-D", data, "-p", str(self.port), *_SETTINGS],
            home / "log",
            stop_with=signal.SIGINT,  # "fast": doesn't wait for clients to leave
        )
        started.callback(process.stop)
        process.start(self._is_ready, cwd=home, **as_owner)
        return process

    def _make_data(self, home: Path, data: Path, as_owner: Mapping[str, Any]) -> None:
        password_file = home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if as_owner:
            shutil.chown(password_file, as_owner["user"])
        # A password, even here: without one every local user could run commands as its owner.
        access = ["--auth=scram-sha-256", f"--pwfile={password_file}", f"--username={self.user}"]
        encoding = ["--encoding=UTF8", "--locale=C"]
        options = ["-D", str(data), "--no-sync", *access, *encoding]
        _run(self._programs / "initdb", *options, cwd=home, **as_owner)

    def _is_ready(self) -> bool:
        options = ["-q", "-h", HOST, "-p", str(self.port)]
        return (
            subprocess.run([self._programs / "pg_isready", *options], check=False).returncode == 0
        )


def programs_folder() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest of Debian's, else the PATH's."""
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(folders, key=lambda found: float(found.parts[-3]), default=None)
    found = newest or shutil.which("initdb")
    return Path(found).parent if found else None


def _as_postgres(home: Path) -> dict[str, Any]:
    """Return what makes `subprocess` run as `postgres`, and give it *home*; {} unless root."""
    if os.geteuid() != 0:
        return {}
    try:
        shutil.chown(home, "postgres", "postgres")
    except LookupError as error:
        raise StartError("root needs a user and group `postgres` to run PostgreSQL") from error
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


def _run(program: Path, *arguments: str, **options: Any) -> None:
    done = subprocess.run(
        [program, *arguments], check=False, capture_output=True, text=True, **options
    )
    if done.returncode != 0:
        raise StartError(f"{program.name} failed\n{done.stdout}{done.stderr}")
