"""AppConfig's gradual deployments: their progress, and the flag set while one is in progress.

AWS' user guide and its recorded log of a deployment disagree about when steps come (30 minutes in
steps of 20 %: every 6 minutes; 15 minutes in steps of 25 %: every 3 minutes, not 3:45), and an
exponential deployment's times are not documented. So the first step is expected when the guide has
it, which is later, and each further one after the interval before. A step that does not come then
is no longer expected. Pure.
"""

from __future__ import annotations

from datetime import datetime
from math import ceil, log2
from typing import TYPE_CHECKING, Any

from flagstore.encode import canonical
from flagstore.rollout import EVERYBODY, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storesync.model import Json

DEPLOYING, BAKING = "DEPLOYING", "BAKING"
IN_PROGRESS = frozenset({DEPLOYING, BAKING})
_KEPT = (
    "GrowthType",
    "GrowthFactor",
    "DeploymentDurationInMinutes",
    "FinalBakeTimeInMinutes",
    "StartedAt",
)
"""Fields of a deployment that do not change while it is in progress."""


def sections(
    deployment: Mapping[str, Json] | None,
    previous: Mapping[str, Json],
    new: Mapping[str, Json],
    *,
    version: int,
    previous_version: int,
) -> dict[str, dict[str, Json]]:
    """Return the sections ``new_flags`` and ``deployments``; see :mod:`flagstore.rollout`.

    Without a deployment, they are empty: adding a section would cost every reader another read.
    """
    if deployment is None:
        return {"new_flags": {}, "deployments": {}}
    entry = {
        **{name: deployment[name] for name in _KEPT if name in deployment},
        "ConfigurationVersion": version,
        "PreviousVersion": previous_version,
        "RemovedFlags": sorted(previous.keys() - new.keys()),
    }
    changed = {
        key: item
        for key, item in new.items()
        if key not in previous or canonical(item) != canonical(previous[key])
    }
    return {"new_flags": changed, "deployments": {str(deployment["DeploymentNumber"]): entry}}


def progress(deployment: Mapping[str, Json]) -> Progress:
    """Return the progress of a deployment in the API's format; its log may be missing."""
    number, state = deployment["DeploymentNumber"], deployment["State"]
    found = _number(deployment.get("PercentageComplete"))
    if state == BAKING or found >= EVERYBODY:
        return Progress(number, state, EVERYBODY)
    factor = _number(deployment.get("GrowthFactor"))
    following = found + factor
    if deployment.get("GrowthType") == "EXPONENTIAL":
        following = 2 * found or factor
    due_s = _next_s(deployment, factor)
    if due_s is None or following <= found:
        return Progress(number, state, found)
    return Progress(number, state, found, min(following, EVERYBODY), int(due_s * 1000))


def _next_s(deployment: Mapping[str, Json], factor: float) -> float | None:
    """Return when the next step is expected, in seconds since the epoch."""
    log = deployment.get("EventLog")
    events = [each for each in log if isinstance(each, dict)] if isinstance(log, list) else []
    steps = [
        _seconds(event.get("OccurredAt"))
        for event in events
        if event.get("EventType") == "PERCENTAGE_UPDATED"
    ]
    known = sorted(at for at in [_seconds(deployment.get("StartedAt")), *steps] if at is not None)
    if len(known) > 1:
        return 2 * known[-1] - known[-2]
    if not known or not 0 < factor < EVERYBODY:
        return None
    number: float = EVERYBODY / factor
    if deployment.get("GrowthType") == "EXPONENTIAL":
        number = 1 + ceil(log2(EVERYBODY / factor))
    return known[0] + 60 * _number(deployment.get("DeploymentDurationInMinutes")) / number


def _number(value: Any) -> float:  # noqa: ANN401 - any JSON
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e9 else 0.0  # noqa: PLR2004 - minutes, %


def _seconds(value: Any) -> float | None:  # noqa: ANN401 - any JSON
    """Return a time in ISO 8601 as seconds since the epoch."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found.timestamp() if found.tzinfo else None
