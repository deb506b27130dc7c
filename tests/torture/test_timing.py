"""Does the time of a comparison tell how much of a forged signature was right?

Measured in one run beside a comparison that does tell it, in random order: what counts is the
share of that one's slope, so a slow or busy machine changes nothing. A difference of fractions of
a nanosecond, as a compiled comparison that stops early would make it, is beyond this; that only
``hmac.compare_digest`` compares is a rule on the source (tests/unit/test_signature.py).
"""

from __future__ import annotations

import gc
import hashlib
import hmac
import random
from statistics import fmean, median
from time import perf_counter_ns
from typing import TYPE_CHECKING

import pytest

from storesync.model import Secret
from storesync.signature import hmac_sha256_matches, secret_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    type Judge = Callable[[str], bool]

BODY = b'{"kind":"flag"}'
SECRET = Secret(hashlib.sha256(b"timing").hexdigest())
RIGHT = hmac.new(SECRET.reveal().encode(), BODY, hashlib.sha256).hexdigest()
BYTES = len(RIGHT)
BLOCKS, TIMES = 20, 261
"""Samples: 3 comparisons x 64 prefixes x 20 blocks x 261 times, which is 1,002,240."""
RESAMPLED = 2_000
MOST = 0.02
"""Of the slope of the comparison that stops at the first difference."""


def naive(given: str) -> bool:
    """Check a signature as ours does, but byte by byte up to the first difference."""
    expected = hmac.new(SECRET.reveal().encode(), BODY, hashlib.sha256).hexdigest().encode("ascii")
    for mine, theirs in zip(expected, given.encode(), strict=True):  # noqa: SIM110 - the point
        if mine != theirs:
            return False
    return True


COMPARED: dict[str, tuple[Judge, str]] = {
    "signature": (lambda given: hmac_sha256_matches(BODY, given, (SECRET,)), RIGHT),
    "secret": (lambda given: secret_matches(given, (SECRET,)), SECRET.reveal()),
    "naive": (naive, RIGHT),
}
"""What judges, and what it would let pass."""


def forged(right: str, prefix: int, rng: random.Random) -> str:
    """Return a text of which so many characters are right, the next one is not, others random."""
    wrong = rng.choice([digit for digit in "0123456789abcdef" if digit != right[prefix]])
    rest = "".join(rng.choices("0123456789abcdef", k=BYTES - prefix - 1))
    return right[:prefix] + wrong + rest


def block(rng: random.Random) -> dict[str, float]:
    """Time some samples of everything in random order; return the slopes in ns per equal byte."""
    order = [(name, n) for name in COMPARED for n in range(BYTES) for _ in range(TIMES)]
    rng.shuffle(order)
    # Made in this order as well: where a text lies must not go with what it is.
    todo = [(name, n, COMPARED[name][0], forged(COMPARED[name][1], n, rng)) for name, n in order]
    times: dict[tuple[str, int], list[int]] = {}
    gc.disable()
    try:
        for name, prefix, judge, given in todo:
            begun = perf_counter_ns()
            passed = judge(given)
            times.setdefault((name, prefix), []).append(perf_counter_ns() - begun)
            assert not passed
    finally:
        gc.enable()
    return {name: slope([typical(times[name, n]) for n in range(BYTES)]) for name in COMPARED}


def typical(times: list[int]) -> float:
    """Return the mean of the faster half: finer than a nanosecond, and without interruptions."""
    return fmean(sorted(times)[: len(times) // 2])


def slope(values: Sequence[float]) -> float:
    """Return the median of the slopes of all pairs, Theil and Sen's: outliers do not move it."""
    pairs = [
        (values[right] - values[left]) / (right - left)
        for left in range(len(values))
        for right in range(left + 1, len(values))
    ]
    return median(pairs)


def interval(slopes: Sequence[float], rng: random.Random) -> tuple[float, float]:
    """Return the 99 % interval of the median of the blocks' slopes, by bootstrap."""
    medians = sorted(median(rng.choices(slopes, k=len(slopes))) for _ in range(RESAMPLED))
    return medians[RESAMPLED // 200], medians[-RESAMPLED // 200]


@pytest.mark.campaign
def test_the_time_of_a_comparison_tells_nothing_about_what_was_right() -> None:
    """A million samples: no slope beside that of a naive comparison, which the same run finds."""
    rng = random.Random(13)
    assert all(judge(right) for judge, right in COMPARED.values())
    blocks = [block(rng) for _ in range(BLOCKS)]
    found = {name: interval([each[name] for each in blocks], rng) for name in COMPARED}
    least = found["naive"][0]
    assert least > 1, "the control shows nothing: this measurement proves nothing"
    samples = len(COMPARED) * BYTES * BLOCKS * TIMES
    told = "; ".join(f"{name} {low:+.3f} to {high:+.3f}" for name, (low, high) in found.items())
    print(f"{samples:,} samples, ns per equal byte (99 % interval): {told}")
    for name in ("signature", "secret"):
        low, high = found[name]
        assert max(abs(low), abs(high)) <= MOST * least, name
