"""Run one built function as AWS Lambda would, without a container.

The Runtime Interface Emulator ships inside aws-sam-cli (``sam local invoke`` copies it into its
container); here it runs directly, with the runtime client that AWS' Python runtime uses::

    with RuntimeEmulator(Path(".aws-sam/build/SyncFunction"), "storesync.sync.handler") as function:
        assert function.invoke(event).error is None

The interpreter's environment should hold what AWS' runtime holds and nothing else, so that a
dependency which was not bundled is missing here as well.
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
    from collections.abc import Mapping, Sequence
    from types import TracebackType

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_PYTHON = REPOSITORY / ".venv-lambda" / "bin" / "python"
DEFAULT_SAM_ENVIRONMENT = REPOSITORY / ".venv-sam"
DEFAULT_REGION = "eu-west-1"

INVOKE_PATH = "/2015-03-31/functions/function/invocations"
START_WITHIN_S = 10.0
STOP_GRACE_S = 2.0
# The emulator responses up to 0.1 s after the limit, and it starts the interpreter within the call.
RESPONSE_MARGIN_S = 10.0
LOG_WITHIN_S = 0.5


class RuntimeMissingError(RuntimeError):
    """The emulator or the runtime is not installed; the text says which make target does that."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """What came of one call.

    Attributes:
        payload: what the handler returned, or the error document that stands in its place; the
            text as it came where that is no JSON (a timeout).
        error: the type of the error that was raised (``Task.TimedOut`` for a timeout), or None.
        log: what the function and the emulator wrote during the call.

    """

    payload: Any
    error: str | None
    log: str


class RuntimeEmulator:
    """A context manager around one execution environment of one function.

    As in AWS it handles one call at a time (``invoke`` waits for its turn), keeps its modules
    between calls, and starts afresh after a timeout or a crash.

    Args:
        artefact: the folder that ``sam build`` made; ``/var/task`` on AWS.
        handler: ``package.module.function``.
        environment: the function's variables, and those that lead its SDK somewhere.
        timeout_s: the function's timeout, whole seconds.
        memory_mb: what the context says; nothing limits the process to it.
        layers: unpacked layers; their ``python`` folders are importable, after the artefact.
        python: an interpreter with awslambdaric.
        sam_environment: the virtual environment of aws-sam-cli.

    Raises:
        RuntimeMissingError: on entering, if something is not installed.
        local.processes.StartError: on entering, with the log, if it does not come up.

    """

    def __init__(  # noqa: PLR0913 - all but two have a default
        self,
        artefact: Path,
        handler: str,
        environment: Mapping[str, str] | None = None,
        *,
        timeout_s: int = 30,
        memory_mb: int = 256,
        layers: Sequence[Path] = (),
        python: Path = DEFAULT_PYTHON,
        sam_environment: Path = DEFAULT_SAM_ENVIRONMENT,
    ) -> None:
        self.artefact = artefact.resolve()
        self.handler = handler
        self.environment = dict(environment or {})
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self.layers = [layer.resolve() for layer in layers]
        self.python = python
        self.sam_environment = sam_environment
        self._one_at_a_time = threading.Lock()
        self._port = 0
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        emulator = self._emulator()
        if not self.python.exists():
            message = f"{self.python} is missing: run `make .venv-lambda` first"
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def invoke(self, event: object) -> Invocation:
        """Call the handler with *event*, which must be serialisable as JSON.

        The first call includes importing the handler's module.

        Raises:
            RuntimeError: the emulator gave no response; the text holds the log of the call.

        """
        # A second request while one is in flight makes the emulator crash.
        with self._one_at_a_time:
            start = len(self.log())
            connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=self.timeout_s + RESPONSE_MARGIN_S
            )
            try:
                connection.request("POST", INVOKE_PATH, json.dumps(event))
                body = connection.getresponse().read().decode()
            except (OSError, http.client.HTTPException) as error:
                message = f"the Runtime Interface Emulator broke off\n{self.log()[start:]}"
                raise RuntimeError(message) from error
            finally:
                connection.close()
            payload, error_type = _read_response(body)
            return Invocation(payload=payload, error=error_type, log=self._log_of_call(start))

    def log(self) -> str:
        """Return everything that the function and the emulator wrote so far."""
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
        found = list(self.sam_environment.glob(pattern))
        if not found:
            message = (
                f"{self.sam_environment} holds no Runtime Interface Emulator: "
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
            *(self.python, "-m", "awslambdaric", self.handler),
        ]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a path of ours, no shell
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
        # Made from nothing, as in AWS: what a test forgets to pass must be missing.
        home = str(self._directory)
        imports = [self.artefact, *(layer / "python" for layer in self.layers)]
        return {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "HOME": home,
            "TMPDIR": home,
            "PYTHONPATH": os.pathsep.join(map(str, imports)),
            # /var/task can't be written to; new .pyc files would hide that some were not built.
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
        # The response may overtake the last lines, of which REPORT is the very last.
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
            self._home.cleanup()
            self._home = None


def _read_response(body: str) -> tuple[Any, str | None]:
    """Return the payload and the type of the error that it tells of.

    The emulator sends errors with the same status as results, and no header that tells them apart.
    """
    try:
        payload = json.loads(body)
    except ValueError:
        return body, "Task.TimedOut" if body.startswith("Task timed out") else "Runtime.Unknown"
    if isinstance(payload, dict) and "errorType" in payload:
        return payload, str(payload["errorType"])
    return payload, None
