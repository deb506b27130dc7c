"""A campaign: flagstore's engine and the provider's own, compared over random sets and contexts.

Runs in .venv-sdks, where the official engines are. The same seed makes the same cases. A campaign
that finds no faults proves little: with ``--fault all``, flagstore's engine gets another input than
the official one, or its result is changed, as if it had a fault, until each fault is found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    type Json = dict[str, Any]
    type Change = Callable[[Json], object]
    type Places = Callable[[Any], Iterable[Json]]
    type Compare = Callable[[Any, Tally, Fault], Iterable[tuple[Any, Any, Any]]]


@dataclass
class Tally:
    """The counts of a campaign."""

    cases: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    """How often the reference engine got to an operator with a value of a type (``in/str``)."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """How often the reference gave a reason: ``default``, ``fallthrough`` or another."""
    excluded: Counter[str] = field(default_factory=Counter)
    """Cases that are not compared, by reason."""


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


def run(make: Callable[[Random], Any], compare: Compare, faults: Mapping[str, Fault]) -> None:
    """Compare as many cases as the command line asks for; print the counts.

    Args:
        make: returns a random flag set with contexts.
        compare: evaluates a flag set on both sides, counts into the tally and yields (description,
            their result, our result) of each case that is not excluded.
        faults: faults that may be planted, by name.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", choices=["all", *faults])
    arguments = parser.parse_args()
    random = Random(arguments.seed)
    sets = (make(Random(random.getrandbits(64))) for _ in count())
    if arguments.fault:
        chosen = {name: one for name, one in faults.items() if arguments.fault in ("all", name)}
        report = _search(sets, compare, chosen, arguments.cases)
    else:
        report = _compare(sets, compare, arguments.cases)
    print(json.dumps(report))
    sys.exit("difference" in report)


def _compare(sets: Iterator[Any], compare: Compare, cases: int) -> Json:
    """Return the counts, and the first difference if there is one."""
    tally = Tally()
    while tally.cases < cases:
        for what, theirs, ours in compare(next(sets), tally, NONE):
            tally.cases += 1
            if theirs != ours:
                difference = f"{what}\n theirs: {theirs!r}\n ours:   {ours!r}"
                return vars(tally) | {"difference": difference}
    return vars(tally)


def _search(
    sets: Iterator[Any], compare: Compare, faults: Mapping[str, Fault], cases: int
) -> dict[str, Any]:
    """Return after how many cases each fault was found, and those that were not."""
    tried: Counter[str] = Counter()
    found: dict[str, int] = {}
    while missing := [name for name in faults if name not in found and tried[name] < cases]:
        made = next(sets)
        for name in missing:
            for _, theirs, ours in compare(made, Tally(), faults[name]):
                tried[name] += 1
                if theirs != ours:
                    found[name] = tried[name]
                    break
    return {"found": found, "missed": [name for name in faults if name not in found]}


# -- building faults -------------------------------------------------------------------------------
# Most fields are optional, so each change checks that there is something to change.


def at(places: Places, change: Change) -> Fault:
    """Change each of some objects of a flag set."""

    def flag_set(given: Any) -> Any:
        for item in list(places(given)):
            change(item)
        return given

    return Fault(flag_set=flag_set)


def dicts(value: Any) -> Iterator[Json]:
    """Yield every object in a list, if it is one."""
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))


def inside(of: Places, *names: str) -> Places:
    """Go from objects to those in their fields, one level for each name."""
    for name in names:
        of = _in_field(of, name)
    return of


def _in_field(of: Places, name: str) -> Places:
    def places(made: Any) -> Iterator[Json]:
        for item in of(made):
            value = item.get(name)
            yield from dicts([value] if isinstance(value, dict) else value)

    return places


def put(**fields: Any) -> Change:
    """Set fields."""
    return lambda item: item.update(fields)


def without(*fields: str) -> Change:
    """Ignore fields."""
    return lambda item: [item.pop(name, None) for name in fields]


def mapped(name: str, change: Callable[[Any], Any], of: type = object) -> Change:
    """Change the value of a field, if there is one of a type."""
    return lambda item: item.update(
        {name: change(item[name])} if name in item and isinstance(item[name], of) else {}
    )


def first_only(name: str) -> Change:
    """Use only the first of a list."""
    return mapped(name, lambda values: values[:1], list)


def backwards(name: str) -> Change:
    """Reverse a list."""
    return mapped(name, lambda values: values[::-1], list)


def only(name: str, values: str, change: Change) -> Change:
    """Make a change where a field has one of some values."""
    return lambda item: change(item) if item.get(name) in values.split() else None


def texts(change: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Change a string, or the strings of a list."""

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(one) for one in value]
        return change(value) if isinstance(value, str) else value

    return changed


def shifted(shares: str, size: str, by: int) -> Change:
    """Give the first share of a list a part of the second one's."""

    def change(item: Json) -> None:
        listed = [*dicts(item.get(shares))]
        if len(listed) > 1 and all(isinstance(one.get(size), int) for one in listed):
            listed[0][size] += by
            listed[1][size] -= by

    return change
