"""A provider, our real pipeline, a table or a Redis, and the provider's own SDKs beside it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport
from flagstore.stores.redis import RedisReader, SocketTransport, parse_url
from storesync import providers
from storesync.http import HttpClient
from storesync.model import Report, Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline, SystemClock
from storesync.stores import Stores
from storesync.stores.dynamodb import DynamoDBStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore import Snapshot
    from local.stand_in import StandIn
    from simulators.aws import Table
    from simulators.redis_server import Server as RedisServer
    from simulators.server import ProviderServer
    from storesync.model import Clock

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-sdks" / "bin" / "python"
NODE_FOLDER = HERE / "node"
MODULES = [str(HERE), str(HERE.parents[1] / "src")]
"""Where scripts find our adapters, and what counts their reads."""
SOURCE = "prod"
TIMEOUT_S = 60


class Scripts:
    """Runs the scripts of this folder, which say on a line for each context what an SDK says."""

    def environment(self) -> dict[str, str]:
        """Return what the scripts find in their environment."""
        return dict(os.environ)

    def python(self, script: str, **task: Any) -> list[str]:
        """Run a script among the Python SDKs; one text for each context."""
        if not PYTHON.exists():
            pytest.skip(".venv-sdks is missing: run `make setup`")
        return self._run([str(PYTHON), "-I", str(HERE / script)], task)

    def node(self, script: str, **task: Any) -> list[str]:
        """Run a script among the Node.js SDKs; one text for each context."""
        return self._run([node(), str(NODE_FOLDER / script)], task)

    def _run(self, command: list[str], task: dict[str, Any]) -> list[str]:
        done = subprocess.run(
            command,
            input=json.dumps(task),
            env=self.environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # Texts, since 1, 1.0 and true are equal in Python.
        return [json.dumps(json.loads(line), sort_keys=True) for line in done.stdout.splitlines()]


@dataclass
class Rig(Scripts):
    """One table and one provider."""

    aws: StandIn
    table: Table
    server: ProviderServer
    provider: str
    clock: Clock = field(default_factory=SystemClock)

    def environment(self) -> dict[str, str]:
        """Let the scripts find the table."""
        known = self.aws.child_environment(os.environ)
        return {**known, "FLAGSTORE_TABLE": self.table.name, "FLAGSTORE_SNAPSHOT_REPLICAS": "1"}

    def adapted(self, script: str, **task: Any) -> tuple[list[str], list[str]]:
        """Run a script among the Python SDKs on our adapter.

        Returns one text for each context, and what was read of the table for all of them.
        """
        *lines, calls = self.python(script, **task, snapshot=SOURCE, path=MODULES)
        return lines, json.loads(calls)

    def place(self) -> dict[str, str]:
        """Return where the scripts find the rows."""
        return {"table": self.table.name, "prefix": SOURCE}

    def sync(self, client: Any = None, **options: Any) -> Report:
        """Run one sync, as a sync request of the schedule would; options are the source's."""
        source, deadline = _source(self.server, self.provider, **options), _deadline(self.clock)
        store = DynamoDBStore(client or self.table.client, self.table.name, deadline)
        sync = Sync(
            source, providers.get(self.provider), store, http=HttpClient(), deadline=deadline
        )
        return sync.run([SyncRequest(SOURCE, trigger="schedule")])

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Give what a fresh reader reads."""
        environment = self.aws.environment
        lean = LeanTransport(environment["AWS_DEFAULT_REGION"], self.aws.endpoint, environment)
        try:
            yield Client(SOURCE, store=DynamoDBReader(self.table.name, lean)).snapshot()
        finally:
            lean.close()

    def rows(self, prefix: str = SOURCE) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the rows under a prefix that SDKs may read, as DynamoDB has them."""
        found = {}
        for section in ("features", "segments", "$inited"):
            for page in self.table.client.get_paginator("query").paginate(
                TableName=self.table.name,
                KeyConditionExpression="namespace = :n",
                ExpressionAttributeValues={":n": {"S": f"{prefix}:{section}"}},
            ):
                found |= {(section, item["key"]["S"]): item for item in page["Items"]}
        return found


@dataclass
class RedisRig(Scripts):
    """One Redis and one provider. Rows lie where the sync function would have put them."""

    redis: RedisServer
    server: ProviderServer
    provider: str
    login: str = ""
    """User and password of the SDKs, as ``user:password``."""

    def place(self) -> dict[str, str]:
        """Return where the scripts find the rows."""
        user, _, password = self.login.partition(":")
        return {"redis": self.redis.url(user, password), "prefix": f"{{{SOURCE}}}"}

    def sync(self, **options: Any) -> Report:
        """Run one sync, as a sync request of the schedule would; options are the source's."""
        stored = {"store": "redis", "store_url": Secret(self.redis.url()), **options}
        source, deadline = _source(self.server, self.provider, **stored), _deadline(SystemClock())
        no_table: Any = None
        store = Stores(no_table, "").open(source, deadline)
        sync = Sync(
            source, providers.get(self.provider), store, http=HttpClient(), deadline=deadline
        )
        return sync.run([SyncRequest(SOURCE, trigger="schedule")])

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Give what a fresh reader reads."""
        address = parse_url(self.redis.url())
        assert address is not None
        with contextlib.closing(SocketTransport(address)) as transport:
            yield Client(SOURCE, store=RedisReader(transport)).snapshot()


def _source(server: Any, provider: str, **options: Any) -> Source:
    key = Secret(server.sdk_key)
    return Source(SOURCE, provider, server.url, key, allow_http=True, **options)


def _deadline(clock: Clock) -> Deadline:
    return Deadline(clock, random.Random(1), TIMEOUT_S)


def node(package: str = "") -> str:
    """Return the command of Node.js, or skip the test where it or the package is missing."""
    command = shutil.which("node")
    if command is None or not (NODE_FOLDER / "node_modules").exists():
        pytest.skip("the SDKs for Node.js are missing: run `make setup-e2e`")
    if package and not _has(command, package):
        pytest.skip(
            f"allowed: {package} is not among the locked packages; to have it tested: "
            f"npm install --no-save {package}, in {NODE_FOLDER.relative_to(HERE.parents[1])}"
        )
    return command


def _has(command: str, package: str) -> bool:
    code = f"require.resolve({json.dumps(package)})"
    done = subprocess.run([command, "-e", code], cwd=NODE_FOLDER, capture_output=True, check=False)
    return done.returncode == 0


def same(ours: list[str], theirs: list[str], contexts: list[Any]) -> None:
    """Assert that all results are equal; show the first that is not."""
    assert len(ours) == len(theirs) == len(contexts) > 0
    for mine, other, context in zip(ours, theirs, contexts, strict=True):
        if mine != other:
            assert {"context": context, **json.loads(mine)} == {
                "context": context,
                **json.loads(other),
            }
        assert mine == other
