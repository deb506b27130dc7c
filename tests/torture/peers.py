"""The providers' own SDKs under the same faults as flagstore.

It runs among the Python SDKs. Standard input holds one ``task`` and its arguments as JSON; one JSON
object is printed. Faults are planted into the boto3 client that LaunchDarkly's store makes.
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
from functools import partial
from pathlib import Path
from typing import Any

import boto3

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulators.unreliable import WRITES, Killed, UnreliableClient

TIMEOUT_S = 5
"""LaunchDarkly's own default; for Split, the one in the examples of its documentation."""
REAL = boto3.client
CONTENT = ("key", "version", "n")


def flags(start: int, end: int, version: int) -> dict[str, Any]:
    """Return the flags of one version, from *start* to *end*."""
    return {
        f"flag-{n:04}": {"key": f"flag-{n:04}", "version": version, "n": n * version}
        for n in range(start, end)
    }


def store(task: dict[str, Any], prefix: str, *, share: float = 0.0, kill_at: int = -1) -> Any:
    """Open an SDK's store without its cache; return it, its client, and moments around writes."""
    from ldclient.integrations import DynamoDB

    moments: list[str] = []

    def fault(operation: str, moment: str, _number: int) -> None:
        if operation in WRITES:
            if len(moments) == kill_at:
                raise Killed
            moments.append(moment)

    planted = UnreliableClient(REAL("dynamodb"), fault, share, random.Random(7))
    boto3.client = lambda *_, **__: planted
    return DynamoDB.new_feature_store(task["table"], prefix=prefix), planted, moments


def seen(task: dict[str, Any], prefix: str) -> tuple[dict[str, Any], bool]:
    """Return the flags that a fresh reader sees, and whether it considers the store complete."""
    from ldclient.versioned_data_kind import FEATURES

    opened, *_ = store(task, prefix)
    # Some versions hand out their own type of flag: what was written is enough.
    found = opened.all(FEATURES, lambda found: found)
    plain = {key: f if isinstance(f, dict) else f.to_json_dict() for key, f in found.items()}
    content = {key: {name: flag[name] for name in CONTENT} for key, flag in plain.items()}
    return content, opened.initialized


def init(opened: Any, content: dict[str, Any]) -> str:
    """Write a full set; return the name of the exception."""
    from ldclient.versioned_data_kind import FEATURES, SEGMENTS

    try:
        opened.init({FEATURES: content, SEGMENTS: {}})
    except (Killed, Exception) as error:  # noqa: BLE001 - whatever it is, is the result
        return type(error).__name__
    return ""


def unprocessed(task: dict[str, Any]) -> dict[str, Any]:
    """Write 1,000 flags, a share of all items left unprocessed."""
    opened, planted, _ = store(task, "u", share=task["share"])
    raised = init(opened, flags(0, 1_000, 1))
    found, initialized = seen(task, "u")
    how = {"raised": raised, "initialized": initialized}
    return {"stored": len(found), "forgotten": planted.forgotten, **how}


def killed(task: dict[str, Any]) -> dict[str, Any]:
    """Kill the step from 250 flags to 210 at every moment; count the outcomes for readers."""
    old, new = flags(0, 250, 1), flags(40, 250, 2)
    counts = {"points": 0, "mixed": 0, "mixed and initialized": 0}
    init(store(task, "dry")[0], old)
    dry, _, moments = store(task, "dry")
    init(dry, new)
    for moment in range(len(moments)):
        prefix = f"k{moment}"
        init(store(task, prefix)[0], old)
        assert init(store(task, prefix, kill_at=moment)[0], new) == "Killed"
        found, initialized = seen(task, prefix)
        mixed = found not in (old, new)
        counts["points"] += 1
        counts["mixed"] += mixed
        counts["mixed and initialized"] += mixed and initialized
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
    client = unleash_client(task["url"], task["key"], task["folder"])
    with contextlib.suppress(Exception):  # what it knows is the result
        client.initialize_client()
    return {"known": len(client.feature_definitions())}


def unleash_client(url: str, key: str, folder: str) -> Any:
    """Return UnleashClient with a file cache."""
    from UnleashClient import UnleashClient

    return UnleashClient(
        f"{url}/api",
        "shop",
        custom_headers={"Authorization": key},
        cache_directory=folder,
        disable_metrics=True,
        disable_registration=True,
    )


def started(task: dict[str, Any]) -> dict[str, Any]:
    """Start an SDK, wait as its documentation suggests, and ask for one flag."""
    begun = time.monotonic()
    value = STARTS[task["way"]](task["url"], task["key"], task["flag"])
    return {"value": value, "seconds": time.monotonic() - begun}


def launchdarkly(url: str, key: str, flag: str, *, daemon: bool = False) -> Any:
    """Return the flag's value from LaunchDarkly's SDK, streaming or on the rows in DynamoDB."""
    from ldclient import Config, Context, LDClient
    from ldclient.integrations import DynamoDB

    more: dict[str, Any] = {}
    if daemon:
        rows = DynamoDB.new_feature_store(os.environ["FLAGSTORE_TABLE"], prefix="prod")
        more = {"feature_store": rows, "use_ldd": True}
    config = Config(key, base_uri=url, stream_uri=url, events_uri=url, send_events=False, **more)
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
    client = unleash_client(url, key, tempfile.mkdtemp())
    client.initialize_client()
    return client.is_enabled(flag, {"userId": "ada"})


STARTS = {
    "launchdarkly": launchdarkly,
    "launchdarkly_daemon": partial(launchdarkly, daemon=True),
    "split": polling,
    "unleash": unleash,
}
TASKS = {each.__name__: each for each in (unprocessed, killed, older, shrunk, fetched, started)}

logging.disable(logging.CRITICAL)
TASK = json.load(sys.stdin)
print(json.dumps(TASKS[TASK["task"]](TASK)))
sys.stdout.flush()
os._exit(0)  # an SDK's threads would go on trying to reach its provider
