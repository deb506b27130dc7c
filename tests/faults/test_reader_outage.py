"""A reader survives an hour without its store."""

from __future__ import annotations

import random
from typing import Any

import pytest

from flagstore.cache import TTL_S
from flagstore.evaluation.base import TOO_OLD
from simulators.launchdarkly_flags import new_flag
from simulators.reader_rig import DOWN, Rig

HOUR_S = 3_600.0
EVALUATIONS = 10_000


class Outage(Rig):
    def __init__(self, **options: Any) -> None:
        flag = new_flag("a") | {"on": False, "offVariation": 0, "variations": [True]}
        super().__init__({"a": flag}, provider="launchdarkly")
        self.client = self.another(**options)
        assert self.client.enabled("a", {"key": "ada"})
        self.calls()

    def detail(self, seconds: float) -> Any:
        self.advance(seconds)
        return self.client.detail("a", {"key": "ada"}, default=False)


@pytest.mark.parametrize("max_age_s", [None, 600.0])
def test_hour_without_the_store(max_age_s: float | None, caplog: pytest.LogCaptureFixture) -> None:
    """Ten thousand evaluations: no exception, reported as stale, few calls; then fresh again."""
    rig = Outage(max_age_s=max_age_s)
    begun = rig.mono.now()
    rig.store.error, rig.store.latency_s = DOWN, 5.0
    stale = defaults = 0
    for _ in range(EVALUATIONS):
        detail = rig.detail(HOUR_S / EVALUATIONS)
        stale += detail.stale
        assert detail.age_s == pytest.approx(rig.mono.now() - begun)
        too_old = max_age_s is not None and detail.age_s > max_age_s
        defaults += too_old
        assert (detail.value, detail.error) == ((False, TOO_OLD) if too_old else (True, ""))
    assert stale >= EVALUATIONS * (1 - 1.3 * TTL_S / HOUR_S)
    assert bool(defaults) == (max_age_s is not None)
    assert len(rig.store.calls) <= HOUR_S / 60 + 10
    assert len(caplog.records) == 1
    rig.store.error, rig.store.latency_s = None, 0.0
    detail = rig.detail(61)
    assert (detail.value, detail.stale, detail.error) == (True, False, "")
    assert len(caplog.records) == 2


def test_rising_error_rate_of_the_store(caplog: pytest.LogCaptureFixture) -> None:
    """An hour of more and more failing calls: no exception, and at most one call per TTL."""
    rig, rng = Outage(), random.Random(16)
    begun, failed = rig.mono.now(), 0

    def fail(_call: str) -> None:
        nonlocal failed
        if rng.random() < (rig.mono.now() - begun) / HOUR_S:
            failed += 1
            raise DOWN

    rig.store.on_call = fail
    for _ in range(EVALUATIONS):
        assert rig.detail(HOUR_S / EVALUATIONS).value is True
    calls = len(rig.store.calls)
    assert failed > calls / 4
    assert calls <= HOUR_S / (0.9 * TTL_S) + 1  # the TTL less its jitter
    assert caplog.records
    print(f"{EVALUATIONS:,} evaluations in an hour, {failed} of {calls} calls failed")
