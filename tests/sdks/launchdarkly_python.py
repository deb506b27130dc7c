"""LaunchDarkly's Python SDK at work, in an environment of its own.

It is told what to do on standard input, as JSON: where the flags are (``document``, or ``table``
or the URL ``redis``, and ``prefix``), and which ``flags`` to evaluate for which ``contexts``. It
prints a line for each context. Told to ``write``, it writes the document there and evaluates
nothing. Told the ``snapshot`` of a source, it reads that through our adapter, on the ``path`` of
our modules, and prints at the end what was read of the table.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ldclient import Config, Context, LDClient
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.integrations import DynamoDB, Redis
from ldclient.versioned_data_kind import FEATURES, SEGMENTS


def main() -> None:
    """Do what standard input says."""
    task = json.load(sys.stdin)
    document = task.get("document")
    store: Any = InMemoryFeatureStore()
    if task.get("table"):
        store = DynamoDB.new_feature_store(task["table"], prefix=task["prefix"])
    if task.get("redis"):
        store = Redis.new_feature_store(task["redis"], prefix=task["prefix"])
    calls: list[str] = []
    if task.get("snapshot"):
        store, calls = _adapter(task)
    if document:
        store.init({SEGMENTS: document["segments"], FEATURES: document["flags"]})
    if task.get("write"):
        return
    # "LDD": the daemon mode. The SDK reads its store, and asks LaunchDarkly nothing.
    with LDClient(
        Config("no-key", feature_store=store, use_ldd=True, send_events=False), start_wait=0
    ) as client:
        for given in task["contexts"]:
            print(json.dumps(_results(client, Context.from_dict(given), task["flags"])))
    if task.get("snapshot"):
        print(json.dumps(calls))


def _adapter(task: dict[str, Any]) -> tuple[Any, list[str]]:
    sys.path += task["path"]
    from snapshot_client import counted_client  # noqa: PLC0415 - it is there from now on

    from flagstore.adapters.launchdarkly import SnapshotFeatureStore  # noqa: PLC0415

    client, calls = counted_client(task["snapshot"])
    return SnapshotFeatureStore(client), calls


def _results(client: LDClient, context: Context, flags: list[str]) -> dict[str, Any]:
    results = {}
    for flag in flags:
        detail = client.variation_detail(flag, context, "the default")
        results[flag] = [detail.value, detail.variation_index, detail.reason]
    state = client.all_flags_state(context, with_reasons=True)
    return {"valid": context.valid, "flags": results, "all": state.to_json_dict()}


main()
