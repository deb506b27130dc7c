"""Regular expressions in the official engine and in ours. Run by test_differential.

The campaign of whole flags meets few of them; here each flag is one pattern, for many texts.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from yggdrasil_engine.engine import UnleashEngine

from differential import unleash_values as values
from flagstore.evaluation import patterns

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS, TEXTS = 60, 25


def flag(name: int, pattern: str, *, ignore_case: bool) -> dict[str, object]:
    """Make a flag that is on where the property x has a pattern."""
    constraint = {"contextName": "x", "operator": "REGEX", "value": pattern}
    constraints = [constraint | {"caseInsensitive": ignore_case}]
    strategy = {"name": "default", "constraints": constraints}
    return {"name": str(name), "enabled": True, "strategies": [strategy]}


def _never(_: str) -> bool:
    return False


def compared(r: Random, kinds: Counter[str]) -> Iterator[tuple[str, bool, str, bool, bool]]:
    """Yield patterns, whether case is ignored, texts, and whether they match there and here."""
    made = [(values.pattern(r), r.random() < 0.3) for _ in range(FLAGS)]
    # A backslash at the end reaches beyond the pattern in the official engine.
    made = [one for one in made if not one[0].endswith("\\")]
    features = [flag(name, one, ignore_case=case) for name, (one, case) in enumerate(made)]
    official = UnleashEngine()
    official.take_state(json.dumps({"version": 2, "features": features}))
    for name, (pattern, ignore_case) in enumerate(made):
        try:
            found = patterns.matcher(pattern, ignore_case=ignore_case)
            kinds["translated"] += 1
        except patterns.InvalidPatternError:
            found = _never
            kinds["invalid in Rust"] += 1
        except patterns.UnsupportedPatternError as error:
            kinds[f"unsupported: {error}"] += 1
            continue
        for _ in range(TEXTS):
            text = values.subject(r)
            context = {"properties": {"x": text}}
            theirs = official.is_enabled(str(name), context).is_enabled
            yield pattern, ignore_case, text, theirs, bool(found(text))


def main() -> None:
    """Compare as many texts as the command line asks for; print what was met as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random = Random(arguments.seed)
    kinds: Counter[str] = Counter()
    cases = matched = 0
    while cases < arguments.cases:
        for pattern, ignore_case, text, theirs, ours in compared(random, kinds):
            cases += 1
            matched += theirs
            if theirs is not ours:
                difference = f"{pattern!r}, {ignore_case=}, {text!r}: {theirs} there, {ours} here"
                print(json.dumps({"difference": difference}))
                return
    print(json.dumps({"cases": cases, "matched": matched, "patterns": dict(kinds.most_common())}))


if __name__ == "__main__":
    main()
