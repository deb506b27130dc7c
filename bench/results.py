"""What was measured: rows of the table, kept as JSON so that parts can be run apart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.stats import MET, NOT_MET, SHOWN, ratio, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One comparison, as the table shows it."""

    work: str
    peer: str
    ours: str
    theirs: str
    ratio: str
    goal: str
    verdict: str


@dataclass
class Part:
    """What one part measured."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    run: str = ""
    """When, on what, in how many rounds."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What was counted, by name, for pages that compute with it."""

    def timed(
        self,
        work: str,
        peer: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        *,
        most: float | None = None,
        unit: str = "ms",
    ) -> None:
        """Add a comparison of pairs; the goal is the largest ratio of ours to theirs."""
        found = ratio(ours, theirs)
        self.rows.append(
            Row(
                work,
                peer,
                spread(ours, unit),
                spread(theirs, unit),
                str(found),
                "" if most is None else f"at most {most:g}",
                SHOWN if most is None else found.verdict(most),
            )
        )

    def counted(
        self,
        work: str,
        peer: str,
        ours: object,
        theirs: object = "",
        *,
        goal: str = "",
        met: bool | None = None,
    ) -> None:
        """Add what was counted: no chance in it, so the goal is met or it is not."""
        verdict = SHOWN if met is None else MET if met else NOT_MET
        self.rows.append(Row(work, peer, str(ours), str(theirs), "", goal, verdict))


def in_order[T](parts: Mapping[str, T]) -> dict[str, T]:
    """Return parts, or anything by their names, in the order of their numbers."""
    return dict(sorted(parts.items(), key=lambda named: int(named[0].removeprefix("P"))))


def load(path: Path) -> dict[str, Part]:
    """Return the parts that were measured before, by their names."""
    if not path.exists():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: _part(values) for name, values in kept.items()}


def _part(values: dict[str, Any]) -> Part:
    rows = [Row(**row) for row in values.pop("rows")]
    values.pop("plots", None)  # of earlier runs
    return Part(rows=rows, **values)


def save(path: Path, parts: Mapping[str, Part]) -> None:
    """Keep them."""
    kept = {name: asdict(part) for name, part in in_order(parts).items()}
    for values in kept.values():
        if not values["figures"]:
            del values["figures"]
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
