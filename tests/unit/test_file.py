"""A file of flags, as a store or as the bootstrap until the store responds."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client, errors
from flagstore.cache import TTL_S
from flagstore.keys import snapshot_key, state_key
from flagstore.stores.file import FileReader, document
from simulators.clock import FakeClock
from simulators.reader_store import RecordsReader, published_record
from simulators.strict_python import read_strictly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    type Opened = Callable[..., Client]

EXPIRED_S = 1.2 * TTL_S
LARGE = {"name": "beta", "keys": [f"user-{number}" for number in range(5_000)]}
OURS = {
    "provider": "split",
    "meta": {"spec": "1.3"},
    "sections": {"flags": {"a": {"name": "a"}}, "segments": {"beta": LARGE}},
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(OURS))
    return path


@pytest.fixture
def opened(tmp_path: Path, clock: FakeClock) -> Opened:
    def write(content: str | bytes | None, name: str = "flags.json") -> Client:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        store = FileReader(str(path), clock.now)
        return Client("prod", store=store, clock=clock.now, monotonic=clock.monotonic)

    return write


def test_exported_snapshot_round_trip(opened: Opened) -> None:
    flags = opened(json.dumps(OURS))
    assert flags.keys() == ["a"]
    assert flags.snapshot().item("segments", "beta") == LARGE
    assert flags.info().provider == "split"
    exported = flags.snapshot().export()
    assert exported == OURS
    assert opened(json.dumps(exported), "again.json").info().digest == flags.info().digest


def test_changed_file_is_read_again(opened: Opened, file: Path, clock: FakeClock) -> None:
    """Even if its time goes back; with a damaged one, the flags in memory stay."""
    flags = opened(json.dumps(OURS))
    assert flags.keys() == ["a"]
    for number, text in enumerate(['{"flagValues":{"b":1}}', '{"flagValues":{"ccc":1}}']):
        file.write_text(text)
        os.utime(file, (1_000 - number, 1_000 - number))
        clock.advance(EXPIRED_S)
        assert flags.keys() == list(json.loads(text)["flagValues"])
    file.write_text("{damaged")
    clock.advance(EXPIRED_S)
    assert flags.keys() == ["ccc"]
    assert flags.info().stale
    assert "flags.json" in flags.info().error


def test_file_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAGSTORE_FILE wins over a table or Redis."""
    monkeypatch.setenv("FLAGSTORE_FILE", str(file))
    monkeypatch.setenv("FLAGSTORE_TABLE", "flags")
    monkeypatch.setenv("FLAGSTORE_REDIS_URL", "redis://127.0.0.1:1")
    assert Client("prod").keys() == ["a"]


def test_file_is_read_with_warnings_as_errors(tmp_path: Path) -> None:
    """Also with -bb, and a segment that is read on its own."""
    clause = {"attribute": "", "op": "segmentMatch", "values": ["big"]}
    flag = {
        "on": True,
        "variations": [False, True],
        "fallthrough": {"variation": 0},
        "rules": [{"variation": 1, "clauses": [clause]}],
    }
    segments = {"big": {"included": ["ada", *LARGE["keys"]]}}
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": {"a": flag}, "segments": segments}))
    assert read_strictly({"FLAGSTORE_FILE": str(path)}) == "['a'] True \n"


ACTIVE, ARCHIVED = {"status": "ACTIVE"}, {"status": "ARCHIVED"}
SPLITS = [{"name": "a", **ACTIVE}, {"name": "b", **ARCHIVED}, ACTIVE]
APPCONFIG = {"flags": {"f": {"name": "f"}}, "values": {"f": {"enabled": True}}}
LEVELS = {"flags": {"enabled": True, "level": "info"}, "other": {"enabled": False}}


@pytest.mark.parametrize(
    ("content", "provider", "names"),
    [
        ({"flags": {"a": {"key": "a"}}}, "launchdarkly", "flags/a"),
        ({"flagValues": {"enabled": True}}, "launchdarkly", "flags/enabled"),
        ({"flagValues": {"v": 1}, "segments": {"s": {}}}, "launchdarkly", "flags/v segments/s"),
        ({"ff": {"d": SPLITS}, "segments": {"s": ["u"]}}, "split", "flags/a segments/s"),
        (
            {"ff": {"d": []}, "rbs": {"d": [{"name": "r", **ACTIVE}]}},
            "split",
            "rule_based_segments/r",
        ),
        ({"features": [{"name": "f"}], "segments": [{"id": 3}]}, "unleash", "flags/f segments/3"),
        ({"version": "1", **APPCONFIG}, "appconfig", "flags/f definitions/f"),
        ({"version": "1"}, "appconfig", ""),
        (LEVELS, "appconfig", "flags/flags flags/other"),
        (OURS, "split", "flags/a segments/beta"),
    ],
)
def test_documents_of_providers(content: Any, provider: str, names: str) -> None:
    found = document(content)
    assert found.provider == provider
    items = {f"{section}/{name}" for section in found.sections for name in found.sections[section]}
    assert items == set(names.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"provider": [], "sections": {}}',
        '{"features": 3}',
        '{"values": [1]}',
        '{"flagValues": {"a": NaN}}',
        '{"flagValues": {"a": 1e400}}',
        "[" * 99_999,
    ],
)
def test_unknown_documents(opened: Opened, text: str) -> None:
    with pytest.raises(errors.CorruptSnapshotError, match=r"flags\.json is not a document that"):
        opened(text).keys()


def test_algorithm_of_old_split_flags() -> None:
    """A seed without one is from before there were two; a local file may leave out both."""
    flags = document({"splits": [{"name": "old", "seed": 1}, {"name": "local"}]}).sections["flags"]
    assert ["algo" in flags[name] for name in ("old", "local")] == [False, True]


LAUNCHDARKLY_YAML = """
flags:
  ui: {key: ui, on: true, variations: [false, true], fallthrough: {variation: 1}, offVariation: 0}
  since:
    key: since
    on: yes
    variations: [false, true]
    fallthrough: {variation: 0}
    rules:
      - variation: 1
        clauses: [{attribute: at, op: after, values: [2024-01-01T00:00:00Z]}]
"""


def test_yaml_keys_and_dates_are_strings(opened: Opened) -> None:
    """YAML takes ``on`` for true, and its dates for objects."""
    flags = opened(LAUNCHDARKLY_YAML, "flags.yml")
    assert flags.enabled("ui", {"key": "ada"})
    assert flags.enabled("since", {"key": "ada", "at": "2025-01-01T00:00:00Z"})
    assert not flags.enabled("since", {"key": "ada", "at": "2023-01-01T00:00:00Z"})


def test_split_yaml_without_quotes(opened: Opened) -> None:
    text = "- a: {treatment: on, config: {x: 1}}\n- b: {treatment: off}\n- c: {treatment: 5}"
    flags = opened(text, "split.yaml")
    assert [flags.value(name, {"key": "ada"}, default="") for name in "abc"] == ["on", "off", "5"]
    assert flags.value("a", {"key": "ada"}, default={}) == {"x": 1}


def test_yaml_without_pyyaml(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(errors.ConfigurationError, match=r"flags\.yaml is YAML: install PyYAML"):
        opened(LAUNCHDARKLY_YAML, "flags.yaml").keys()


def test_byte_order_mark_is_ignored(opened: Opened) -> None:
    """Editors on Windows write one."""
    assert opened(b'\xef\xbb\xbf{"flagValues": {"a": 1}}').keys() == ["a"]


def test_missing_file(opened: Opened) -> None:
    with pytest.raises(errors.StoreUnavailableError, match=r"never\.json: No such file"):
        opened(None, "never.json").keys()


def bootstrapped(file: Path, records: Any, clock: FakeClock, **options: Any) -> Client:
    options |= {"clock": clock.now, "monotonic": clock.monotonic, "bootstrap": str(file)}
    return Client("prod", store=RecordsReader(records, clock), replicas=1, **options)


def test_bootstrap_serves_until_the_store_responds(file: Path, clock: FakeClock) -> None:
    records: Any = {}
    flags = bootstrapped(file, records, clock)
    assert flags.keys() == ["a"]
    assert flags.snapshot().item("segments", "beta") == LARGE
    assert flags.info().stale
    assert "nothing has been published" in flags.info().error
    record = published_record({"b": 1})
    records.update({key("prod"): record for key in (state_key, snapshot_key)})
    clock.advance(EXPIRED_S)
    assert flags.keys() == ["b"]
    assert not flags.info().stale


@pytest.mark.parametrize("data", [None, b"\xff\xfe{", b'{"provider": "split", "sections": 5}'])
def test_bad_bootstraps_raise_not_loaded(
    tmp_path: Path, clock: FakeClock, data: bytes | None
) -> None:
    """With the store's error and the file's; defaults if the caller asked for them."""
    path = tmp_path / "flags.json"
    if data is not None:
        path.write_bytes(data)
    flags = bootstrapped(path, {}, clock)
    for _ in range(2):
        with pytest.raises(errors.NotLoadedError, match=r"nothing has been published.*bootstrap"):
            flags.snapshot()
    lenient = bootstrapped(path, {}, clock, defaults_until_loaded=True)
    assert lenient.detail("a", default=5).error == "NOT_LOADED"
