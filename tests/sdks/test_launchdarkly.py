"""LaunchDarkly's own SDKs read what we published, and see what LaunchDarkly responded."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from sdks import launchdarkly_set
from sdks.launchdarkly_set import ALIKE, GONE, MAIN, NAMED_IN_ADVANCE, RULES
from sdks.rig import SOURCE, RedisRig, Rig, node, same
from simulators.launchdarkly import LaunchDarklySimulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.stand_in import StandIn
    from simulators.aws import Table

SCRIPT = "launchdarkly_python.py"
CONTEXTS = launchdarkly_set.contexts(200)
FLAGS = [*launchdarkly_set.flag_set()[0], "never-there"]
OFFICIAL = "@launchdarkly/node-server-sdk-dynamodb"


@pytest.fixture
def rig(aws: StandIn, dynamodb_table: Table) -> Iterator[Rig]:
    """Give an empty table, and a LaunchDarkly whose flags use all that its SDKs know."""
    with LaunchDarklySimulator(*launchdarkly_set.flag_set()) as server:
        yield Rig(aws, dynamodb_table, server, "launchdarkly")


def change(rig: Rig | RedisRig) -> None:
    """Change a flag and a segment, delete and archive flags, delete a segment; publish that."""
    server: Any = rig.server
    server.set_flag(MAIN, fallthrough={"variation": 2})
    server.set_segment("nested", rules=[])
    server.remove_flag(NAMED_IN_ADVANCE[0])
    server.remove_flag(NAMED_IN_ADVANCE[1], archive=True)
    server.remove_segment("used-by-no-flag")
    changes = rig.sync().changes
    assert changes.changed == (f"flags/{MAIN}", "segments/nested")
    assert set(changes.removed) == {
        *(f"flags/{key}" for key in NAMED_IN_ADVANCE),
        "segments/used-by-no-flag",
    }


def response(rig: Rig | RedisRig) -> dict[str, Any]:
    """Return what LaunchDarkly responses."""
    document: dict[str, Any] = json.loads(rig.server.document())
    return document


def python_sdk(rig: Rig | RedisRig) -> list[str]:
    """Compare the Python SDK on our rows with the one on the provider's response."""
    task = {"flags": FLAGS, "contexts": CONTEXTS}
    published = rig.python(SCRIPT, **task, **rig.place())
    same(published, rig.python(SCRIPT, **task, document=response(rig)), CONTEXTS)
    return published


def node_sdk(rig: Rig | RedisRig, store: str, file: Path) -> list[str]:
    """Compare the Node.js SDK on our rows with the one on the provider's response."""
    script, task = "launchdarkly.cjs", {"flags": FLAGS, "contexts": CONTEXTS}
    file.write_bytes(rig.server.document())
    published = rig.node(script, **task, **rig.place(), store=store)
    same(published, rig.node(script, **task, file=str(file)), CONTEXTS)
    return published


def assert_changes_show(before: list[str], after: list[str]) -> None:
    """Assert that the second reading is not the first: the changes are what was compared."""
    differing: Counter[str] = Counter()
    for old, new in zip(map(json.loads, before), map(json.loads, after), strict=True):
        differing.update(key for key in FLAGS if old["flags"][key] != new["flags"][key])
        for key in NAMED_IN_ADVANCE:
            assert old["flags"][key][2]["kind"] == "FALLTHROUGH"
            assert new["flags"][key][2] == {"kind": "ERROR", "errorKind": "FLAG_NOT_FOUND"}
            assert key in old["all"]
            assert key not in new["all"]
    assert differing.keys() >= {MAIN, *NAMED_IN_ADVANCE, "segmentMatch-2"}


def test_the_python_sdk_reads_what_launchdarkly_answered(rig: Rig) -> None:
    """In daemon mode, each value, variation and reason is LaunchDarkly's, after changes too."""
    assert rig.sync().outcome == "published"
    before = python_sdk(rig)
    change(rig)
    assert_changes_show(before, python_sdk(rig))


@pytest.mark.parametrize(("store", "package"), [("official", OFFICIAL), ("ours", "")])
def test_the_node_sdk_reads_what_launchdarkly_answered(
    rig: Rig, tmp_path: Path, store: str, package: str
) -> None:
    """The same of the Node.js SDK: with LaunchDarkly's package for DynamoDB, and with ours."""
    node(package)
    assert rig.sync().outcome == "published"
    before = node_sdk(rig, store, tmp_path / "response.json")
    change(rig)
    assert_changes_show(before, node_sdk(rig, store, tmp_path / "response.json"))


def test_the_flags_reach_every_part_of_an_evaluation(rig: Rig) -> None:
    """A flag set that is mostly off, or rules that never match, would prove nothing above."""
    lines = rig.python(SCRIPT, flags=FLAGS, contexts=CONTEXTS, document=response(rig))
    kinds: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    trials = 0
    for result in map(json.loads, lines):
        assert result["valid"]
        assert result["all"]["$valid"]
        for _, _, reason in result["flags"].values():
            kinds[reason["kind"]] += 1
            errors[reason.get("errorKind", "")] += 1
            rules[reason.get("ruleId", "")] += 1
            trials += reason.get("inExperiment", False)
    total = kinds.total()
    assert total == len(CONTEXTS) * len(FLAGS)
    assert kinds["OFF"] + kinds["FALLTHROUGH"] + kinds["ERROR"] < 0.7 * total
    for kind in ("OFF", "FALLTHROUGH", "TARGET_MATCH", "RULE_MATCH", "PREREQUISITE_FAILED"):
        assert kinds[kind] >= 100, kind
    assert errors.keys() == {"", "FLAG_NOT_FOUND", "MALFORMED_FLAG"}
    assert trials >= 100
    for rule in set(RULES) - ALIKE:
        assert 5 <= rules[rule] <= len(CONTEXTS) - 5, rule
    kinds_of_context = Counter(context["kind"] for context in CONTEXTS)
    assert kinds_of_context["multi"] >= 40
    assert kinds_of_context["organisation"] >= 10


def test_the_rows_are_those_that_launchdarklys_sdk_writes(rig: Rig) -> None:
    """Same keys, attributes, types and versions, and the item as LaunchDarkly wrote it."""
    rig.sync()
    document = response(rig)
    rig.python(SCRIPT, document=document, table=rig.table.name, prefix="theirs", write=True)
    ours, theirs = rig.rows(), rig.rows("theirs")
    # Of what is deleted they keep a tombstone, and we nothing.
    del theirs["features", GONE]
    assert ours.keys() == theirs.keys() - {("$inited", "theirs:$inited")} | {
        ("$inited", f"{SOURCE}:$inited")
    }
    marker = {"S": f"{SOURCE}:$inited"}
    assert ours.pop(("$inited", f"{SOURCE}:$inited")) == {"namespace": marker, "key": marker}
    for (section, key), row in ours.items():
        item = document["flags" if section == "features" else section][key]
        assert row == {
            "namespace": {"S": f"{SOURCE}:{section}"},
            "key": {"S": key},
            "version": {"N": str(item["version"])},
            "item": {"S": json.dumps(item, separators=(",", ":"))},
        }
        their = theirs[section, key]
        assert their.keys() == row.keys()
        assert their["version"] == row["version"]
        assert json.dumps(json.loads(their["item"]["S"])) == json.dumps(item)


class Recorder:
    """Passes calls on to a client, and notes which rows transactions put, in order."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.transactions: list[list[tuple[str, str]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, TransactItems: list[Any]) -> Any:  # noqa: N803 - boto3's name
        """Note what is put."""
        puts = [item["Put"]["Item"] for item in TransactItems if "Put" in item]
        answered = self._client.transact_write_items(TransactItems=TransactItems)
        self.transactions.append([(put["namespace"]["S"], put["key"]["S"]) for put in puts])
        return answered


def test_the_mark_of_a_complete_store_comes_last(rig: Rig) -> None:
    """`$inited` follows the last row, since SDKs take a store that has it for complete."""
    recorder = Recorder(rig.table.client)
    rig.sync(recorder)
    names = (f"{SOURCE}:features", f"{SOURCE}:segments", f"{SOURCE}:$inited")
    rows = [[row for row in group if row[0] in names] for group in recorder.transactions]
    rows = [group for group in rows if group]
    assert len(rows) > 1
    written = [row for group in rows for row in group]
    marker = (f"{SOURCE}:$inited", f"{SOURCE}:$inited")
    assert written.count(marker) == 1
    assert written[-1] == marker
    change(rig)
    assert ("$inited", f"{SOURCE}:$inited") in rig.rows()
