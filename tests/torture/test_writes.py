"""Writes that are throttled, timed out, raced and refused, on both stores."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import keys
from flagstore.encode import content_digest
from rigs import REFUSALS, refusal
from simulators.unreliable import UnreliableClient
from storesync.errors import NotSettledError, OutOfTimeError, RefusedSetError, StoreSyncError
from storesync.retry import SystemClock

if TYPE_CHECKING:
    from rigs import AnyRig
campaign = pytest.mark.campaign


def numbered(count: int, value: int = 0) -> dict[str, Any]:
    """Return *count* flags."""
    return {f"flag-{n:04}": {"n": n, "value": value} for n in range(count)}


# -- throttled and unprocessed writes -------------------------------------------------------------


def throttled(inner: Any, share: float, rng: random.Random) -> UnreliableClient:
    """Return a client of which a share of items is left unprocessed, and of other writes refused.

    With Redis, a share of connections breaks, half of them after the server ran the command.
    """

    def fault(operation: str, moment: str, _number: int) -> None:
        if operation == "execute_command":
            half = share / 2  # of all calls; "after" is asked only for those that are left
            likely = half if moment == "before" else half / (1 - half)
        else:
            others = operation in REFUSALS and operation != "batch_write_item"
            likely = share * (others and moment == "before")
        if rng.random() < likely:
            client.forgotten += 1
            raise refusal(operation, rng.choice(["ThrottlingError", "TransactionConflict"]))

    client = UnreliableClient(inner, fault, share, rng)
    return client


@pytest.mark.parametrize("runs", [3, pytest.param(100, marks=campaign)], ids=["dose", "all"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 1.0])
def test_throttled_writes_lose_nothing(
    any_rig: AnyRig, share: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 flags in chunks: published whole, or unchanged with a typed error in time."""
    monkeypatch.setattr(keys, "INLINE_BYTES", 0)
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 250)
    any_rig.settle(numbered(1_000))
    seen = any_rig.read()
    outcomes: Counter[str] = Counter()
    troubles = 0
    for run in range(runs):
        client = throttled(any_rig.table.client, share, random.Random(run))
        changed = {f"flag-{(run * 20 + n) % 1_000:04}": {"run": run, "n": n} for n in range(20)}
        any_rig.provider.change(**changed)
        any_rig.clock.advance(10)
        begun = any_rig.clock.monotonic()
        for _ in range(9):  # as often as the queue hands a sync request out
            try:
                outcomes[any_rig.sync(step_s=0, client=client, seconds=30, seed=run).outcome] += 1
            except StoreSyncError as error:
                outcomes[type(error).__name__] += 1
                found = any_rig.read()
                assert found in (seen, any_rig.provider.flags), "a mix"
            else:
                break
        assert any_rig.clock.monotonic() - begun <= 9 * 30
        troubles += client.forgotten
        if share == 1.0:
            assert any_rig.read() == seen
        any_rig.sync()  # without faults: the next tick of the schedule
        seen = any_rig.read()
        assert seen == any_rig.provider.flags
    assert troubles > 0
    assert bool(outcomes["published"]) == (share < 1)
    print(f"{share:.0%}: {runs} runs, {troubles:,} writes refused or left undone; 0 lost")


# -- the function's time ---------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=campaign)], ids=["dose", "all"])
def test_time_running_out_at_any_stage(
    any_rig: AnyRig, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every call, time runs short or out, and the store may fail from then on."""
    monkeypatch.setattr(keys, "INLINE_BYTES", 0)
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 120)
    old, new = numbered(24, 1), numbered(20, 2)
    any_rig.settle(old)
    undisturbed = UnreliableClient(any_rig.table.client)
    any_rig.replace(new)
    any_rig.sync(undisturbed)
    stages = undisturbed.calls.total()
    seen: Counter[str] = Counter()
    rng = random.Random(5)
    for stage in range(-1, stages):  # -1: during the fetch
        for time_ in range(times):
            any_rig.settle(old)
            any_rig.replace(new)
            any_rig.clock.advance(10)
            left = rng.choice([0.0, 0.05, 0.5, 2.0])
            cut = Cut(any_rig, stage, left, fails=bool((stage + time_) % 2))
            any_rig.provider.on_fetch = cut.fetching
            try:
                seen[any_rig.sync(step_s=0, client=cut.client, seconds=60, seed=time_).outcome] += 1
            except StoreSyncError as error:
                seen[type(error).__name__] += 1
            any_rig.provider.on_fetch = lambda: None
            assert cut.waited() <= left, "slept past the end"
            assert any_rig.read() in (old, new), "a mix"
            assert any_rig.sync().outcome in {"published", "unchanged"}
            assert any_rig.read() == new
    assert seen["OutOfTimeError"] > 0
    cases = (stages + 1) * times
    print(f"{stages + 1} stages x {times}: {cases} runs, 0 mixes; {dict(seen)}")


class Cut:
    """Ends the time at one stage, and may fail all calls from then on."""

    def __init__(self, rig: AnyRig, stage: int, left: float, *, fails: bool) -> None:
        self._clock, self._stage, self._fails = rig.clock, stage, fails
        self._end = rig.clock.monotonic() + 60 - left
        self.waits: int | None = None
        """Number of sleeps begun when the time ended."""
        self.client = UnreliableClient(rig.table.client, self._call)

    def fetching(self) -> None:
        """End the time during the fetch, if that is the stage."""
        if self._stage < 0:
            self._take()

    def _call(self, operation: str, moment: str, number: int) -> None:
        if moment == "before" and (
            number == self._stage or (self._fails and self.waits is not None)
        ):
            self._take()
            if self._fails and operation in {"execute_command", *REFUSALS}:
                raise refusal(operation)

    def _take(self) -> None:
        if self.waits is None:
            self.waits = len(self._clock.slept)
            self._clock.advance(max(0.0, self._end - self._clock.monotonic()))

    def waited(self) -> float:
        """Return the seconds slept after the time ended."""
        return sum(self._clock.slept[self.waits or 0 :])


# -- concurrent writers ----------------------------------------------------------------------------


@pytest.mark.parametrize("races", [25, pytest.param(1_000, marks=campaign)], ids=["dose", "all"])
def test_races_of_threads(any_rig: AnyRig, races: int) -> None:
    """Of two to eight concurrent syncs, each after a change, none wins with an older set."""
    any_rig.settle({"a": 0, "b": 0})
    any_rig.provider.reveals_revision = False
    rng = random.Random(9)
    any_rig.provider.on_fetch = lambda: time.sleep(rng.uniform(0, 0.004))
    changing = threading.Lock()
    again: Counter[str] = Counter()
    errors: list[BaseException] = []

    def work(value: int) -> None:
        with changing:
            any_rig.provider.change(a=value, b=value)
        try:
            while True:
                try:
                    any_rig.sync(clock=SystemClock(), seconds=30)
                except NotSettledError as error:  # the sync request comes again
                    again[type(error).__name__] += 1
                else:
                    return
        except BaseException as error:  # noqa: BLE001 - the main thread judges it
            errors.append(error)

    syncs = 0
    for race in range(races):
        threads = [
            # Few values, so that they repeat: with new values a faulty condition can't be seen.
            threading.Thread(target=work, args=(rng.choice((0, 1, 2)),))
            for _ in range(rng.randint(2, 8))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors, errors[0]
        assert any_rig.read() == any_rig.provider.flags, f"race {race}"
        syncs += len(threads)
    print(f"{races:,} races, {syncs:,} syncs, {again.total()} overtaken too often: 0 stale, 0 lost")


# -- sets that shrink ------------------------------------------------------------------------------


@pytest.mark.parametrize(("had", "left"), [(100, 69), (12, 1), (1, 0)])
def test_shrinking_set_waits_for_approval(any_rig: AnyRig, had: int, left: int) -> None:
    """Refused beyond max(10, 30 %): readers keep their flags until exactly that set is allowed."""
    any_rig.settle(numbered(had))
    any_rig.replace(numbered(left))
    for _ in range(2):
        with pytest.raises(RefusedSetError) as caught:
            any_rig.sync()
        assert any_rig.read() == numbered(had)
        assert any_rig.store().state("prod").refused == caught.value.digest
    other = content_digest({"flags": numbered(left + 1), "segments": {}}, {})
    with pytest.raises(RefusedSetError):
        any_rig.sync(step_s=0, allow_shrink=other)
    assert any_rig.read() == numbered(had)
    assert any_rig.sync(step_s=0, allow_shrink=caught.value.digest).outcome == "published"
    assert any_rig.read() == numbered(left)
    assert any_rig.store().state("prod").refused == ""


def test_expired_deadline_starts_nothing(any_rig: AnyRig) -> None:
    """Without time there is an error, and nothing is fetched."""
    any_rig.settle(numbered(3))
    before = any_rig.provider.fetches
    with pytest.raises(OutOfTimeError):
        any_rig.sync(step_s=0, seconds=0.5)
    assert any_rig.provider.fetches == before
