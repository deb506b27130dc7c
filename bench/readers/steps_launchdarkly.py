"""Reads with LaunchDarkly's SDK in daemon mode, in the steps of steps_ours.py."""

import os
import sys
import time

from ldclient import Config, Context, LDClient
from ldclient.feature_store import CacheConfig
from ldclient.integrations import DynamoDB

PERSON = Context.builder("ada").set("plan", "team").set("country", "DE").build()


def step(name: str) -> None:
    """Say that a step is done, and wait until it was counted."""
    print(name, flush=True)
    sys.stdin.readline()


def main(what: str, *keys: str) -> None:
    """Take the steps."""
    # Its default, 15 s, but for the refresh, which should not take so long to see.
    caching = CacheConfig(expiration=0.2) if what == "refresh" else CacheConfig.default()
    table = os.environ["FLAGSTORE_TABLE"]
    store = DynamoDB.new_feature_store(table, prefix="prod", caching=caching)
    client = LDClient(
        Config("k", feature_store=store, use_ldd=True, send_events=False), start_wait=0
    )
    if what == "all":
        client.all_flags_state(PERSON)
        step("all")
        return
    for key in keys:
        client.variation_detail(key, PERSON, None)
    step("read")
    if what == "refresh":
        time.sleep(0.3)
        for key in keys:
            client.variation_detail(key, PERSON, None)
        step("refresh")


main(*sys.argv[1:])
sys.stdout.flush()
os._exit(0)
