"""The stand-in for AWS: ministack on a free local port, with nothing left behind.

::

    with StandIn(ca=trustme.CA()) as aws:
        subprocess.run([...], env=aws.child_environment(os.environ))
        aws.client("sqs").list_queues()

Deployed functions run as its child processes, under its interpreter. With a certificate authority,
they and all other clients call it over TLS. ``docs/local.md`` lists the differences from AWS.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config

from local import certificates, processes
from local.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Mapping

    import trustme

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_EXECUTABLE = REPOSITORY / ".venv-aws" / "bin" / "ministack"
DEFAULT_REGION = "eu-west-1"
MAKE_TARGET = "make .venv-aws"

# The emulator's root user, also when it checks signatures.
ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "test"  # noqa: S105 - a constant of the emulator, opens nothing

START_WITHIN_S = 20.0
STOP_GRACE_S = 3.0
REQUEST_TIMEOUT_S = 10.0
LOG_TAIL_CHARS = 4_000
START_ATTEMPTS = 3


class StandInMissingError(RuntimeError):
    """The emulator is not installed; the message names the make target."""


class StandIn:
    """A context manager around one emulator process.

    Args:
        executable: the ``ministack`` command.
        region: its AWS region.
        auth: check signatures and IAM policies.
        ca: certificate authority of :attr:`endpoint`; without it, the endpoint is plain HTTP.
        delay_s: seconds per round trip to :attr:`endpoint`; only with *ca*.

    Raises:
        StandInMissingError: on entering, *executable* does not exist.
        local.processes.StartError: on entering, it does not start; with its log.

    """

    def __init__(
        self,
        executable: Path = DEFAULT_EXECUTABLE,
        *,
        region: str = DEFAULT_REGION,
        auth: bool = False,
        ca: trustme.CA | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.executable = executable
        self.region = region
        self.auth = auth
        self.ca = ca
        self.delay_s = delay_s
        self.port = 0
        self.relay: Relay | None = None
        """Terminates TLS and counts calls and bytes; None without an authority."""
        # One for all clients, since a session caches the services' models.
        self._session = boto3.session.Session(
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name=region,
        )
        self._one_at_a_time = threading.Lock()
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._running = ExitStack()

    def __enter__(self) -> Self:
        if not self.executable.exists():
            message = f"{self.executable} is missing: run `{MAKE_TARGET}` first"
            raise StandInMissingError(message)
        self._home = tempfile.TemporaryDirectory(
            prefix="flagstore-stand-in-", ignore_cleanup_errors=True
        )
        try:
            if self.ca is not None:
                self._open_tls(self.ca)
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def endpoint(self) -> str:
        """The base URL of all services, without a trailing slash; https with an authority."""
        if self.relay is None:
            return self.plain_endpoint
        return f"https://127.0.0.1:{self.relay.port}"

    @property
    def plain_endpoint(self) -> str:
        """The base URL without TLS."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """PEM file of the authority, if there is one."""
        return self._directory / "ca.pem"

    @property
    def ca_bundle(self) -> Path:
        """PEM file of the system's authorities and this one."""
        return self._directory / "ca-bundle.pem"

    @property
    def trust(self) -> dict[str, str]:
        """The variables that make a process trust the endpoint; none without an authority."""
        if self.relay is None:
            return {}
        # For boto3 and command line tools, and for Python's TLS.
        return dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE"), str(self.ca_bundle))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that direct SDKs and command line tools to the stand-in only."""
        nothing = str(self._directory / "no-such-file")
        return {
            **self.trust,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            # A developer's profiles must not lead to a real account.
            "AWS_CONFIG_FILE": nothing,
            "AWS_SHARED_CREDENTIALS_FILE": nothing,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, config: Config | None = None) -> Any:  # noqa: ANN401 - dynamic
        """Return a boto3 client of the stand-in, whatever this process's environment."""
        session: Any = self._session
        direct = Config(proxies={})
        with self._one_at_a_time:
            return session.client(
                service,
                endpoint_url=self.endpoint,
                # Reading the system's authorities takes longer than most calls.
                verify=None if self.relay is None else str(self.ca_file),
                config=direct if config is None else direct.merge(config),
            )

    def child_environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return *base* for a child process, with all ``AWS_*`` variables replaced.

        ``AWS_PROFILE`` and others take precedence over the endpoint, so none is kept; proxies
        are bypassed for this machine.
        """
        kept = {name: value for name, value in base.items() if not name.startswith("AWS_")}
        direct = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1"]))
        return {**kept, **self.environment, "NO_PROXY": direct, "no_proxy": direct}

    def reset(self) -> None:
        """Delete everything: tables, queues, stacks, functions.

        Raises:
            RuntimeError: the emulator did not respond with 200.

        """
        status, body = self._request("POST", "/_ministack/reset")
        if status != http.client.OK:
            message = f"reset responded {status}: {body[:200]!r}\n{self.log()}"
            raise RuntimeError(message)

    def log(self) -> str:
        """Return the end of the emulator's log, for error messages."""
        text = (self._directory / "log").read_text(encoding="utf-8", errors="replace")
        return text[-LOG_TAIL_CHARS:]

    @property
    def _directory(self) -> Path:
        if self._home is None:
            message = "the stand-in is not running: use it as a context manager"
            raise RuntimeError(message)
        return Path(self._home.name)

    def _open_tls(self, ca: trustme.CA) -> None:
        self.ca_file.write_bytes(ca.cert_pem.bytes())
        self.ca_bundle.write_bytes(certificates.bundle(ca))
        tls = certificates.server_context(ca.issue_cert(*certificates.NAMES))
        self.relay = self._running.enter_context(Relay(tls=tls, delay_s=self.delay_s))

    def _start(self) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            self.port = processes.free_port()
            if self.relay is not None:
                self.relay.target = self.port
            with (self._directory / "log").open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - no shell
                    [self.executable],
                    env=self._own_environment(),
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # An interrupt from the terminal reaches this process only, and the
                    # functions' processes are stopped with their parent.
                    start_new_session=True,
                )
            try:
                self._wait(self._process)
            except processes.StartError:
                # Another process may have taken the port.
                if attempt == START_ATTEMPTS or "already in use" not in self.log():
                    raise
                processes.stop(self._process, grace_s=0)
            else:
                return

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        processes.wait_until(
            self._ready, process=process, within_s=START_WITHIN_S, log=self.log, name="ministack"
        )

    def _ready(self) -> bool:
        # Another emulator may have taken the port.
        if "Running on" not in self.log():
            return False
        try:
            status, _ = self._request("GET", "/_ministack/ready")
        except OSError:
            return False
        return status == http.client.OK

    def _request(
        self, method: str, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _own_environment(self) -> dict[str, str]:
        # Functions inherit it: the variables of AWS Lambda and the emulator's settings, none of
        # the developer's.
        home = str(self._directory)
        # Without these, functions call the emulator directly, without TLS.
        over_tls = {"AWS_ENDPOINT_URL": self.endpoint, **self.trust} if self.relay else {}
        return {
            **over_tls,
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "HOME": home,
            "TMPDIR": home,
            "STATE_DIR": str(self._directory / "state"),
            "S3_DATA_DIR": str(self._directory / "s3"),
            "GATEWAY_PORT": str(self.port),
            # It runs uploaded code, so it must not listen on all interfaces.
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": self.region,
            "AUTH": "true" if self.auth else "false",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            # It would remove containers of earlier runs.
            "DOCKER_HOST": f"unix://{home}/no-docker.sock",
        }

    def _end(self) -> None:
        if self._process is not None:
            # The parent stops its functions' processes; killed later, they would stay as zombies
            # in a container without an init process.
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._request("POST", "/_ministack/reset", timeout_s=STOP_GRACE_S)
            processes.stop(self._process, grace_s=STOP_GRACE_S)
            self._process = None
        self._running.close()
        self.relay = None
        if self._home is not None:
            self._home.cleanup()
            self._home = None
