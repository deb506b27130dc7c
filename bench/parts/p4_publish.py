"""P4: requests, write units and time of publishing; LaunchDarkly's SDK writes the whole set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import world
from bench.publishing import PEER, publish, publish_by_sdk, shown, switch
from bench.results import Part
from local.stand_in import StandIn

if TYPE_CHECKING:
    from bench.harness import Dose

CHANGES = {"first publication": 0, "0 changes": 0, "1 change": 1, "50 changes": 50}
"""Flags that are switched before."""
UNCHANGED_UNITS = 2
ONE_CHANGE_REQUESTS = 6
FURTHER_UNITS = 4
"""A row of up to 2 KB in a transaction."""


def measure(dose: Dose) -> Part:
    """Measure."""
    size = dose.publish_flags
    part = Part(f"Publishing changes of {size:,} flags, DynamoDB")
    with StandIn() as aws:
        for rows in (False, True):
            with world.provider("launchdarkly", size) as (server, _):
                theirs = publish_by_sdk(aws, server) if rows else []
                units: dict[str, int] = {}
                table = world.new_table(aws)
                for change, flags in CHANGES.items():
                    switch(server, flags)
                    counted = publish(aws, table, server, rows=rows)
                    units[change] = counted["write_units"]
                    work = f"{change}{'' if rows else ', without rows'}"
                    peer = theirs[0 if change.startswith("first") else 1] if theirs else None
                    goal, met = _goal(change, counted)
                    part.counted(
                        work,
                        PEER if peer else "",
                        shown(counted),
                        shown(peer) if peer else "",
                        goal=goal,
                        met=met,
                    )
                each = (units["50 changes"] - units["1 change"]) / 49
                part.counted(
                    f"each further change{'' if rows else ', without rows'}",
                    "",
                    f"{each:.1f} WU",
                    goal=f"at most {FURTHER_UNITS} WU: its row, not the set",
                    met=each <= FURTHER_UNITS,
                )
    part.notes.append(
        "Write units are computed from item sizes (two per KB in a transaction). Times include the "
        "fetch, are the emulator's, and do not carry over to AWS."
    )
    return part


def _goal(change: str, counted: dict[str, Any]) -> tuple[str, bool | None]:
    if change == "0 changes":
        return "2 small writes", counted["writes"] == counted["write_units"] == UNCHANGED_UNITS
    if change == "1 change":
        return "at most 6 requests", counted["requests"] <= ONE_CHANGE_REQUESTS
    return "", None
