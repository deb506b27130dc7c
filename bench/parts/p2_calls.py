"""P2: calls and bytes that reading asks of the store, counted between reader and store."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import world
from bench.harness import Case, steps
from bench.results import Part
from local.relay import Counted, Relay
from local.stand_in import StandIn

if TYPE_CHECKING:
    from bench.harness import Dose

FLAGS = 500
COMPLEX = "zz-complex"
"""Needs two flags, of which one needs a third, and asks for two segments."""
SMALL_BYTES = 2_000
"""A small item's response, HTTP headers included."""


def measure(dose: Dose) -> Part:  # noqa: ARG001 - nothing here is left to chance
    """Measure."""
    part = Part("Store calls and bytes of reading, 500 flags, DynamoDB")
    with StandIn() as aws, Relay(aws.port) as relay, tempfile.TemporaryDirectory() as folder:
        table, keys = _publish(aws)
        environment = {
            **aws.child_environment({"PATH": os.defpath}),
            "FLAGSTORE_TABLE": table,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}",
        }
        packages = {
            "steps_ours.py": world.ours(Path(folder)),
            "steps_launchdarkly.py": world.SITE,
        }
        works: dict[str, tuple[str, ...]] = {
            "first flag": ("read", keys[0]),
            "50 flags": ("read", *keys[:50]),
            "a flag with prerequisites and segments": ("read", COMPLEX),
            "all flags": ("all",),
            "refresh of 50 flags": ("refresh", *keys[:50]),
        }
        for work, arguments in works.items():
            ours, theirs = (
                _count(Case(script, script, where, environment, arguments), relay)
                for script, where in packages.items()
            )
            met, goal = len(ours.calls) == 1, "1 call"
            if work.startswith("refresh"):
                met, goal = met and ours.received < SMALL_BYTES, "1 call of one small item"
            part.counted(work, "LaunchDarkly's SDK", ours, theirs, goal=goal, met=met)
    part.notes.append("Bytes of the store's responses, including HTTP headers and base64.")
    return part


def _count(case: Case, relay: Relay) -> Counted:
    """Run a script; returns what its last step asked for."""
    relay.count()
    *_, (_, counted) = steps(case, relay.count)
    return counted  # type: ignore[no-any-return] # as of Relay.count


def _publish(aws: StandIn) -> tuple[str, list[str]]:
    """Publish flags, a complex one among them; returns the table and the keys of plain ones."""
    with world.provider("launchdarkly", FLAGS) as (server, _):
        flags: dict[str, Any] = server.flags()
        keys = sorted(flags)
        for name, needs in (("zz-a", []), ("zz-b", ["zz-a"]), (COMPLEX, ["zz-a", "zz-b"])):
            listed = [{"key": key, "variation": 0} for key in needs]
            server.set_flag(name, prerequisites=listed)
        rules = [
            {
                "id": segment,
                "variation": 1,
                "clauses": [{"attribute": "", "op": "segmentMatch", "values": [segment]}],
            }
            for segment in ("beta-testers", "employees")
        ]
        server.set_flag(COMPLEX, rules=rules)
        table = world.new_table(aws)
        world.sync(aws, table, server, "launchdarkly")
    return table.name, keys
