"""Run one built function as AWS Lambda does, without a container.

The Runtime Interface Emulator is part of aws-sam-cli, and the runtime client is that of AWS's
Python runtime::

    with RuntimeEmulator(Path(".aws-sam/build/SyncFunction"), "storesync.sync.handler") as function:
        assert function.invoke(event).error is None

The interpreter should have only the packages of AWS's runtime, so that a dependency that was not
bundled is missing.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from local import processes

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_PYTHON = REPOSITORY / ".venv-lambda" / "bin" / "python"
DEFAULT_SAM_ENVIRONMENT = REPOSITORY / ".venv-sam"
DEFAULT_REGION = "eu-west-1"

INVOKE_PATH = "/2015-03-31/functions/function/invocations"
START_WITHIN_S = 10.0
STOP_GRACE_S = 2.0
# The emulator starts the interpreter within the call, and responds up to 0.1 s after the limit.
RESPONSE_MARGIN_S = 10.0
LOG_WITHIN_S = 0.5


class RuntimeMissingError(RuntimeError):
    """The emulator or the runtime is not installed; the message names the make target."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The result of one call.

    Attributes:
        payload: the handler's result or its error document; a string if it is not JSON (a timeout).
        error: the type of the error (``Task.TimedOut`` for a timeout), or None.
        log: the output of the function and the emulator during the call.

    """

    payload: Any
    error: str | None
    log: str


class RuntimeEmulator:
    """A context manager around one execution environment of one function.

    As in AWS it handles one call at a time, keeps its modules between calls, and restarts after a
    timeout or a crash.

    Args:
        artefact: the output folder of ``sam build``; ``/var/task`` on AWS.
        handler: ``package.module.function``.
        environment: the function's variables, and the endpoint of its SDK.
        timeout_s: the function's timeout in whole seconds.
        memory_mb: the memory size in the context; it is not enforced.

    Raises:
        RuntimeMissingError: on entering, something is not installed.
        local.processes.StartError: on entering, it does not start; with its log.

    """

    def __init__(
        self,
        artefact: Path,
        handler: str,
        environment: Mapping[str, str] | None = None,
        *,
        timeout_s: int = 30,
        memory_mb: int = 256,
    ) -> None:
        self.artefact = artefact.resolve()
        self.handler = handler
        self.environment = dict(environment or {})
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self._one_at_a_time = threading.Lock()
        self._port = 0
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._last_log = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        emulator = self._emulator()
        if not DEFAULT_PYTHON.exists():
            message = f"{DEFAULT_PYTHON} is missing: run `make .venv-lambda` first"
            raise RuntimeMissingError(message)
        self._home = tempfile.TemporaryDirectory(
            prefix="flagstore-lambda-", ignore_cleanup_errors=True
        )
        try:
            self._start(emulator)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def invoke(self, event: object) -> Invocation:
        """Call the handler with a JSON event. The first call imports the handler's module.

        Raises:
            RuntimeError: the emulator gave no response; the message holds the log of the call.

        """
        # A second request in flight crashes the emulator.
        with self._one_at_a_time:
            start = len(self.log())
            connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=self.timeout_s + RESPONSE_MARGIN_S
            )
            try:
                connection.request("POST", INVOKE_PATH, json.dumps(event))
                body = connection.getresponse().read().decode()
            except (OSError, http.client.HTTPException) as error:
                message = (
                    f"the Runtime Interface Emulator closed the connection\n{self.log()[start:]}"
                )
                raise RuntimeError(message) from error
            finally:
                connection.close()
            payload, error_type = _read_response(body)
            return Invocation(payload=payload, error=error_type, log=self._log_of_call(start))

    def log(self) -> str:
        """Return all output of the function and the emulator, also once they have ended."""
        if self._home is None and self._last_log:
            return self._last_log
        return (self._directory / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def _directory(self) -> Path:
        if self._home is None:
            message = "the function is not running: use the emulator as a context manager"
            raise RuntimeError(message)
        return Path(self._home.name)

    def _emulator(self) -> Path:
        machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
        pattern = f"lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"
        found = list(DEFAULT_SAM_ENVIRONMENT.glob(pattern))
        if not found:
            message = (
                f"{DEFAULT_SAM_ENVIRONMENT} holds no Runtime Interface Emulator: "
                "run `make .venv-sam` first"
            )
            raise RuntimeMissingError(message)
        return found[0]

    def _start(self, emulator: Path) -> None:
        self._port = processes.free_port()
        command: list[str | Path] = [
            emulator,
            *("--log-level", "info"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"),
            *("--runtime-api-address", f"127.0.0.1:{processes.free_port()}"),
            *(DEFAULT_PYTHON, "-m", "awslambdaric", self.handler),
        ]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - no shell
                command,
                env=self._own_environment(),
                cwd=self.artefact,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        processes.wait_until(
            lambda: processes.listening(self._port),
            process=self._process,
            within_s=START_WITHIN_S,
            log=self.log,
            name="the Runtime Interface Emulator",
        )

    def _own_environment(self) -> dict[str, str]:
        # Only the variables of AWS Lambda and those of the caller.
        home = str(self._directory)
        return {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "HOME": home,
            "TMPDIR": home,
            "PYTHONPATH": str(self.artefact),
            # /var/task is read-only.
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAMBDA_TASK_ROOT": str(self.artefact),
            "AWS_LAMBDA_FUNCTION_NAME": "function",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_s),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_REGION": DEFAULT_REGION,
            "AWS_DEFAULT_REGION": DEFAULT_REGION,
            **self.environment,
        }

    def _log_of_call(self, start: int) -> str:
        # The response may come before the last line, which is REPORT.
        deadline = time.monotonic() + LOG_WITHIN_S
        while "REPORT RequestId" not in (text := self.log()[start:]):
            if time.monotonic() > deadline:
                break
            time.sleep(processes.POLL_S)
        return text

    def _end(self) -> None:
        if self._process is not None:
            processes.stop(self._process, grace_s=STOP_GRACE_S)
            self._process = None
        if self._home is not None:
            self._last_log = self.log()
            self._home.cleanup()
            self._home = None


def _read_response(body: str) -> tuple[Any, str | None]:
    """Return the payload and the type of its error; the emulator's status is the same for both."""
    try:
        payload = json.loads(body)
    except ValueError:
        return body, "Task.TimedOut" if body.startswith("Task timed out") else "Runtime.Unknown"
    if isinstance(payload, dict) and "errorType" in payload:
        return payload, str(payload["errorType"])
    return payload, None
