"""The ``storesync`` command: what all commands share.

Their context (AWS clients, the deployment, its sources and stores), groups, arguments and options.
"""

from __future__ import annotations

import functools
import os
import random
import sys
from typing import TYPE_CHECKING, Any

import boto3
import click
from botocore.config import Config
from botocore.exceptions import ClientError

from flagstore import errors as reader_errors
from flagstore.clients import Client
from flagstore.keys import check_source
from storesync import providers
from storesync.cli.screen import CommandError, Exit, Screen, to_error
from storesync.config import Sources, SyncSettings
from storesync.errors import ConfigurationError
from storesync.http import HttpClient
from storesync.model import SyncRequest
from storesync.published import stored_replicas
from storesync.retry import Deadline, SystemClock, now_ms
from storesync.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.keys import Key, Record, SourceState
    from storesync.model import FlagSet, Source
    from storesync.store import Store
    from storesync.stores import OpenStore

    type Body = Callable[..., int | None]

DEFAULT_STACK = "flagstore"
STEP_S = 300.0
"""Deadline of one step: DynamoDB limits how fast a large set is written."""
SERVE_BASE_URL = "FLAGSTORE_SERVE_BASE_URL"
USAGE_DLQ_URL = "FLAGSTORE_USAGE_DLQ_URL"
TABLE, PREFIX = "FLAGSTORE_TABLE", "FLAGSTORE_PARAMETER_PREFIX"
"""Every command needs these; if one is set, the environment describes the deployment."""
REPLICAS = "FLAGSTORE_SNAPSHOT_REPLICAS"
SET_IT = "set it, or name the stack (--stack)"
SYNC_FUNCTION_S = 310.0
"""Read timeout for SyncFunction: the longest ``SyncTimeout`` plus a cold start."""


class Operator:
    """One run of one command."""

    def __init__(
        self, screen: Screen, stack: str | None, profile: str | None, region: str | None
    ) -> None:
        self.screen = screen
        self.clock = SystemClock()
        self._stack = stack
        _select_credentials(profile, region)
        self._session = boto3.Session()
        self.aws = functools.cache(self._client)
        """Returns the boto3 client of a service."""

    def _client(self, service: str) -> Any:  # noqa: ANN401 - one type per service
        # A function that does not respond may still be running, so it is invoked once.
        invokes = service == "lambda"
        config = Config(
            connect_timeout=3,
            read_timeout=SYNC_FUNCTION_S if invokes else 10,
            retries={"mode": "standard", "total_max_attempts": 1 if invokes else 3},
        )
        return self._session.client(service, config=config)  # type: ignore[call-overload] # any service

    @functools.cached_property
    def deployment(self) -> Deployment:
        """The deployment: the stack of ``--stack``, else the environment's, else the default."""
        if self._stack is None and (os.environ.get(TABLE) or os.environ.get(PREFIX)):
            return Deployment("the environment", os.environ)
        return deployment_from_stack(self._stack or DEFAULT_STACK, self.aws("cloudformation"))

    @functools.cached_property
    def sources(self) -> Sources:
        """The configured sources."""
        return Sources(self.aws("ssm"), self.deployment.prefix, self.clock)

    def path(self, kind: str, name: str) -> str:
        """Return the path of a parameter of a source or a client."""
        return f"{self.deployment.prefix}/{kind}/{name}"

    def source(self, name: str) -> Source:
        """Return a source; CommandError if it does not exist."""
        names = self.sources.names()
        if name not in names:
            known = f"the sources are {', '.join(names)}" if names else "there are no sources yet"
            remedy = f"add it with `storesync source add {name} --provider PROVIDER`; {known}"
            raise CommandError(
                Exit.NOT_FOUND, f"no source {name!r} in {self.deployment.name}", remedy
            )
        return self.sources.get(name)

    def names(self, given: tuple[str, ...]) -> list[str]:
        """Return the names given on the command line, or those of all sources."""
        known = self.sources.names()
        for name in given:
            if name not in known:
                self.source(name)
        return list(given) or known

    def fetch(self, source: Source) -> FlagSet:
        """Fetch the provider's flag set."""
        flag_set = providers.get(source.provider).fetch(source, HttpClient(), "").flag_set
        assert flag_set is not None  # noqa: S101 - without an ETag there is no 304
        return flag_set

    @functools.cached_property
    def _stores(self) -> Stores:
        ca_file = os.environ.get("FLAGSTORE_REDIS_CA_FILE", "")
        return Stores(self.aws("dynamodb"), self.deployment.table, redis_ca_file=ca_file)

    def open(self, source: Source) -> OpenStore:
        """Return the source's store, with a new deadline."""
        return self._stores.open(source, self.deadline())

    def look_up(self, name: str) -> tuple[Source, OpenStore, SourceState]:
        """Return a source, its store with a new deadline, and its state."""
        source = self.source(name)
        store = self.open(source)
        return source, store, store.state(name)

    def reader(self, source: Source) -> Client:
        """Return a flagstore client of the source, like an application's."""
        store = _ReaderStore(self.open(source))
        replicas = self.deployment.replicas or 1
        return Client(source.name, store=store, replicas=replicas, rollout_by="key")

    def replicas(self, source: str, store: Store) -> int:
        """Return the number of replicas of the snapshot record; if unknown, it stays as it is."""
        return self.deployment.replicas or stored_replicas(source, store)

    def request_sync(self, name: str) -> bool:
        """Queue a sync request for a source; return False if the queue is not known."""
        return self.queue(SyncRequest(name, trigger="webhook"))

    def queue(self, request: SyncRequest, delay_s: int = 0) -> bool:
        """Put a sync request on the queue; return False if the queue is not known."""
        url, message = self.deployment.queue_url, request.message()
        if url:
            self.aws("sqs").send_message(QueueUrl=url, MessageBody=message, DelaySeconds=delay_s)
        return bool(url)

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return now_ms(self.clock)

    def deadline(self) -> Deadline:
        """Return a new deadline for one step."""
        return Deadline(self.clock, random.Random(), STEP_S)  # noqa: S311 - jitter


class _ReaderStore:
    """Adapts a writer's store to readers: consistent reads, within the writer's deadline."""

    throttled = 0

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, key: Key, **_: object) -> Record | None:
        return self._store.read(key)

    def prepare(self) -> None:
        pass

    def close(self) -> None:
        pass


def _select_credentials(profile: str | None, region: str | None) -> None:
    """Set the profile and region for every boto3 session of this process.

    AppConfig's requests are signed in a session of their own. As in the AWS command line, a named
    profile takes precedence over keys in variables, and ``AWS_REGION``, which boto3 ignores, over
    ``AWS_DEFAULT_REGION``.
    """
    region = region or os.environ.get("AWS_REGION")
    if region:
        os.environ["AWS_DEFAULT_REGION"] = region
    if profile:
        os.environ["AWS_PROFILE"] = profile
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            os.environ.pop(name, None)


# -- the deployment -------------------------------------------------------------------------------

_OUTPUTS = {
    TABLE: "TableName",
    "FLAGSTORE_QUEUE_URL": "QueueUrl",
    "FLAGSTORE_DLQ_URL": "DlqUrl",
    "FLAGSTORE_WEBHOOK_BASE_URL": "WebhookBaseUrl",
    "FLAGSTORE_SYNC_FUNCTION": "SyncFunctionName",
}
"""Variable → output of the stack."""
_PARAMETERS = {
    PREFIX: "ParameterPrefix",
    REPLICAS: "SnapshotReplicas",
    "FLAGSTORE_RECONCILE_MINUTES": "ReconcileMinutes",
}
"""Variable → parameter of the stack."""


class Deployment:
    """The resources of one deployment, from variables; unknown ones are empty, or 0.

    ``name``: for messages, such as ``stack flagstore``.
    """

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        try:
            settings = SyncSettings.from_env(environ)
        except ConfigurationError as error:
            raise CommandError(Exit.CONFIGURATION, str(error), SET_IT) from None
        self.name = name
        self.table = settings.table
        self.prefix = settings.parameter_prefix
        self.replicas = settings.snapshot_replicas if environ.get(REPLICAS) else 0
        self.reconcile_minutes = settings.reconcile_minutes
        self.queue_url = settings.queue_url
        self.dlq_url = environ.get("FLAGSTORE_DLQ_URL", "")
        self.usage_dlq_url = environ.get(USAGE_DLQ_URL, "")
        self.webhook_base_url = environ.get("FLAGSTORE_WEBHOOK_BASE_URL", "")
        self.serve_base_url = environ.get(SERVE_BASE_URL, "")
        self._environ = environ

    def require(self, variable: str) -> str:
        """Return the value of an optional variable; CommandError if it is not set."""
        value = self._environ.get(variable, "")
        if not value:
            raise CommandError(Exit.CONFIGURATION, f"{variable} is not set", SET_IT)
        return value


def deployment_from_stack(stack: str, formation: Any) -> Deployment:  # noqa: ANN401 - no stubs
    """Read the deployment from the outputs and parameters of a stack."""
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
    try:
        environ = {variable: outputs[name] for variable, name in _OUTPUTS.items()}
        environ |= {variable: given[name] for variable, name in _PARAMETERS.items()}
    except KeyError:
        message = f"stack {stack!r} is not a flagstore stack, or its deployment is incomplete"
        remedy = "check its events and run `sam deploy` again, or name another stack with --stack"
        raise CommandError(Exit.CONFIGURATION, message, remedy) from None
    environ[SERVE_BASE_URL] = outputs.get("ServeBaseUrl", "")  # none without ServeFunction
    environ[USAGE_DLQ_URL] = outputs.get("UsageDlqUrl", "")  # none without UsageFunction
    return Deployment(f"stack {stack}", environ)


# -- commands -------------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def storesync() -> None:
    """Operate a flagstore deployment: its sources, its published flags and their history.

    --stack (or FLAGSTORE_STACK) names the stack of the deployment. Without it, FLAGSTORE_TABLE,
    FLAGSTORE_PARAMETER_PREFIX and so on are used if set, else the stack "flagstore". Options follow
    the command. See docs/cli.md for examples, exit codes and the AWS permissions of each command.

    Start with `storesync source add NAME --provider PROVIDER`, then `storesync status`. If
    something is wrong, `storesync doctor` shows how to fix it.
    """


@storesync.group()
def source() -> None:
    """Add, list and remove sources."""


@storesync.group()
def client() -> None:
    """Add, list and remove clients, which fetch flags from ServeFunction."""


def command(group: click.Group, name: str) -> Callable[[Body], click.Command]:
    """Turn a function that takes an operator and returns an exit code or None into a command."""

    def make(body: Body) -> click.Command:
        @functools.wraps(body)
        def run(
            *,
            as_json: bool,
            stack: str | None,
            profile: str | None,
            region: str | None,
            **given: Any,  # noqa: ANN401 - options of the command
        ) -> None:
            screen = Screen(as_json=as_json)
            try:
                code = body(Operator(screen, stack, profile, region), **given)
            except (click.Abort, KeyboardInterrupt):
                screen.note("interrupted")
                code = Exit.INTERRUPTED
            except Exception as error:  # noqa: BLE001 - to_error raises bugs again
                known = to_error(error, str(given.get("name", "SOURCE")))
                screen.error(known)
                code = known.code
            sys.exit(code)

        shared = (
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
            click.option(
                "--stack",
                envvar="FLAGSTORE_STACK",
                metavar="NAME",
                help='Default: variables, else "flagstore".',
            ),
            click.option("--profile", metavar="NAME", help="Profile of your AWS credentials."),
            click.option("--region", metavar="NAME", help="AWS region of the deployment."),
        )
        for option in reversed(shared):
            run = option(run)
        return group.command(name)(run)

    return make


def source_name(text: str) -> str:
    """Return a name from the command line, if it may be one of a source or a client."""
    try:
        check_source(text)
    except reader_errors.ConfigurationError as error:
        raise click.BadParameter(str(error)) from None
    return text


def _secret(path: str) -> str:
    """Read a secret from a file, since other users of the machine see command lines."""
    try:
        with click.open_file(path, encoding="utf-8") as file:
            text = str(file.read()).strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text:
        raise click.BadParameter(f"{path} is missing, empty or not a text file")
    return text


source_argument = click.argument("name", metavar="SOURCE", type=source_name)
sources_argument = click.argument("names", metavar="[SOURCE]...", type=source_name, nargs=-1)
SECRET: dict[str, Any] = {"type": _secret, "metavar": "FILE"}
"""For options that take a secret: from a file, or from stdin."""
