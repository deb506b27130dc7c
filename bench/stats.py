"""Medians, spreads, and how sure a ratio is. Pure."""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 5_000
SEED = 8
MET, NOT_MET, UNDECIDED, SHOWN = "met", "not met", "undecided", "shown"


class Ratio(NamedTuple):
    """A median of the pairs' ratios, with its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}-{self.high:.3g})"

    def verdict(self, most: float) -> str:
        """Say whether the ratio is at most that, as far as the interval allows to say."""
        if self.high <= most:
            return MET
        return NOT_MET if self.low > most else UNDECIDED


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the ratio of ours to theirs over pairs: runs that followed each other.

    The interval is the percentile bootstrap's: the pairs are drawn anew, with repetition, thousands
    of times. Of fewer than 7 pairs it says little.
    """
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    rng = random.Random(SEED)  # noqa: S311 - the same runs give the same interval
    medians = sorted(statistics.median(rng.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    low, high = medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975) - 1]
    return Ratio(statistics.median(pairs), low, high)


def spread(values: Sequence[float], unit: str) -> str:
    """Write the median with the smallest and the largest."""
    middle = statistics.median(values)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2  # noqa: PLR2004 - three figures
    return f"{middle:.{digits}f} {unit} ({min(values):.{digits}f}-{max(values):.{digits}f})"
