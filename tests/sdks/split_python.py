"""Split's Python SDK at work, in an environment of its own.

It is told what to do on standard input, as JSON: where the flags are (``url`` and ``key`` of
Split's API, or the URL ``redis`` and ``prefix``), which ``flags`` and flag ``sets`` to evaluate for
which ``contexts``. It prints a line for each context.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

from splitio import Key, get_factory

NOWHERE = "http://127.0.0.1:9"


def main() -> None:
    """Do what standard input says."""
    task = json.load(sys.stdin)
    factory = _redis(task) if "redis" in task else _direct(task)
    factory.block_until_ready(20)
    client = factory.client()
    for context in task["contexts"]:
        key = Key(context["key"], context["bucketing"] or context["key"])
        arguments = {"attributes": context["attributes"]}
        results = {
            # One by one: of several at once, all are control where one cannot be evaluated.
            "flags": {
                name: client.get_treatment_with_config(key, name, **arguments)
                for name in task["flags"]
            },
            "sets": {
                name: client.get_treatments_with_config_by_flag_set(key, name, **arguments)
                for name in task["sets"]
            },
            "names": sorted(factory.manager().split_names()),
        }
        print(json.dumps(results))
    sys.stdout.flush()
    if "redis" in task:  # let it write what it has counted
        destroyed = threading.Event()
        factory.destroy(destroyed)
        destroyed.wait(10)
    os._exit(0)  # its threads would try to tell Split how it went


def _redis(task: dict[str, Any]) -> Any:
    url = urlsplit(task["redis"])
    config = {
        "redisHost": url.hostname,
        "redisPort": url.port,
        "redisUsername": unquote(url.username or "") or None,
        "redisPassword": unquote(url.password or "") or None,
        "redisPrefix": task["prefix"],
        "impressionsMode": "none",
    }
    return get_factory("redis", config=config)


def _direct(task: dict[str, Any]) -> Any:
    return get_factory(
        task["key"],
        config={"streamingEnabled": False, "impressionsMode": "none"},
        sdk_api_base_url=task["url"],
        events_api_base_url=NOWHERE,
        auth_api_base_url=NOWHERE,
        telemetry_api_base_url=NOWHERE,
    )


main()
