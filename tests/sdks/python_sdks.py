"""The providers' own Python SDKs at work, in an environment of their own.

Standard input holds a task as JSON: the ``sdk``, the ``flags`` to evaluate for which ``contexts``,
and where the flags are, one of

- ``document``: the provider's response (Unleash's as a string)
- ``table`` or ``redis`` (a URL), with the ``prefix`` of the rows
- ``url`` and ``key``: Split's API
- ``file``: a local file of the SDK
- ``snapshot``: a source, read by flagstore's adapter; ``path`` holds our modules

One line of JSON is printed per context; for a snapshot, the last line holds the reads of the store.
LaunchDarkly's SDK told to ``write`` stores the document and evaluates nothing.
"""

# ruff: noqa: PLC0415 - each process imports one SDK

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_S = 20
NOWHERE = "http://127.0.0.1:9"
TASK: dict[str, Any] = json.load(sys.stdin)
CALLS: list[str] = []


def main() -> None:
    logging.disable(logging.CRITICAL)
    for line in globals()[TASK["sdk"]]():
        print(json.dumps(line))
    if "snapshot" in TASK:
        print(json.dumps(CALLS))
    sys.stdout.flush()
    os._exit(0)  # an SDK's threads would go on trying to reach its provider


def snapshot_client() -> Any:
    """Return a client whose reads of the table are noted in ``CALLS``."""
    sys.path += TASK["path"]
    from flagstore import Client
    from flagstore.stores.dynamodb import open_reader

    reader = open_reader()
    read = reader.read

    def counted_read(key: Any, **options: Any) -> Any:
        CALLS.append(f"read {key.namespace}")
        return read(key, **options)

    reader.read = counted_read
    return Client(TASK["snapshot"], store=reader)


def launchdarkly() -> Iterator[Any]:
    from ldclient import Config, Context, LDClient
    from ldclient.feature_store import InMemoryFeatureStore
    from ldclient.integrations import DynamoDB, Files, Redis
    from ldclient.versioned_data_kind import FEATURES, SEGMENTS

    store: Any = InMemoryFeatureStore()
    if "table" in TASK:
        store = DynamoDB.new_feature_store(TASK["table"], prefix=TASK["prefix"])
    if "redis" in TASK:
        store = Redis.new_feature_store(TASK["redis"], prefix=TASK["prefix"])
    if "snapshot" in TASK:
        snapshots = snapshot_client()
        from flagstore.adapters.launchdarkly import SnapshotFeatureStore

        store = SnapshotFeatureStore(snapshots)
    if "document" in TASK:
        document = TASK["document"]
        store.init({SEGMENTS: document["segments"], FEATURES: document["flags"]})
    if "write" in TASK:
        return
    # "LDD" is daemon mode: the SDK reads its store, and asks LaunchDarkly nothing.
    config: dict[str, Any] = {"feature_store": store, "use_ldd": True}
    if "file" in TASK:
        config = {"update_processor_class": Files.new_data_source(paths=[TASK["file"]])}
    if "usage" in TASK:  # the address for events
        config |= {"events_uri": TASK["usage"], "diagnostic_opt_out": True}
    client = LDClient(Config("no-key", send_events="usage" in TASK, **config))
    for given in TASK["contexts"]:
        context = Context.from_dict(given)
        details = {flag: client.variation_detail(flag, context, "dft") for flag in TASK["flags"]}
        observe(client, context)
        yield {
            "flags": {flag: [d.value, d.variation_index, d.reason] for flag, d in details.items()},
            "all": client.all_flags_state(context, with_reasons=True).to_json_dict(),
        }
    client.close()


def observe(client: Any, context: Any) -> None:
    """Evaluate without the reasons, and track."""
    for flag in TASK.get("variations", ()):
        client.variation(flag, context, None)
    for name, *rest in TASK.get("tracked", ()):
        client.track(name, context, *rest)


def split() -> Iterator[Any]:
    from splitio import Key

    factory = split_factory()
    factory.block_until_ready(READY_S)
    client, manager = factory.client(), factory.manager()
    for given in TASK["contexts"]:
        key = Key(given["key"], given.get("bucketing") or given["key"])
        arguments = {"attributes": given.get("attributes")}
        yield {
            # One by one: of several at once, all are control where one cannot be evaluated.
            "flags": {
                name: client.get_treatment_with_config(key, name, **arguments)
                for name in TASK["flags"]
            },
            "sets": {
                name: client.get_treatments_with_config_by_flag_set(key, name, **arguments)
                for name in TASK.get("sets", ())
            },
        }
    views = {each.name: [each.traffic_type, sorted(each.treatments)] for each in manager.splits()}
    yield {"names": sorted(manager.split_names()), "views": views}
    yield client.track("user-1", "user", "bought", 1.5)
    if "redis" in TASK or "usage" in TASK:  # let it write its counts
        destroyed = threading.Event()
        factory.destroy(destroyed)
        destroyed.wait(10)


def split_factory() -> Any:
    from splitio import get_factory

    config: dict[str, Any] = {"impressionsMode": TASK.get("impressions", "none")}
    if "file" in TASK:
        return get_factory("localhost", config={"splitFile": TASK["file"]})
    if "redis" in TASK:
        url = urlsplit(TASK["redis"])
        config |= {
            "redisHost": url.hostname,
            "redisPort": url.port,
            "redisUsername": unquote(url.username or "") or None,
            "redisPassword": unquote(url.password or "") or None,
            "redisPrefix": TASK["prefix"],
        }
        return get_factory("redis", config=config)
    if "snapshot" in TASK:
        snapshots = snapshot_client()
        from flagstore.adapters.split import SnapshotWrapper

        wrapper = SnapshotWrapper(snapshots)
        config |= {"storageType": "pluggable", "storageWrapper": wrapper}
        return get_factory("no-key", config=config | {"storagePrefix": TASK.get("prefix")})
    others = ("events_api_base_url", "auth_api_base_url", "telemetry_api_base_url")
    elsewhere = TASK.get("usage", NOWHERE)
    addresses = {"sdk_api_base_url": TASK["url"], **dict.fromkeys(others, elsewhere)}
    return get_factory(TASK["key"], config=config | {"streamingEnabled": False}, **addresses)


def unleash() -> Iterator[Any]:
    from UnleashClient import UnleashClient

    if "snapshot" in TASK and not TASK.get("cache"):
        snapshots = snapshot_client()
        from flagstore.adapters.unleash import SnapshotClient

        client = SnapshotClient(snapshots, "shop", environment="production")
    else:
        options = {"disable_registration": True, "cache": unleash_cache()}
        counts, url = "usage" in TASK, TASK.get("usage", NOWHERE)
        options["disable_metrics"] = not counts
        client = UnleashClient(f"{url}/api", "shop", "production", **options)
        if counts:
            client.initialize_client(fetch_toggles=False)
    for context in TASK["contexts"]:
        yield {
            "flags": {
                flag: [client.is_enabled(flag, context), client.get_variant(flag, context)]
                for flag in TASK["flags"]
            },
            "known": len(client.feature_definitions()),
        }
    if "usage" in TASK:
        client.destroy()


def unleash_cache() -> Any:
    """Return a cache that holds the task's document, or flagstore's."""
    if "snapshot" in TASK:
        snapshots = snapshot_client()
        from flagstore.adapters.unleash import SnapshotCache

        return SnapshotCache(snapshots)
    from UnleashClient.cache import BaseCache
    from UnleashClient.constants import FEATURES_URL

    class OneDocument(dict[str, Any], BaseCache):  # type: ignore[misc, unused-ignore]
        bootstrapped = True
        set, mset, exists, destroy = dict.__setitem__, dict.update, dict.__contains__, dict.clear

    return OneDocument({FEATURES_URL: TASK["document"]})


main()
