"""The line that a reader may log about its flags' age."""

from __future__ import annotations

import json

import pytest

from flagstore import emf
from flagstore.snapshot import Info, nothing_loaded
from simulators.alarms import points

INFO = Info(
    "prod", "launchdarkly", 7, "0" * 64, {"flags": 1}, 0, 1.0, 2.0, 3.5, stale=False, error=""
)


@pytest.mark.parametrize("stale", [False, True])
def test_age_is_a_metric_of_its_source(*, stale: bool) -> None:
    """CloudWatch makes two metrics of the one line, and no other dimension."""
    text = emf.line(INFO._replace(stale=stale), now_s=5.25)
    assert "\n" not in text
    document = json.loads(text)
    assert document["_aws"]["Timestamp"] == 5250
    metrics = {
        (point.namespace, point.name): (point.dimensions, point.value)
        for point in points(document, 5.25)
    }
    assert metrics == {
        ("Flagstore", "ReaderAgeSeconds"): ({"source": "prod"}, 3.5),
        ("Flagstore", "ReaderStale"): ({"source": "prod"}, float(stale)),
    }


def test_unknown_age_is_left_out() -> None:
    """Before the first load: JSON has no infinity, and 0 would mean fresh."""
    document = json.loads(emf.line(nothing_loaded("prod", "why"), now_s=5.25))
    metrics = {point.name: point.value for point in points(document, 5.25)}
    assert metrics == {"ReaderStale": 1.0}
    assert "ReaderAgeSeconds" not in document


def test_timestamp_defaults_to_now() -> None:
    """In milliseconds."""
    assert json.loads(emf.line(INFO))["_aws"]["Timestamp"] > 1_700_000_000_000
