"""Split's Python SDK at work, in an environment of its own.

It is told what to do on standard input, as JSON: the ``url`` and ``sdk_key`` of a Split, or the
``snapshot`` of a source that our adapter reads, on the ``path`` of our modules; and which ``flags``
and flag ``sets`` to evaluate for which ``contexts``, each a key with attributes. It prints a line
for each context, then what the manager knows, and last what was read of the table.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from splitio import get_factory

READY_S = 20


def main() -> None:
    """Do what standard input says."""
    task = json.load(sys.stdin)
    factory, calls = _adapter(task) if task.get("snapshot") else (_polling(task), [])
    factory.block_until_ready(READY_S)
    client, manager = factory.client(), factory.manager()
    for context in task["contexts"]:
        key, attributes = context["key"], context["attributes"]
        print(
            json.dumps(
                {
                    "flags": client.get_treatments_with_config(key, task["flags"], attributes),
                    "sets": client.get_treatments_by_flag_sets(key, task["sets"], attributes),
                }
            )
        )
    names = sorted(manager.split_names())
    views = {view.name: [view.traffic_type, view.treatments] for view in manager.splits()}
    tracked = client.track("user-1", "user", "bought", 1.5)
    one = manager.split(names[0])
    print(json.dumps([names, {n: [t, sorted(ts)] for n, (t, ts) in views.items()}, one.name]))
    print(json.dumps(tracked))
    print(json.dumps(calls))


def _polling(task: dict[str, Any]) -> Any:
    addresses = dict.fromkeys(
        ("sdk_api_base_url", "events_api_base_url", "auth_api_base_url", "telemetry_api_base_url"),
        task["url"] + "/api",
    )
    config = {"streamingEnabled": False, "impressionsMode": "none"}
    return get_factory(task["sdk_key"], config=config, **addresses)


def _adapter(task: dict[str, Any]) -> tuple[Any, list[str]]:
    sys.path += task["path"]
    from snapshot_client import counted_client  # noqa: PLC0415 - it is there from now on

    from flagstore.adapters.split import SnapshotWrapper  # noqa: PLC0415

    client, calls = counted_client(task["snapshot"])
    config = {
        "storageType": "pluggable",
        "storageWrapper": SnapshotWrapper(client),
        "storagePrefix": task.get("prefix"),
        "impressionsMode": task.get("impressions", "none"),
    }
    return get_factory("no-key", config=config), calls


main()
