"""A campaign: a provider's own engine and ours side by side, over sets and contexts made up.

Runs in .venv-sdks, where the official engines are. A script of a provider calls :func:`run` with
its strategy of cases and both sides; what was counted is printed as JSON, and read by
test_differential.py. A difference makes Hypothesis look for the smallest one, which is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hypothesis.strategies import SearchStrategy


class Enough(Exception):  # noqa: N818 - no error: the campaign is over
    """Raised when as many cases were compared as asked for."""


@dataclass
class Tally:
    """What a campaign has met. A case is one flag evaluated for one context."""

    cases: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    """How often the reference engine got to an operator with a value of a type (``in/str``)."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """How often the reference said why: ``default``, ``fallthrough`` and the provider's others."""
    excluded: Counter[str] = field(default_factory=Counter)
    """Cases that were left out, by the name of the predicate that said so."""

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "cases": self.cases,
            "reached": dict(self.reached),
            "outcomes": dict(self.outcomes),
            "excluded": dict(self.excluded),
        }


def run(
    cases: SearchStrategy[Any],
    compare: Callable[[Any, Tally], Iterable[tuple[Any, Any, Any]]],
) -> None:
    """Compare until there were as many cases as the command line asks for.

    Args:
        cases: a flag set with contexts, as the provider's script makes them up.
        compare: given one, counts into the tally and gives (what it was, theirs, ours) of each
            case that was not excluded.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-shrink", action="store_true", help="stop at the first difference")
    arguments = parser.parse_args()
    tally = Tally()

    phases = [Phase.generate] if arguments.no_shrink else [Phase.generate, Phase.shrink]

    @seed(arguments.seed)
    @settings(
        max_examples=arguments.cases,
        database=None,
        deadline=None,
        phases=phases,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def campaign(case: Any) -> None:
        if tally.cases >= arguments.cases:
            raise Enough
        for what, theirs, ours in compare(case, tally):
            tally.cases += 1
            assert theirs == ours, f"{what}\n theirs: {theirs!r}\n ours:   {ours!r}"

    try:
        campaign()
    except Enough:
        pass
    except AssertionError as error:
        print(json.dumps(tally.as_json() | {"difference": str(error)}))
        sys.exit(1)
    print(json.dumps(tally.as_json()))
