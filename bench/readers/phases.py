"""Runs a reader in phases, as Lambda does: INIT, then requests, one for each line on stdin.

The script imports this module first. Each phase prints its milliseconds; a request also those of
the CPU, whether what it used was stale, and the value.
"""

import decimal  # noqa: F401 - as the next ones: imported by Lambda's runtime before INIT
import json  # noqa: F401
import logging  # noqa: F401
import os
import sys
import threading  # noqa: F401
import time

BEGUN = time.perf_counter()


def serve(handle, is_stale=bool) -> None:  # noqa: ANN001 - of nothing, bool is false
    """End INIT; then handle a request per line."""
    print(1000 * (time.perf_counter() - BEGUN), flush=True)
    for _ in sys.stdin:
        begun, cpu = time.perf_counter(), time.process_time()
        value = handle()
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
        print(1000 * took, 1000 * cpu, int(is_stale()), value, flush=True)
    os._exit(0)  # what threads of an SDK do at the end is not measured
