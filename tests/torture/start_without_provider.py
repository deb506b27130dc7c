"""A provider's own SDK in a process that starts while the provider responds nothing but 503.

It runs among the Python SDKs. Standard input has the ``way`` to start, the ``url`` and the ``key``
of the server and the ``flag`` to look at. It waits as long as the SDK's documentation suggests,
asks for the flag, and prints what it got and after how many seconds, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from typing import Any

PATIENCE_S = 5
"""LaunchDarkly's own default; of Split's, the examples of its documentation."""

logging.disable(logging.CRITICAL)


def launchdarkly(url: str, key: str, flag: str) -> Any:
    """Return the flag's value; streaming, as by default."""
    from ldclient import Config, Context, LDClient  # noqa: PLC0415 - one SDK a process

    config = Config(key, base_uri=url, stream_uri=url, events_uri=url, send_events=False)
    return LDClient(config).variation(flag, Context.create("ada"), "the default")


def launchdarkly_daemon(url: str, key: str, flag: str) -> Any:  # noqa: ARG001 - as the others
    """Return the flag's value; from the rows in DynamoDB, so that nobody is asked."""
    from ldclient import Config, Context, LDClient  # noqa: PLC0415 - one SDK a process
    from ldclient.integrations import DynamoDB  # noqa: PLC0415 - one SDK a process

    store = DynamoDB.new_feature_store(os.environ["FLAGSTORE_TABLE"], prefix="prod")
    config = Config(key, feature_store=store, use_ldd=True, send_events=False)
    return LDClient(config).variation(flag, Context.create("ada"), "the default")


def split(url: str, key: str, flag: str) -> Any:
    """Return the flag's treatment; polling, so that only this server is asked."""
    from splitio import get_factory  # noqa: PLC0415 - one SDK a process
    from splitio.exceptions import TimeoutException  # noqa: PLC0415 - one SDK a process

    factory = get_factory(
        key,
        sdk_api_base_url=url,
        events_api_base_url=url,
        auth_api_base_url=url,
        telemetry_api_base_url=url,
        config={"streamingEnabled": False},
    )
    with contextlib.suppress(TimeoutException):
        factory.block_until_ready(PATIENCE_S)
    return factory.client().get_treatment("ada", flag)


def unleash(url: str, key: str, flag: str) -> Any:
    """Return whether the flag is enabled; with an empty file cache, as in a new Lambda sandbox."""
    from UnleashClient import UnleashClient  # noqa: PLC0415 - one SDK a process

    client = UnleashClient(
        f"{url}/api",
        "shop",
        custom_headers={"Authorization": key},
        cache_directory=tempfile.mkdtemp(),
    )
    client.initialize_client()
    return client.is_enabled(flag, {"userId": "ada"})


def main() -> None:
    """Do what standard input says."""
    task = json.load(sys.stdin)
    make = globals()[task["way"]]
    begun = time.monotonic()
    value = make(task["url"], task["key"], task["flag"])
    print(json.dumps({"value": value, "seconds": time.monotonic() - begun}))
    sys.stdout.flush()
    os._exit(0)  # its threads go on trying


main()
