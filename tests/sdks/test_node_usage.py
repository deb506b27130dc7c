"""Counts that Node.js prints equal those of Python's reader for the same evaluations."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import usage
from rigs import SOURCE
from sdks import processes
from sdks.test_node import CIRCLE
from sdks.test_node_adapters import SDKS, command, provider_of, serving, task_of
from sdks.test_usage import _context
from storesync.usage_lines import COUNTS, Line, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flagstore.clients import Client
    from rigs import DynamoRig


@pytest.fixture(autouse=True)
def no_other_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the clients of other tests: a flush would print their counts as well."""
    monkeypatch.setattr(usage, "_counters", [])


def summed(printed: Iterable[Any]) -> tuple[Any, ...]:
    """Return what the lines name, as UsageFunction reads them: flags with the sums of results."""
    lines = [line for line in map(parse, printed) if isinstance(line, Line)]
    counts: Counter[Any] = Counter()
    for line in lines:
        for key, cells in line.flags.items():
            for number, *result in cells:
                counts[key, *result] += number
    kinds = {kind for line in lines for kind in line.kinds}
    return counts, kinds, {(line.source, line.provider, line.version, line.app) for line in lines}


def evaluate(client: Client, provider: str, flags: list[str], contexts: list[Any]) -> None:
    for given in contexts:
        user = client.for_context(_context(provider, given))
        for key in flags:
            user.detail(key)
            if provider == "unleash":
                user.enabled(key)


@pytest.mark.parametrize("sdk", sorted(SDKS.keys() - {"launchdarkly-8"}))  # it has no hooks
def test_sdk_is_counted_as_in_python(
    dynamo_rig: DynamoRig, sdk: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each flag, variation and version, prerequisites included; nothing of a context."""
    provider = provider_of(sdk)
    task = task_of(sdk, 40) | {"sets": []}
    # Results that differ between the SDKs themselves: Unleash's hashes of other than ASCII.
    task["flags"] = [key for key in task["flags"] if key not in CIRCLE]
    if provider == "unleash":
        task["contexts"] = [each for each in task["contexts"] if each["userId"].isascii()]
    with serving(dynamo_rig, sdk):
        environment = dynamo_rig.environment() | {
            "FLAGSTORE_USAGE": "counts",
            "FLAGSTORE_APP_NAME": "shop",
        }
        printed = processes.run(command(sdk, SOURCE), task, environment)
        client, connection = dynamo_rig.reader(
            usage="counts", app_name="shop", environment="production"
        )
        evaluate(client, provider, task["flags"], task["contexts"])
        capfd.readouterr()
        client.flush()
        ours = summed(map(json.loads, capfd.readouterr().out.splitlines()))
        connection.close()
    lines = [line for line in printed if COUNTS in line]
    found = summed(lines)
    assert found == ours
    assert found[0].total() >= (len(task["flags"]) - 1) * len(task["contexts"])  # not of `control`
    assert all(len(json.dumps(line, separators=(",", ":"))) < 4_000 for line in lines)
    assert "user-" not in json.dumps(lines)
