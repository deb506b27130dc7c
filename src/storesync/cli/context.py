"""What all commands work with: AWS, the deployment, its sources, and their stores."""

from __future__ import annotations

import os
import random
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from flagstore import errors as reader_errors
from flagstore.clients import Client
from flagstore.keys import check_source, chunks_namespace
from storesync import providers
from storesync.cli.deployment import Deployment, find
from storesync.cli.problems import Exit, Problem
from storesync.events import request_message
from storesync.model import SyncRequest
from storesync.retry import Deadline, SystemClock, now_ms
from storesync.sources import Sources
from storesync.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from flagstore.keys import Key, Record
    from storesync.cli.screen import Screen
    from storesync.model import Source
    from storesync.providers.base import Provider
    from storesync.store import Store
    from storesync.stores import OpenStore

SECONDS = 300.0
"""What one step of a command may take: a partition of DynamoDB sets the pace of a large set."""
RUN_SECONDS = 310.0
"""How long a response of SyncFunction is waited for: the longest ``SyncTimeout``, and a start."""


class Operator:
    """One run of one command."""

    def __init__(
        self, screen: Screen, stack: str | None, profile: str | None, region: str | None
    ) -> None:
        self.screen = screen
        self.clock = SystemClock()
        self._stack = stack
        self._clients: dict[tuple[str, int], Any] = {}
        _choose(os.environ, profile, region)

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session()

    def aws(self, service: str, *, attempts: int = 3) -> Any:  # noqa: ANN401 - one type each
        """Return the client of one service, which tries each call so often."""
        if (service, attempts) not in self._clients:
            self._clients[service, attempts] = self._client(service, attempts)
        return self._clients[service, attempts]

    def _client(self, service: str, attempts: int) -> Any:  # noqa: ANN401 - one type each
        # A function that runs is waited for, and never started once more meanwhile.
        runs = service == "lambda"
        config = Config(
            connect_timeout=3,
            read_timeout=RUN_SECONDS if runs else 10,
            retries={"mode": "standard", "total_max_attempts": 1 if runs else attempts},
        )
        return self._session.client(service, config=config)  # type: ignore[call-overload] # any name

    @cached_property
    def deployment(self) -> Deployment:
        """Where everything is."""
        self.screen.progress("looking for the deployment")
        return find(self._stack, os.environ, lambda: self.aws("cloudformation"))

    @cached_property
    def sources(self) -> Sources:
        """The sources that are configured."""
        prefix = self.deployment.prefix
        self.screen.progress(f"reading the parameters under {prefix}")
        return Sources(self.aws("ssm", attempts=1), prefix, self.clock)  # Parameters tries again

    @cached_property
    def _stores(self) -> Stores:
        ca_file = os.environ.get("FLAGSTORE_REDIS_CA_FILE", "")
        return Stores(self.aws("dynamodb"), self.deployment.table, redis_ca_file=ca_file)

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return now_ms(self.clock)

    def deadline(self, seconds: float = SECONDS) -> Deadline:
        """Return the time for one step."""
        return Deadline(self.clock, random.Random(), seconds)  # noqa: S311 - jitter

    def source(self, name: str) -> Source:
        """Return one source.

        Raises:
            Problem: if there is none of that name; says which there are.
            ConfigurationError: if a parameter of it is wrong.
        """
        check_name(name)
        names = self.sources.names()
        if name not in names:
            known = f"there are {', '.join(names)}" if names else "there is none yet"
            remedy = f"`storesync source add {name}` makes it; {known}"
            what = f"no source {name!r} in {self.deployment.name}"
            raise Problem(Exit.NOT_FOUND, what, remedy)
        return self.sources.get(name)

    def request(self, name: str) -> bool:
        """Put a sync request for a source on the queue; say whether the queue is known."""
        url = self.deployment.queue_url
        if url:
            message = request_message(SyncRequest(name, sent_at=self.now_ms(), trigger="webhook"))
            self.aws("sqs").send_message(QueueUrl=url, MessageBody=message)
        return bool(url)

    def names(self, given: tuple[str, ...]) -> list[str]:
        """Return the sources that are meant: those given, all without any."""
        for name in given:
            check_name(name)
            if name not in self.sources.names():
                self.source(name)
        return list(given) or self.sources.names()

    def provider(self, source: Source) -> Provider:
        """Return a source's provider."""
        return providers.get(source.provider)

    def open(self, source: Source) -> OpenStore:
        """Return the store of a source."""
        return self._stores.open(source, self.deadline())

    def reader(self, source: Source) -> Client:
        """Return a reader of a source, as an application has one."""
        replicas = self.deployment.replicas
        return Client(source.name, store=ReaderOver(self.open(source)), replicas=replicas)


class ReaderOver:
    """Lets the reader read from an operator's store, whichever it is. All reads are consistent."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return one record."""
        del consistent, deadline  # the store has its own deadline
        return self._store.read(key)

    def chunks(
        self, source: str, prefix: str, *, deadline: float, start: int = 0
    ) -> Iterator[bytes]:
        """Yield the chunks of one body or large segment, in order."""
        del deadline
        found = self._store.scan(chunks_namespace(source), prefix)
        for chunk in islice(found, start, None):
            yield bytes(chunk.get("body", b""))  # type: ignore[arg-type] # bytes

    def prepare(self) -> None:
        """Need nothing: the store is open."""

    def close(self) -> None:
        """Leave the store to its owner."""


def _choose(environ: MutableMapping[str, str], profile: str | None, region: str | None) -> None:
    """Let every session of this process have the profile and region that a person chose.

    AppConfig's requests are signed by a session of their own, as in SyncFunction. A profile that is
    named goes before keys in variables, and ``AWS_REGION`` before ``AWS_DEFAULT_REGION``, as with
    the AWS command line; boto3 by itself does not know ``AWS_REGION``.
    """
    region = region or environ.get("AWS_REGION")
    if region:
        environ["AWS_DEFAULT_REGION"] = region
    if profile:
        environ["AWS_PROFILE"] = profile
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            environ.pop(name, None)


def check_name(name: str) -> None:
    """See that a name can be that of a source.

    Raises:
        Problem: if not.
    """
    try:
        check_source(name)
    except reader_errors.ConfigurationError as error:
        raise Problem(Exit.USAGE, str(error)) from None
