"""UnleashClient and its file cache under responses that our own store is tested with.

It runs among the Python SDKs. Standard input has ``url`` of a server, the ``folder`` of the cache
and the ``flag`` to look at. It fetches once, as the client does at its start, and prints what it
then knows, as JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib.metadata import version

from UnleashClient import UnleashClient
from UnleashClient.cache import FileCache

logging.disable(logging.CRITICAL)


def main() -> None:
    """Do what standard input says."""
    task = json.load(sys.stdin)
    raised = ""
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
    try:
        client.initialize_client()
    except Exception as error:  # noqa: BLE001 - whatever it is, is the result
        raised = type(error).__name__
    found = client.feature_definitions()
    enabled = client.is_enabled(task["flag"], {"userId": "ada"})
    client.destroy() if task["last"] else client.unleash_scheduler.shutdown(wait=False)
    print(
        json.dumps(
            {
                "known": len(found),
                "enabled": enabled,
                "raised": raised,
                "sdk": version("UnleashClient"),
            }
        )
    )


main()
