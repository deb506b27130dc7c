"""T26: a rollback among overlapping syncs keeps its version until the unpin."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from flagstore.keys import SourceState, state_key
from storesync.errors import NotKeptError, NotSettledError
from storesync.maintenance import roll_back, unpin
from storesync.retry import SystemClock

if TYPE_CHECKING:
    from rigs import AnyRig
HOUR_MS = 3_600_000


def state(rig: AnyRig) -> SourceState:
    """Return the current source state."""
    return SourceState.from_record(rig.store().read(state_key("prod")) or {})


@pytest.mark.parametrize(
    "rollbacks", [5, pytest.param(200, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_rollback_among_syncs_keeps_its_version(any_rig: AnyRig, rollbacks: int) -> None:
    """While four threads sync changes, nothing is published from the rollback to the unpin.

    Fencing tokens only grow, and after the unpin, the provider's state is published.
    """
    rng = random.Random(26)
    any_rig.settle({"a": 0, "b": 0})
    any_rig.provider.reveals_revision = False
    any_rig.provider.on_fetch = lambda: time.sleep(rng.uniform(0, 0.004))
    clock = SystemClock()
    errors: list[BaseException] = []
    repeated = 0

    def work(stop: threading.Event, value: int) -> None:
        try:
            while not stop.is_set():
                value += 1
                any_rig.provider.change(a=value, b=value)
                try:
                    any_rig.sync(clock=clock, seconds=30)
                except NotSettledError:
                    continue  # the sync request comes again
        except BaseException as error:  # noqa: BLE001 - the main thread judges it
            errors.append(error)

    for number in range(rollbacks):
        before = state(any_rig)
        stop = threading.Event()
        threads = [
            threading.Thread(target=work, args=(stop, 1_000 * number + 100 * worker))
            for worker in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0, 0.05))
        until = int(clock.now() * 1000) + HOUR_MS
        while True:
            try:
                seen = state(any_rig)
                to = rng.choice(seen.versions()).token
                report = roll_back(
                    any_rig.source(), any_rig.store(), clock, to=to, pinned_until=until
                )
                break
            except (NotSettledError, NotKeptError):  # a person looks again, and tries again
                repeated += 1
        kept = any_rig.read()
        time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not errors, errors[0]
        pinned = state(any_rig)
        assert (pinned.published, pinned.pinned) == (report.token, until), f"rollback {number}"
        assert pinned.token >= report.token > seen.published >= before.published
        assert (pinned.digest, any_rig.read()) == (report.digest, kept)
        assert unpin("prod", any_rig.store(), clock)
        assert any_rig.sync(clock=clock).outcome in {"published", "unchanged"}
        assert any_rig.read() == any_rig.provider.flags
    print(f"{rollbacks} rollbacks, {repeated} of them tried again: all kept until unpinned")
