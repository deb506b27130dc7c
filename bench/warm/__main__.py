"""Warm evaluations beside each provider's Python engine: `make bench-warm`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from bench.harness import PYTHON, REPOSITORY, machine

HERE = Path(__file__).parent
GOALS = {"simple": 0.75, "off": 0.75, "target": 0.75}
GOAL = 0.5
PROVIDERS = [
    name for name in ("launchdarkly", "split", "unleash") if (HERE / f"{name}.py").exists()
]


def main() -> None:
    """Measure and say."""
    print(f"One evaluation with its detail, in µs; {machine()}; medians of 14 rounds\n")
    for provider in PROVIDERS:
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
        command = [str(PYTHON), "-m", f"bench.warm.{provider}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        for name, found in json.loads(done.stdout.splitlines()[-1]).items():
            goal = GOALS.get(name, GOAL)
            times = f"theirs {found['theirs']:6.2f}  ours {found['ours']:6.2f}"
            print(f"{provider:13} {name:18} {times}  {found['ratio']:5.2f} of it (goal {goal})")


if __name__ == "__main__":
    main()
