"""Runs ``consumer.py`` with what one of your functions would have, and nothing else.

That is the layer as it was deployed, and a user who may do what FlagReaderPolicy grants; where the
flags are in Redis, its URL instead, and nothing of AWS. Python starts without site-packages, so a
dependency of the reader would be missing here.
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
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from local import processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.deploy import Deployed
    from local.stand_in import StandIn
    from local.stores import Store

CONSUMER = Path(__file__).with_name("consumer.py")
USER = "a-team-of-yours"
DOWNLOAD_WITHIN_S = 10.0
STOP_GRACE_S = 1.0


class ConsumerError(RuntimeError):
    """The consumer ended or said nothing; the text holds what it said before."""


class ConsumerProcess:
    """A context manager: on entering it gets layer and rights ready; ``start`` starts it."""

    def __init__(self, stand_in: StandIn, deployed: Deployed, store: Store, source: str) -> None:
        self._stand_in = stand_in
        self._deployed = deployed
        self._store = store
        self._source = source
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._said: list[str] = []

    def __enter__(self) -> Self:
        self._home = tempfile.TemporaryDirectory(prefix="flagstore-consumer-")
        self._unpack_layer(Path(self._home.name))
        self._environment = {
            **self._access(),
            "PATH": os.defpath,
            "PYTHONPATH": str(Path(self._home.name, "python")),
            "FLAGSTORE_SOURCE": self._source,
        }
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            processes.stop(self._process, grace_s=STOP_GRACE_S)
            self._process = None
        if self._home is not None:
            self._home.cleanup()
            self._home = None

    def start(self, flags: Sequence[str]) -> None:
        """Start it; it prints these flags."""
        self._process = subprocess.Popen(  # noqa: S603 - our own script, no shell
            # -S: no site-packages. -P: no folder of this repository.
            [sys.executable, "-SP", CONSUMER, *flags],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def line(self, within_s: float | None) -> str:
        """Return the next line that it prints, waiting for it so long, or for ever.

        Raises:
            ConsumerError: there is none.

        """
        line = self._next(within_s)
        if line is not None and not line.startswith("Traceback"):
            return line
        while line is not None:  # all of the traceback
            line = self._next(within_s)
        what = self._said[-1] if self._said else "it said nothing"
        message = f"the consumer: {what}\n" + "\n".join(self._said)
        raise ConsumerError(message)

    def _next(self, within_s: float | None) -> str | None:
        try:
            return self._lines.get(timeout=within_s)
        except queue.Empty:
            return None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        with process.stdout as said:
            for line in said:
                self._said.append(line.rstrip())
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def _unpack_layer(self, folder: Path) -> None:
        functions = self._stand_in.client("lambda")
        version = functions.get_layer_version_by_arn(Arn=self._deployed.layer_arn)
        url = urlsplit(version["Content"]["Location"])
        connection = http.client.HTTPConnection(url.netloc, timeout=DOWNLOAD_WITHIN_S)
        try:
            connection.request("GET", f"{url.path}?{url.query}")
            content = connection.getresponse().read()
        finally:
            connection.close()
        with zipfile.ZipFile(io.BytesIO(content)) as layer:
            layer.extractall(folder)

    def _access(self) -> dict[str, str]:
        """Return what leads to the flags, and nowhere else."""
        if self._store.redis_url:
            return {
                "FLAGSTORE_REDIS_URL": self._store.redis_url,
                "FLAGSTORE_REDIS_CA_FILE": self._store.redis_ca_file,
            }
        return {
            **self._stand_in.environment,
            **self._credentials(),
            "FLAGSTORE_TABLE": self._deployed.table,
        }

    def _credentials(self) -> dict[str, str]:
        iam = self._stand_in.client("iam")
        iam.create_user(UserName=USER)
        iam.attach_user_policy(UserName=USER, PolicyArn=self._deployed.reader_policy_arn)
        key = iam.create_access_key(UserName=USER)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
