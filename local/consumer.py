"""Reads flags as one of your functions would.

It needs the flagstore layer and a few variables::

    PYTHONPATH=<layer>/python FLAGSTORE_TABLE=<table> FLAGSTORE_SOURCE=prod AWS_REGION=... \
        python consumer.py new-checkout

With ``FLAGSTORE_REDIS_URL`` instead of the table and the region, it reads Redis.

A Lambda function has the credentials and the region already. It keeps ``flags`` at module scope and
takes one ``snapshot`` for each request; here a loop plays the requests.
"""

from __future__ import annotations

import os
import sys
import time

BEGUN = time.perf_counter()

import flagstore  # noqa: E402 - counted in the time that is shown

# flagstore.client() asks every 30 s whether there is something new; a demonstration is impatient.
flags = flagstore.Client(os.environ["FLAGSTORE_SOURCE"], ttl_s=0.5)


def state(snapshot: flagstore.Snapshot, key: str) -> str:
    """Return a flag's switch: LaunchDarkly has ``on``, Split ``killed``, the others ``enabled``."""
    flag = snapshot[key]
    on = not flag["killed"] if "killed" in flag else flag.get("on", flag.get("enabled"))
    return "on" if on else "off"


def main(keys: list[str]) -> None:
    """Show some flags, and every change of them until somebody ends this process."""
    snapshot = flags.snapshot()
    took_ms = 1000 * (time.perf_counter() - BEGUN)
    info = flags.info()
    print(f"{len(snapshot)} flags, ticket {info.ticket}, checked {info.age_s:.1f} s ago")
    print(f"import and read: {took_ms:.0f} ms")
    shown = {key: state(snapshot, key) for key in keys}
    print(*(f"{key}: {value}" for key, value in shown.items()), sep=", ", flush=True)
    while True:
        snapshot = flags.snapshot()
        for key in keys:
            if key in snapshot and state(snapshot, key) != shown[key]:
                shown[key] = state(snapshot, key)
                print(f"{key}: {shown[key]}, ticket {flags.info().ticket}", flush=True)
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1:])
