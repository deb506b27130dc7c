"""The sample events in events/, as generated."""

from __future__ import annotations

import json

from local import make_events


def test_generated_files() -> None:
    """Every sample can be generated again, byte for byte."""
    written = {name: make_events.render(event) for name, event in make_events.events().items()}
    files = {path.name: path.read_bytes() for path in make_events.DIRECTORY.glob("*.json")}
    assert files == written


def test_duplicate() -> None:
    """The two deliveries differ in the gateway's request id only."""
    first, again = (
        json.loads((make_events.DIRECTORY / f"unleash-{name}.json").read_text(encoding="utf-8"))
        for name in ("feature-enabled", "duplicate")
    )
    assert first != again
    again["requestContext"]["requestId"] = first["requestContext"]["requestId"]
    assert first == again
