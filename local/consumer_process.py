"""Runs ``consumer.py`` with what a function of yours would have, and nothing else.

That is the deployed layer, and a user with FlagReaderPolicy; for Redis its URL instead, without any
access to AWS. Python starts without site-packages, so a missing dependency of the reader fails.
"""

from __future__ import annotations

import http.client
import io
import os
import queue
import subprocess
import sys
import tempfile
import threading
import zipfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from local import processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.deploy import Deployed
    from local.providers import Store
    from local.stand_in import StandIn

SCRIPT = Path(__file__).with_name("consumer.py")
USER = "a-team-of-yours"
DOWNLOAD_WITHIN_S = 10.0
STOP_GRACE_S = 1.0


class ConsumerError(RuntimeError):
    """The consumer ended or printed nothing; the message holds its output."""


class Consumer:
    """A context manager that prepares layer and credentials; ``start`` starts the process.

    Attributes:
        command: what ``start`` runs, before the flags.
        equipment: what the process has, as shown.
        freshness: when it sees a change, as shown.
        by_hand: what else can be tried, as shown; empty for nothing.

    """

    # -S: no site-packages. -P: no folder of this repository.
    command: Sequence[str | Path] = (sys.executable, "-SP", SCRIPT)
    freshness = "It checks for changes every 0.5 s here; the default is 30 s."
    by_hand = ""

    def __init__(self, stand_in: StandIn, deployed: Deployed, store: Store, source: str) -> None:
        self._stand_in = stand_in
        self._deployed = deployed
        self._store = store
        self._source = source
        self.equipment = f"only the deployed layer and {store.access}"
        self._environment: dict[str, str] = {}
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._output: list[str] = []
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        home = tempfile.TemporaryDirectory(prefix="flagstore-consumer-")
        folder = self._exit.enter_context(home)
        self._environment = {"PATH": os.defpath, **self._variables(folder)}
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def start(self, flags: Sequence[str]) -> None:
        """Start the process, which prints these flags."""
        process = subprocess.Popen(  # noqa: S603 - no shell
            [*self.command, *flags],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._exit.callback(processes.stop, process, grace_s=STOP_GRACE_S)
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def line(self, within_s: float | None) -> str:
        """Return the next line, waiting at most so many seconds, or without a limit.

        Raises:
            ConsumerError: there is none, or it is a traceback.

        """
        line = self._next(within_s)
        if line is not None and not line.startswith("Traceback"):
            return line
        while line is not None:  # the whole traceback
            line = self._next(within_s)
        last = self._output[-1] if self._output else "no output"
        message = f"the consumer: {last}\n" + "\n".join(self._output)
        raise ConsumerError(message)

    def _next(self, within_s: float | None) -> str | None:
        try:
            return self._lines.get(timeout=within_s)
        except queue.Empty:
            return None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout as output:
            for line in output:
                self._output.append(line.rstrip())
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def _variables(self, folder: str) -> dict[str, str]:
        """Return the process's variables, with what they name in the folder."""
        self._unpack(self._deployed.layer_arn, folder)
        return {
            **self._access(),
            "PYTHONPATH": str(Path(folder, "python")),
            "FLAGSTORE_SOURCE": self._source,
            "FLAGSTORE_USAGE": "counts",
        }

    def _unpack(self, layer_arn: str, folder: str) -> None:
        """Download a deployed layer into the folder."""
        functions = self._stand_in.client("lambda")
        version = functions.get_layer_version_by_arn(Arn=layer_arn)
        url = urlsplit(version["Content"]["Location"])
        connection = http.client.HTTPConnection(url.netloc, timeout=DOWNLOAD_WITHIN_S)
        with closing(connection):
            connection.request("GET", f"{url.path}?{url.query}")
            packed = connection.getresponse().read()
        with zipfile.ZipFile(io.BytesIO(packed)) as layer:
            layer.extractall(folder)

    def _access(self) -> dict[str, str]:
        """Return the variables for access to the flags, and to nothing else."""
        if self._store.redis_url:
            return {
                "FLAGSTORE_REDIS_URL": self._store.redis_url,
                "FLAGSTORE_REDIS_CA_FILE": self._store.redis_ca_file,
            }
        iam = self._stand_in.client("iam")
        iam.create_user(UserName=USER)
        iam.attach_user_policy(UserName=USER, PolicyArn=self._deployed.reader_policy_arn)
        key = iam.create_access_key(UserName=USER)["AccessKey"]
        return {
            **self._stand_in.environment,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "FLAGSTORE_TABLE": self._deployed.table,
        }
