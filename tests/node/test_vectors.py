"""Both readers say the same of every store: Python's here, and Node.js' in a process of its own."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import errors
from flagstore.clients import Client
from flagstore.keys import Key
from node.processes import run_tests
from node.vector_sets import all_vectors
from node.vectors import STEP_S, text_of
from simulators.clock import FakeClock
from simulators.reader_store import RecordsReader

if TYPE_CHECKING:
    from pathlib import Path

    from flagstore import Snapshot
    from flagstore.keys import Record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder with all vectors, one file each."""
    made = tmp_path_factory.mktemp("vectors")
    for number, vector in enumerate(all_vectors()):
        (made / f"{number:03}.json").write_text(text_of(vector), encoding="utf-8")
    return made


def record_of(typed: dict[str, dict[str, str]]) -> Record:
    read: Any = {"N": int, "S": str, "B": b64decode}
    return {name: read[kind](text) for name, value in typed.items() for kind, text in value.items()}


def test_python_reader(folder: Path) -> None:
    for path in sorted(folder.glob("*.json")):
        follow(json.loads(path.read_text(encoding="utf-8")))


def test_node_reader(folder: Path) -> None:
    run_tests("vectors.test.js", FLAGSTORE_VECTORS=str(folder))


def follow(vector: dict[str, Any]) -> None:
    """Take a reader through all steps."""
    clock = FakeClock()
    records: dict[Key, Record] = {}
    store = RecordsReader(records, clock)
    clocks = {"clock": clock.now, "monotonic": clock.monotonic}
    client = Client("prod", store=store, replicas=vector["replicas"], **clocks)  # type: ignore[arg-type] # two clocks
    expected: dict[str, Any] = {}
    for number, step in enumerate(vector["steps"]):
        where = f"{vector['name']}, step {number}"
        for namespace, key, record in step["records"]:
            records.pop(Key(namespace, key), None)
            if record is not None:
                records[Key(namespace, key)] = record_of(record)
        store.stale = {Key(*place): record_of(record) for *place, record in step["lag"]}
        clock.advance(STEP_S)
        store.calls.clear()
        expected = step.get("set", expected)
        if step["error"]:
            with pytest.raises(getattr(errors, step["error"])):
                client.snapshot()
        else:
            client.snapshot()
            snapshot = client._cache.current  # both versions during a deployment
            assert snapshot is not None
            check(snapshot, expected, step["missing"], where)
            assert client._cache.stale == step["stale"], where
        assert step["calls"] in (None, store.calls), where


def check(
    snapshot: Snapshot, expected: dict[str, Any], missing: dict[str, str], where: str
) -> None:
    """Compare everything that a flag set says."""
    record = snapshot.snapshot_record
    assert {name: getattr(record, name) for name in expected["identity"]} == expected["identity"], (
        where
    )
    assert json.loads(record.counts) == expected["counts"], where
    assert (snapshot.meta, snapshot.progress) == (expected["meta"], expected["progress"]), where
    for section, texts in expected["texts"].items():
        assert snapshot.keys(section) == expected["keys"][section], where
        for key, text in texts.items():
            if section == "segments" and key in missing:
                with pytest.raises(getattr(errors, missing[key])):
                    snapshot.text(section, key)
            else:
                assert snapshot.text(section, key) == text, (where, section, key)
