"""Runs a reader in phases, as Lambda does: INIT, then requests, one for each line on stdin.

The script imports this module first. Each phase prints its milliseconds; a request also whether
what it used was stale, and the value.
"""

import logging  # noqa: F401 - Lambda's runtime has imported it before INIT
import os
import sys
import time

BEGUN = time.perf_counter()


def serve(handle, is_stale=bool) -> None:  # noqa: ANN001 - of nothing, bool is false
    """End INIT; then handle a request per line."""
    print(1000 * (time.perf_counter() - BEGUN), flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        value = handle()
        took = 1000 * (time.perf_counter() - begun)
        print(took, int(is_stale()), value, flush=True)
    os._exit(0)  # what threads of an SDK do at the end is not measured
