"""The providers' own SDKs under the same faults as flagstore.

It runs among the Python SDKs. Standard input holds one ``task`` and its arguments as JSON; one JSON
object is printed. For LaunchDarkly's DynamoDB store, faults are planted into the boto3 client that
the store makes, never into the store.
"""

# ruff: noqa: PLC0415 - each process imports one SDK

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import sys
import tempfile
import time
from typing import Any

import boto3

TIMEOUT_S = 5
"""LaunchDarkly's own default; for Split, the one in the examples of its documentation."""
REAL = boto3.client


class Killed(BaseException):
    """Simulated death of the process."""


class Planted:
    """A client of DynamoDB whose batches are cut short, or that dies before or after a call."""

    def __init__(self, client: Any, share: float, kill_at: int, rng: random.Random) -> None:
        self._client, self._share, self._rng = client, share, rng
        self._kill_at = kill_at
        self.moments = 0
        self.forgotten = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_write_item(self, RequestItems: dict[str, Any]) -> Any:  # noqa: N803 - boto3's name
        """Write some items and return the others as unprocessed."""
        self._moment()
        ((table, requests),) = RequestItems.items()
        kept = [request for request in requests if self._rng.random() >= self._share]
        left = [request for request in requests if request not in kept]
        self.forgotten += len(left)
        if kept:
            self._client.batch_write_item(RequestItems={table: kept})
        self._moment()
        return {"UnprocessedItems": {table: left} if left else {}}

    def _moment(self) -> None:
        if self.moments == self._kill_at:
            raise Killed
        self.moments += 1


def flags(start: int, end: int, version: int) -> dict[str, Any]:
    """Return the flags of one version, from *start* to *end*."""
    return {
        f"flag-{n:04}": {"key": f"flag-{n:04}", "version": version, "n": n * version}
        for n in range(start, end)
    }


def store(task: dict[str, Any], prefix: str, *, share: float = 0.0, kill_at: int = -1) -> Any:
    """Open an SDK's store without its cache, with the planted client."""
    from ldclient.integrations import DynamoDB

    planted = Planted(REAL("dynamodb"), share, kill_at, random.Random(7))
    boto3.client = lambda *_, **__: planted
    return DynamoDB.new_feature_store(task["table"], prefix=prefix), planted


def seen(task: dict[str, Any], prefix: str) -> tuple[dict[str, Any], bool]:
    """Return the flags that a fresh reader sees, and whether it considers the store complete."""
    from ldclient.versioned_data_kind import FEATURES

    opened, _ = store(task, prefix)
    # Some versions hand out their own type of flag: what was written is enough.
    found = opened.all(FEATURES, lambda found: found)
    plain = {
        key: flag if isinstance(flag, dict) else flag.to_json_dict() for key, flag in found.items()
    }
    written = ("key", "version", "n")
    content = {key: {name: flag[name] for name in written} for key, flag in plain.items()}
    return content, opened.initialized


def init(opened: Any, content: dict[str, Any]) -> str:
    """Write a full set; return the name of the exception."""
    from ldclient.versioned_data_kind import FEATURES, SEGMENTS

    try:
        opened.init({FEATURES: content, SEGMENTS: {}})
    except Killed:
        return "Killed"
    except Exception as error:  # noqa: BLE001 - whatever it is, is the result
        return type(error).__name__
    return ""


def unprocessed(task: dict[str, Any]) -> dict[str, Any]:
    """Write 1,000 flags, a share of all items left unprocessed."""
    opened, planted = store(task, "u", share=task["share"])
    raised = init(opened, flags(0, 1_000, 1))
    found, initialized = seen(task, "u")
    return {
        "stored": len(found),
        "raised": raised,
        "initialized": initialized,
        "forgotten": planted.forgotten,
    }


def killed(task: dict[str, Any]) -> dict[str, Any]:
    """Kill the step from 250 flags to 210 at every moment; count the outcomes for readers."""
    old, new = flags(0, 250, 1), flags(40, 250, 2)
    counts = {"points": 0, "old": 0, "new": 0, "mixed": 0, "mixed and initialized": 0}
    dry, planted = store(task, "dry")
    init(dry, old)
    dry, planted = store(task, "dry")
    init(dry, new)
    for moment in range(planted.moments):
        prefix = f"k{moment}"
        init(store(task, prefix)[0], old)
        assert init(store(task, prefix, kill_at=moment)[0], new) == "Killed"
        found, initialized = seen(task, prefix)
        kind = "old" if found == old else "new" if found == new else "mixed"
        counts["points"] += 1
        counts[kind] += 1
        counts["mixed and initialized"] += kind == "mixed" and initialized
    return counts


def older(task: dict[str, Any]) -> dict[str, Any]:
    """Write a full set, then an older one, as a slower process would."""
    init(store(task, "o")[0], flags(0, 100, 2))
    raised = init(store(task, "o")[0], flags(0, 100, 1))
    found, _ = seen(task, "o")
    return {"raised": raised, "version": max(flag["version"] for flag in found.values())}


def shrunk(task: dict[str, Any]) -> dict[str, Any]:
    """Write 100 flags, then fewer of them."""
    init(store(task, "e")[0], flags(0, 100, 1))
    raised = init(store(task, "e")[0], flags(0, task["left"], 2))
    found, initialized = seen(task, "e")
    return {"raised": raised, "stored": len(found), "initialized": initialized}


def fetched(task: dict[str, Any]) -> dict[str, Any]:
    """Fetch once, as UnleashClient does at its start; return its number of flags."""
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    client = UnleashClient(
        task["url"],
        "shop",
        environment="production",
        disable_metrics=True,
        disable_registration=True,
        custom_headers={"Authorization": task["key"]},
        cache=FileCache("shop", directory=task["folder"]),
        refresh_interval=3_600,
    )
    with contextlib.suppress(Exception):  # what it knows is the result
        client.initialize_client()
    return {"known": len(client.feature_definitions())}


def started(task: dict[str, Any]) -> dict[str, Any]:
    """Start an SDK, wait as its documentation suggests, and ask for one flag."""
    begun = time.monotonic()
    make = {"launchdarkly": streaming, "launchdarkly_daemon": daemon, "split": polling}
    value = make.get(task["way"], unleash)(task["url"], task["key"], task["flag"])
    return {"value": value, "seconds": time.monotonic() - begun}


def streaming(url: str, key: str, flag: str) -> Any:
    """Return the flag's value from LaunchDarkly's SDK with its defaults."""
    from ldclient import Config, Context, LDClient

    config = Config(key, base_uri=url, stream_uri=url, events_uri=url, send_events=False)
    return LDClient(config).variation(flag, Context.create("ada"), "the default")


def daemon(_url: str, key: str, flag: str) -> Any:
    """Return the flag's value from LaunchDarkly's SDK on the rows in DynamoDB."""
    from ldclient import Config, Context, LDClient
    from ldclient.integrations import DynamoDB

    rows = DynamoDB.new_feature_store(os.environ["FLAGSTORE_TABLE"], prefix="prod")
    config = Config(key, feature_store=rows, use_ldd=True, send_events=False)
    return LDClient(config).variation(flag, Context.create("ada"), "the default")


def polling(url: str, key: str, flag: str) -> Any:
    """Return the flag's treatment from Split's SDK, which uses this server only."""
    from splitio import get_factory
    from splitio.exceptions import TimeoutException

    names = ("sdk", "events", "auth", "telemetry")
    addresses = {f"{name}_api_base_url": url for name in names}
    factory = get_factory(key, config={"streamingEnabled": False}, **addresses)
    with contextlib.suppress(TimeoutException):
        factory.block_until_ready(TIMEOUT_S)
    return factory.client().get_treatment("ada", flag)


def unleash(url: str, key: str, flag: str) -> Any:
    """Return whether the flag is on for UnleashClient with an empty file cache."""
    from UnleashClient import UnleashClient

    headers = {"Authorization": key}
    folder = tempfile.mkdtemp()
    client = UnleashClient(f"{url}/api", "shop", custom_headers=headers, cache_directory=folder)
    client.initialize_client()
    return client.is_enabled(flag, {"userId": "ada"})


TASKS = {each.__name__: each for each in (unprocessed, killed, older, shrunk, fetched, started)}


def main() -> None:
    """Run the task."""
    logging.disable(logging.CRITICAL)
    task = json.load(sys.stdin)
    print(json.dumps(TASKS[task["task"]](task)))
    sys.stdout.flush()
    os._exit(0)  # an SDK's threads would go on trying to reach its provider


main()
