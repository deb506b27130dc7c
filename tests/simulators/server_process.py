"""One server as a child process of the tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from local.processes import stop, wait_until

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
    from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
LOG_LINES = 40


class ServerProcess:
    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, *, stop_with: signal.Signals
    ) -> None:
        # On Linux, it ends even if the tests are killed before they clean up.
        setpriv = shutil.which("setpriv")
        end = stop_with.name.removeprefix("SIG")
        prefix: list[str | Path] = [setpriv, "--pdeathsig", end] if setpriv else []
        self._name, self._command, self._log = name, [*prefix, *command], log
        self._stop_with = stop_with
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool], **options: Any) -> None:
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the tests, which then end the servers in order.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        wait_until(
            ready,
            process=self._process,
            within_s=START_TIMEOUT_S,
            log=self._log_tail,
            name=self._name,
        )

    def stop(self) -> None:
        """End it, by its id, and wait for that; do nothing if it was not started."""
        if self._process is not None:
            self._process.send_signal(self._stop_with)
            stop(self._process, grace_s=STOP_TIMEOUT_S)

    def show_log(self) -> None:
        sys.stderr.write(f"--- the end of {self._name}'s log ---\n{self._log_tail()}\n")

    def _log_tail(self) -> str:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-LOG_LINES:])
