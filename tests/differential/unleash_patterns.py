"""Regular expressions in the official engine and in ours. Run by test_differential.

The campaign of whole flags meets few of them; here each flag is one pattern, for many texts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from yggdrasil_engine.engine import UnleashEngine

from differential import campaign
from differential import unleash_values as values
from flagstore.evaluation import patterns
from flagstore.evaluation.base import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

PATTERNS, TEXTS = 60, 25


def make(r: Random) -> list[tuple[str, bool, list[str]]]:
    """Make patterns, whether their case is ignored, and texts."""
    made = [
        (values.pattern(r), r.random() < 0.3, [values.subject(r) for _ in range(TEXTS)])
        for _ in range(PATTERNS)
    ]
    # A backslash at the end reaches beyond the pattern in the official engine.
    return [one for one in made if not one[0].endswith("\\")]


def compare(case: Any, tally: campaign.Tally, _: campaign.Fault) -> Iterator[tuple[Any, Any, Any]]:
    """Search each text for its pattern on both sides."""
    features = []
    for name, (pattern, ignore_case, _texts) in enumerate(case):
        constraint = {"contextName": "x", "operator": "REGEX", "value": pattern}
        constraints = [constraint | {"caseInsensitive": ignore_case}]
        strategy = {"name": "default", "constraints": constraints}
        features.append({"name": str(name), "enabled": True, "strategies": [strategy]})
    official = UnleashEngine()
    official.take_state(json.dumps({"version": 2, "features": features}))
    for name, (pattern, ignore_case, texts) in enumerate(case):
        found: Any = None
        try:
            found = patterns.matcher(pattern, ignore_case=ignore_case)
            tally.reached["translated"] += 1
        except patterns.InvalidPatternError:
            tally.reached["invalid in Rust"] += 1
        except UnsupportedError as error:
            tally.excluded[str(error)] += 1
            continue
        for text in texts:
            theirs = official.is_enabled(str(name), {"properties": {"x": text}}).is_enabled
            tally.outcomes["match" if theirs else "no match"] += 1
            try:
                ours = bool(found and found(text))
            except UnsupportedError as error:
                tally.excluded[str(error)] += 1
                continue
            yield (pattern, ignore_case, text), theirs, ours


if __name__ == "__main__":
    campaign.run(make, compare, {})
