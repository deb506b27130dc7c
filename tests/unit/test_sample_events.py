"""The sample events in events/, as generated."""

from __future__ import annotations

from local import make_events


def test_generated_files() -> None:
    """Every sample can be generated again, byte for byte."""
    written = {name: make_events.render(event) for name, event in make_events.events().items()}
    files = {path.name: path.read_bytes() for path in make_events.DIRECTORY.glob("*.json")}
    assert files == written
