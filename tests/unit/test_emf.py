"""The line that a reader may log about its flags' age."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flagstore import emf
from flagstore.snapshot import nothing_loaded
from simulators.alarms import points

if TYPE_CHECKING:
    import pytest


def test_age_is_a_metric_of_its_source() -> None:
    """The age is left out before the first load: JSON has no infinity, and 0 would mean fresh."""
    unknown = nothing_loaded("prod", "why")
    stale = {("Flagstore", "ReaderStale"): ({"source": "prod"}, 1.0)}
    age = {("Flagstore", "ReaderAgeSeconds"): ({"source": "prod"}, 3.5)}
    for info, expected in ((unknown, stale), (unknown._replace(age_s=3.5), stale | age)):
        text = emf.line(info, now_s=5.25)
        assert "\n" not in text
        document = json.loads(text)
        assert document["_aws"]["Timestamp"] == 5250
        found = points(document, 5.25)
        assert {(p.namespace, p.name): (p.dimensions, p.value) for p in found} == expected
    assert json.loads(emf.line(unknown))["_aws"]["Timestamp"] > 1_700_000_000_000


def test_throttling_is_counted_once_and_costs_no_metric_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line has what was added since the last one of its source."""
    monkeypatch.setattr(emf, "_throttled", {})
    seen = []
    for source, throttled in (("a", 0), ("a", 3), ("b", 2), ("a", 3), ("a", 7), ("b", 2)):
        info = nothing_loaded(source, "")._replace(throttled=throttled)
        found = {point.name: point.value for point in points(json.loads(emf.line(info)), 0)}
        seen.append(found.get("ReaderThrottled"))
    assert seen == [None, 3, 2, None, 4, None]
