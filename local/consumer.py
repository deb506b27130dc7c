"""Reads flags as one of your functions would.

It needs the flagstore layer and a few variables::

    PYTHONPATH=<layer>/python FLAGSTORE_TABLE=<table> FLAGSTORE_SOURCE=prod AWS_REGION=... \
        python consumer.py new-checkout

With ``FLAGSTORE_REDIS_URL`` instead of the table and the region, it reads Redis.

A Lambda function already has credentials and a region. It keeps ``flags`` at module scope and
evaluates them for one context per request; here a loop stands for the requests.
"""

from __future__ import annotations

import os
import sys
import time

BEGUN = time.perf_counter()

import flagstore  # noqa: E402 - part of the time that is printed

# flagstore.client() checks for changes every 30 s; here they should show at once.
flags = flagstore.Client(os.environ["FLAGSTORE_SOURCE"], ttl_s=0.5, rollout_by="key")


USER = {"key": "ada", "email": "ada@example.com"}
USERS = [{"key": f"user-{number}"} for number in range(1000)]


def shown(user: flagstore.ContextFlags, key: str) -> str:
    """Return a flag's value for a user: on, off, or another string."""
    detail = user.detail(key)
    # AppConfig's values are attributes, and most of Unleash's features have no payload.
    value = detail.value if isinstance(detail.value, str | bool) else detail.enabled
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def share(key: str) -> str:
    """Return for how many users a flag is on."""
    count = sum(flags.enabled(key, user) for user in USERS)
    return f"{key} is on for {count} of {len(USERS)} users"


def main(keys: list[str]) -> None:
    """Print some flags, and their changes until this process ends."""
    user = flags.for_context(USER)
    known = {key: shown(user, key) for key in keys}
    took_ms = 1000 * (time.perf_counter() - BEGUN)
    info = flags.info()
    print(f"{len(flags)} flags, version {info.token}, checked {info.age_s:.1f} s ago")
    print(f"import, read and evaluate: {took_ms:.0f} ms")
    print(*(f"{key}: {value}" for key, value in known.items()), sep=", ", flush=True)
    deployment = info.deployment
    while True:
        user = flags.for_context(USER)
        seen, deployment = deployment, flags.info().deployment
        if deployment != seen:
            print(share(keys[0]), flush=True)
        for key in keys:
            value = shown(user, key)
            # During AppConfig's gradual deployments, a share says more than one user's value.
            if value != known[key] and deployment is None:
                known[key] = value
                print(f"{key}: {value}, version {flags.info().token}", flush=True)
                flags.flush()  # usage; else once a minute, and when Lambda ends the environment
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1:])
