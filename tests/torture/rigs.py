"""Both stores for one test, and syncs whose client, clock and provider are the test's own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from faults.dynamo import SOURCE, Rig
from faults.redis_rig import RedisRig
from simulators.clock import FakeClock
from simulators.provider import ModelProvider, NoHttp
from storesync.model import Report, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline
from storesync.stores.dynamodb import DynamoDBStore
from storesync.stores.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from storesync.model import Clock

    type AnyRig = Rig | RedisRig
    type AnyStore = DynamoDBStore | RedisStore


@pytest.fixture(params=["dynamodb", "redis"])
def any_rig(request: pytest.FixtureRequest) -> AnyRig:
    """Give an empty store and an empty provider; needs the fixtures of both stores."""
    give: Callable[[str], Any] = request.getfixturevalue
    if request.param == "redis":
        rig = RedisRig(give("redis_server"), ModelProvider())
        request.addfinalizer(rig.close)  # noqa: PT021 - the other rig has nothing to close
        return rig
    return Rig(give("aws"), give("dynamodb_table"), ModelProvider(), FakeClock())


def store(rig: AnyRig, deadline: Deadline | None = None, client: Any = None) -> AnyStore:
    """Return a store as one sync would use it."""
    deadline = deadline or Deadline(rig.clock, random.Random(1), 60)
    if isinstance(rig, RedisRig):
        return RedisStore(client or rig.table.client, deadline)
    return DynamoDBStore(client or rig.table.client, rig.table.name, deadline)


def sync(
    rig: AnyRig,
    *,
    clock: Clock | None = None,
    client: Any = None,
    seconds: float = 60.0,
    seed: int = 1,
    allow_shrink: str = "",
) -> Report:
    """Run one sync of the rig's provider, as a sync request of the schedule would."""
    deadline = Deadline(clock or rig.clock, random.Random(seed), seconds)
    return Sync(
        SOURCE,
        rig.provider,
        store(rig, deadline, client),
        http=NoHttp(),
        deadline=deadline,
        allow_shrink=allow_shrink,
    ).run([SyncRequest("prod", trigger="schedule")])


def replace(rig: AnyRig, flags: dict[str, Any]) -> None:
    """Let the provider have these flags and no others."""
    rig.provider.flags = dict(flags)
    rig.provider.change()


def settle(rig: AnyRig, flags: dict[str, Any]) -> None:
    """Bring the store to one set, rows included."""
    replace(rig, flags)
    while rig.sync().outcome != "unchanged":
        pass
