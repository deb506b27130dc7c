"""Reads flags as an application with Unleash's own SDK does: all it knows is a URL and a key.

It needs two variables::

    UNLEASH_URL=<ServeBaseUrl> UNLEASH_TOKEN=<secret> python unleash_consumer.py new-checkout
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time

from UnleashClient import UnleashClient

USER = {"userId": "ada", "properties": {"email": "ada@example.com"}}


def main(keys: list[str]) -> None:
    """Print some flags, and their changes until this process ends."""
    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # polls may overlap on a busy machine
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        client = UnleashClient(
            os.environ["UNLEASH_URL"],
            "shop",
            custom_headers={"Authorization": os.environ["UNLEASH_TOKEN"]},
            refresh_interval=1,  # 15 s by default; here, changes should show soon
            cache_directory=folder,
        )
        client.initialize_client()
        known = {key: client.is_enabled(key, USER) for key in keys}
        took_ms = 1000 * (time.perf_counter() - begun)
        print(f"{len(client.feature_definitions())} flags, from {client.unleash_url}")
        print(f"fetch and evaluate: {took_ms:.0f} ms")
        print(*(f"{key}: {shown(is_on)}" for key, is_on in known.items()), sep=", ", flush=True)
        while True:
            for key in keys:
                is_on = client.is_enabled(key, USER)
                if is_on != known[key]:
                    known[key] = is_on
                    print(f"{key}: {shown(is_on)}", flush=True)
            time.sleep(0.02)


def shown(is_on: bool) -> str:  # noqa: FBT001 - the flag's value
    """Return a flag's value as it is printed."""
    return "on" if is_on else "off"


if __name__ == "__main__":
    main(sys.argv[1:])
