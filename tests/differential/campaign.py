"""A campaign: flagstore's engine and the provider's own, compared over random sets and contexts.

Runs in .venv-sdks, where the official engines are. Each provider's script calls :func:`run` with
its cases, its faults and both sides; the counts are printed as JSON for test_differential.py. On a
difference, Hypothesis looks for the smallest one, which is printed.

A campaign that finds no faults proves little. With ``--fault NAME`` flagstore's engine gets another
input than the official one, or its result is changed, as if it had that fault; with ``--fault all``
each fault is tried over the same cases until it is found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hypothesis.strategies import SearchStrategy

    type Compare = Callable[[Any, Tally, Fault], Iterable[tuple[Any, Any, Any]]]


class Enough(Exception):  # noqa: N818 - no error: the campaign is over
    """Raised when as many cases were compared as asked for."""


@dataclass
class Tally:
    """The counts of a campaign. A case is one flag evaluated for one context."""

    cases: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    """How often the reference engine got to an operator with a value of a type (``in/str``)."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """How often the reference gave a reason: ``default``, ``fallthrough`` or another."""
    excluded: Counter[str] = field(default_factory=Counter)
    """Excluded cases, by the name of the predicate that excludes them."""
    malformed: Counter[str] = field(default_factory=Counter)
    """Cases that are MALFORMED_FLAG only in flagstore, by the damage to the flag."""

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "cases": self.cases,
            "reached": dict(self.reached),
            "outcomes": dict(self.outcomes),
            "excluded": dict(self.excluded),
            "malformed": dict(self.malformed),
        }


def _same[T](given: T) -> T:
    return given


@dataclass(frozen=True)
class Fault:
    """Changes that make flagstore's engine behave as if it had a bug."""

    flag_set: Callable[[Any], Any] = _same
    """Of a copy of the flag set."""
    context: Callable[[Any], Any] = _same
    """Of a copy of the context."""
    outcome: Callable[[Any], Any] = _same
    """Of the result."""


NONE = Fault()


def without(*fields: str) -> Callable[[dict[str, Any]], None]:
    """Ignore fields of an object."""

    def change(item: dict[str, Any]) -> None:
        for name in fields:
            item.pop(name, None)

    return change


def dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a list, if it is one."""
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))


def first_only(field: str) -> Callable[[dict[str, Any]], None]:
    """Look only at the first of a list."""

    def change(item: dict[str, Any]) -> None:
        if isinstance(item.get(field), list):
            item[field] = item[field][:1]

    return change


def run(cases: SearchStrategy[Any], compare: Compare, faults: Mapping[str, Fault]) -> None:
    """Compare until there were as many cases as the command line asks for.

    Args:
        cases: a flag set with contexts, as the provider's script makes them up.
        compare: given one, counts into the tally and gives (what it was, theirs, ours) of each
            case that was not excluded.
        faults: what may be planted, by name.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-shrink", action="store_true", help="stop at the first difference")
    parser.add_argument("--fault", choices=["all", *faults])
    arguments = parser.parse_args()
    if arguments.fault:
        chosen = faults if arguments.fault == "all" else {arguments.fault: faults[arguments.fault]}
        report = _search(cases, compare, chosen, arguments)
    else:
        report = _compare(cases, compare, arguments)
    print(json.dumps(report))
    sys.exit("difference" in report)


def _compare(
    cases: SearchStrategy[Any], compare: Compare, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return what was counted, and the difference if there was one."""
    tally = Tally()

    def campaign(case: Any) -> None:
        if tally.cases >= arguments.cases:
            raise Enough
        for what, theirs, ours in compare(case, tally, NONE):
            tally.cases += 1
            assert theirs == ours, f"{what}\n theirs: {theirs!r}\n ours:   {ours!r}"

    try:
        _explore(cases, campaign, arguments, shrink=not arguments.no_shrink)
    except AssertionError as error:
        return tally.as_json() | {"difference": str(error)}
    return tally.as_json()


def _search(
    cases: SearchStrategy[Any],
    compare: Compare,
    faults: Mapping[str, Fault],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return after how many cases each fault was found, and those that were not."""
    tried: Counter[str] = Counter()
    found: dict[str, int] = {}

    def campaign(case: Any) -> None:
        missing = [name for name in faults if name not in found and tried[name] < arguments.cases]
        if not missing:
            raise Enough
        for name in missing:
            for _, theirs, ours in compare(case, Tally(), faults[name]):
                tried[name] += 1
                if theirs != ours:
                    found[name] = tried[name]
                    break

    _explore(cases, campaign, arguments, shrink=False)
    return {"found": found, "missed": [name for name in faults if name not in found]}


def _explore(
    cases: SearchStrategy[Any],
    campaign: Callable[[Any], None],
    arguments: argparse.Namespace,
    *,
    shrink: bool,
) -> None:
    """Let Hypothesis make up cases until a campaign is over."""
    decorated = settings(
        max_examples=arguments.cases,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )(given(cases)(campaign))
    with suppress(Enough):
        seed(arguments.seed)(decorated)()
