"""Dates in LaunchDarkly's clauses and contexts. Pure; imported when a flag first compares dates."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from flagstore.evaluation.launchdarkly_operators import number

_EPOCH = datetime.fromtimestamp(0, timezone.utc)  # noqa: UP017 - as good, and no longer


def parse(value: Any) -> float | None:  # noqa: ANN401 - provider JSON or the caller's own
    """Return a date as milliseconds since the epoch; None for what is none.

    A number is milliseconds. A text is what :meth:`datetime.datetime.fromisoformat` takes and has
    a zone: launchdarkly-server-sdk 9.18 reads dates that way (``parse_time``, over pyRFC3339 2),
    and so takes more than RFC 3339.

    Raises:
        OverflowError: for a number that no float is as large as.
    """
    if not isinstance(value, str):
        return number(value)
    if value.endswith(("Z", "z")):
        value = value[:-1] + "+00:00"
    try:
        # The order of operations counts: two floats are compared in the end.
        return (datetime.fromisoformat(value) - _EPOCH).total_seconds() * 1000.0
    except (ValueError, TypeError, OverflowError):
        return None
