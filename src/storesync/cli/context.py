"""The context of every command: AWS clients, the deployment, its sources and their stores."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from flagstore import errors as reader_errors
from flagstore.clients import Client
from flagstore.keys import check_source, chunks_namespace
from storesync import providers
from storesync.cli.errors import CommandError, Exit
from storesync.config import Sources
from storesync.http import HttpClient
from storesync.model import SyncRequest
from storesync.retry import Deadline, SystemClock, now_ms
from storesync.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    from flagstore.keys import Key, Record
    from storesync.cli.screen import Screen
    from storesync.model import FlagSet, Source
    from storesync.store import Store
    from storesync.stores import OpenStore

DEFAULT_STACK = "flagstore"
STEP_S = 300.0
"""Deadline of one step: a large set takes as long as its partition in DynamoDB allows."""
SYNC_FUNCTION_S = 310.0
"""Read time-out for SyncFunction: the longest ``SyncTimeout``, and a cold start."""


class Operator:
    """One run of one command."""

    def __init__(
        self, screen: Screen, stack: str | None, profile: str | None, region: str | None
    ) -> None:
        self.screen = screen
        self.clock = SystemClock()
        self._stack = stack
        self._clients: dict[tuple[str, int], Any] = {}
        _select_credentials(os.environ, profile, region)

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session()

    def aws(self, service: str, *, attempts: int = 3) -> Any:  # noqa: ANN401 - one type per service
        """Return the boto3 client of a service, with at most *attempts* attempts per call."""
        if (service, attempts) not in self._clients:
            # A function that does not respond may still be running, so it is invoked once.
            invokes = service == "lambda"
            config = Config(
                connect_timeout=3,
                read_timeout=SYNC_FUNCTION_S if invokes else 10,
                retries={"mode": "standard", "total_max_attempts": 1 if invokes else attempts},
            )
            client = self._session.client(service, config=config)  # type: ignore[call-overload] # any service
            self._clients[service, attempts] = client
        return self._clients[service, attempts]

    @cached_property
    def deployment(self) -> Deployment:
        """The deployment: the stack of ``--stack``, else the environment's, else the default.

        Raises:
            CommandError: it does not exist, or a variable is missing or wrong.
        """
        if self._stack is None and any(os.environ.get(_VARIABLES[field]) for field in _REQUIRED):
            return deployment_from_environment(os.environ)
        return deployment_from_stack(self._stack or DEFAULT_STACK, self.aws("cloudformation"))

    @cached_property
    def sources(self) -> Sources:
        """The configured sources."""
        ssm = self.aws("ssm", attempts=1)  # Parameters has its own retries
        return Sources(ssm, self.deployment.prefix, self.clock)

    def source(self, name: str) -> Source:
        """Return one source.

        Raises:
            CommandError: there is no source of that name.
            ConfigurationError: one of its parameters is wrong.
        """
        check_name(name)
        names = self.sources.names()
        if name not in names:
            known = f"the sources are {', '.join(names)}" if names else "there are no sources yet"
            message = f"no source {name!r} in {self.deployment.name}"
            remedy = f"add it with `storesync source add {name}`; {known}"
            raise CommandError(Exit.NOT_FOUND, message, remedy)
        return self.sources.get(name)

    def names(self, given: tuple[str, ...]) -> list[str]:
        """Return the names given on the command line, or those of all sources.

        Raises:
            CommandError: a source does not exist.
        """
        known = self.sources.names()
        for name in given:
            if name not in known:
                self.source(name)
        return list(given) or known

    def fetch(self, source: Source) -> FlagSet:
        """Fetch the provider's flag set.

        Raises:
            ProviderError: the provider gave no usable response.
        """
        provider = providers.get(source.provider)
        response = provider.fetch(source, HttpClient(), "")
        if response.flag_set is None:
            message = f"{provider.title} responded not modified to a request without an ETag"
            raise CommandError(Exit.PROVIDER, message)
        return response.flag_set

    @cached_property
    def _stores(self) -> Stores:
        ca_file = os.environ.get("FLAGSTORE_REDIS_CA_FILE", "")
        return Stores(self.aws("dynamodb"), self.deployment.table, redis_ca_file=ca_file)

    def open(self, source: Source) -> OpenStore:
        """Return the source's store, with a new deadline."""
        return self._stores.open(source, self.deadline())

    def reader(self, source: Source) -> Client:
        """Return a flagstore client of the source, as an application has one."""
        store = ReaderStore(self.open(source))
        return Client(source.name, store=store, replicas=self.deployment.replicas)

    def request_sync(self, name: str) -> bool:
        """Queue a sync request for a source; return False if the queue is not known."""
        url = self.deployment.queue_url
        if url:
            message = SyncRequest(name, sent_at=self.now_ms(), trigger="webhook").message()
            self.aws("sqs").send_message(QueueUrl=url, MessageBody=message)
        return bool(url)

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return now_ms(self.clock)

    def deadline(self) -> Deadline:
        """Return the deadline of one step, from now on."""
        return Deadline(self.clock, random.Random(), STEP_S)  # noqa: S311 - jitter


class ReaderStore:
    """The reader's store interface over a writer's store. All reads are consistent."""

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
        """Do nothing: the store is open."""

    def close(self) -> None:
        """Do nothing: the operator keeps the store."""


def _select_credentials(
    environ: MutableMapping[str, str], profile: str | None, region: str | None
) -> None:
    """Set the profile and region for every boto3 session of this process.

    AppConfig's requests are signed in a session of their own. As in the AWS command line, a named
    profile takes precedence over keys in variables, and ``AWS_REGION``, which boto3 ignores, over
    ``AWS_DEFAULT_REGION``.
    """
    region = region or environ.get("AWS_REGION")
    if region:
        environ["AWS_DEFAULT_REGION"] = region
    if profile:
        environ["AWS_PROFILE"] = profile
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            environ.pop(name, None)


def check_name(name: str) -> None:
    """Raise unless a string is a valid name of a source.

    Raises:
        CommandError: it is not.
    """
    try:
        check_source(name)
    except reader_errors.ConfigurationError as error:
        raise CommandError(Exit.USAGE, str(error)) from None


# -- the deployment -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deployment:
    """The parts of one deployment. An empty string is an unknown part."""

    name: str
    """As shown: ``stack flagstore``, or ``the environment``."""
    table: str
    prefix: str
    queue_url: str = ""
    dlq_url: str = ""
    webhook_base_url: str = ""
    sync_function: str = ""
    replicas: int = 1

    def require(self, field: str) -> str:
        """Return a part that the environment may leave out.

        Raises:
            CommandError: it is unknown.
        """
        value: str = getattr(self, field)
        if not value:
            name = _VARIABLES[field]
            message = f"{name} is not set"
            raise CommandError(Exit.CONFIGURATION, message, "set it, or name the stack (--stack)")
        return value


_VARIABLES = {
    "table": "FLAGSTORE_TABLE",
    "prefix": "FLAGSTORE_PARAMETER_PREFIX",
    "queue_url": "FLAGSTORE_QUEUE_URL",
    "dlq_url": "FLAGSTORE_DLQ_URL",
    "webhook_base_url": "FLAGSTORE_WEBHOOK_BASE_URL",
    "sync_function": "FLAGSTORE_SYNC_FUNCTION",
}
_REQUIRED = ("table", "prefix")
"""Every command needs these; if one is set, the environment describes the deployment."""
_OUTPUTS = {
    "table": "TableName",
    "queue_url": "QueueUrl",
    "dlq_url": "DlqUrl",
    "webhook_base_url": "WebhookBaseUrl",
    "sync_function": "SyncFunctionName",
}


def deployment_from_environment(environ: Mapping[str, str]) -> Deployment:
    """Read the deployment from variables, at least the table and the parameters' prefix.

    Raises:
        CommandError: names the variables that are missing or wrong.
    """
    values = {field: environ.get(name, "") for field, name in _VARIABLES.items()}
    missing = [_VARIABLES[field] for field in _REQUIRED if not values[field]]
    if missing:
        message = f"{' and '.join(missing)} is not set"
        raise CommandError(Exit.CONFIGURATION, message, "set it, or name the stack (--stack)")
    if not values["prefix"].startswith("/") or values["prefix"].endswith("/"):
        message = f"{_VARIABLES['prefix']} must start with '/' and not end with it"
        remedy = "use the stack's ParameterPrefix, such as /flagstore"
        raise CommandError(Exit.CONFIGURATION, message, remedy)
    name = "FLAGSTORE_SNAPSHOT_REPLICAS"
    replicas = _replicas(name, environ.get(name) or "1")
    return Deployment(name="the environment", **values, replicas=replicas)


def deployment_from_stack(stack: str, formation: Any) -> Deployment:  # noqa: ANN401 - no stubs
    """Read the deployment from the outputs and parameters of a stack.

    Raises:
        CommandError: the stack does not exist, or is not a flagstore stack.
    """
    try:
        found = formation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        message = f"no stack {stack!r} in region {formation.meta.region_name}"
        remedy = (
            "name yours with --stack and --region (`aws cloudformation list-stacks`), "
            "or set FLAGSTORE_TABLE and FLAGSTORE_PARAMETER_PREFIX"
        )
        raise CommandError(Exit.NOT_FOUND, message, remedy) from None
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())}
    given = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}
    missing = [name for name in _OUTPUTS.values() if name not in outputs]
    if missing or "ParameterPrefix" not in given:
        message = f"stack {stack!r} is not a flagstore stack, or its deployment is incomplete"
        remedy = "check its events and run `sam deploy` again, or name another stack with --stack"
        raise CommandError(Exit.CONFIGURATION, message, remedy)
    return Deployment(
        name=f"stack {stack}",
        prefix=given["ParameterPrefix"],
        replicas=_replicas("SnapshotReplicas", given.get("SnapshotReplicas", "1")),
        **{field: outputs[name] for field, name in _OUTPUTS.items()},
    )


def _replicas(name: str, text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 5:  # noqa: PLR2004 - as in template.yaml
        return int(text)
    raise CommandError(Exit.CONFIGURATION, f"{name} must be a number from 1 to 5")
