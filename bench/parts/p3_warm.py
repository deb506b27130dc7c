"""P3: warm evaluations, beside each provider's own engine for Python."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from typing import TYPE_CHECKING

from bench.harness import PYTHON, REPOSITORY
from bench.results import Part
from bench.warm.pairs import COUNTED, COUNTED_WHOLE
from flagstore.evaluation import ENGINES

if TYPE_CHECKING:
    from bench.harness import Dose

PEERS = {
    "launchdarkly": "LaunchDarkly's SDK, variation_detail",
    "split": "Split's SDK, get_treatment_with_config",
    "unleash": "Unleash's engine (yggdrasil)",
}
SIMPLE = ("simple", "off", "killed", "target")
MOST_USAGE_US = 0.5
MOST, MOST_SIMPLE = 0.5, 1 / 1.3
"""Of the peer's time: twice as fast, 1.3 times as fast."""


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Warm evaluations, one `detail` each")
    for provider, peer in PEERS.items():
        if provider not in ENGINES:
            part.notes.append(f"{provider}: its engine is not there yet.")
            continue
        pairs: dict[str, list[list[float]]] = {}
        for _ in range(dose.rounds):
            for name, found in _once(provider).items():
                pairs.setdefault(name, []).append(found)
        for name in (COUNTED, COUNTED_WHOLE):
            if counted := pairs.pop(name, None):
                _usage(part, name.removeprefix(COUNTED), counted)
        for name, found in pairs.items():
            work, _, bare = name.partition(": ")
            theirs, ours = zip(*found, strict=True)
            most = round(MOST_SIMPLE if work in SIMPLE else MOST, 2)
            # What no user calls is shown, and judges nothing.
            beside = f"{peer.partition(',')[0]}, {bare}" if bare else peer
            goal = None if bare else most
            part.timed(f"{provider}: {work}", beside, ours, theirs, most=goal, unit="µs")
    return part


def _usage(part: Part, how: str, pairs: list[list[float]]) -> None:
    """Add what usage costs, from pairs without and with it; the goal is for a kept context."""
    without, on = zip(*pairs, strict=True)
    part.timed(f"`enabled` with usage on{how}", "with usage off", on, without, unit="µs")
    more = statistics.median(b - a for a, b in pairs)
    met = None if how else more <= MOST_USAGE_US
    goal = "" if how else f"at most {MOST_USAGE_US} µs"
    part.counted(f"what usage adds{how}", "", f"{more:.2f} µs", goal=goal, met=met)


def _once(provider: str) -> dict[str, list[float]]:
    """Run both sides in turn in a fresh process; returns theirs and ours in µs by name."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
    command = [str(PYTHON), "-m", f"bench.warm.{provider}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found
