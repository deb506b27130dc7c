"""Reads with flagstore in named steps, for somebody who counts what each asked of the store."""

import os
import sys
import time

import flagstore

PERSON = {"key": "ada", "plan": "team", "country": "DE"}


def step(name: str) -> None:
    """Say that a step is done, and wait until it was counted."""
    print(name, flush=True)
    sys.stdin.readline()


def main(what: str, *keys: str) -> None:
    """Take the steps."""
    flags = flagstore.Client("prod", ttl_s=0.2)
    if what == "all":
        flags.all(PERSON)
        step("all")
        return
    for key in keys:
        detail = flags.detail(key, PERSON)
        assert not detail.error, detail
    step("read")
    if what == "refresh":
        time.sleep(0.3)
        user = flags.for_context(PERSON)
        for key in keys:
            user.detail(key)
        step("refresh")


main(*sys.argv[1:])
sys.stdout.flush()
os._exit(0)
