"""Work for Lambda's INIT phase, when a function has at least a full core regardless of memory.

It saves the first event from creating clients, TLS contexts and connections, and from reading
parameters. Lambda repeats an INIT that fails or takes too long, so unfinished work is left to the
first event.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from botocore.awsrequest import AWSRequest

from storesync.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from botocore.client import BaseClient

    type Job = Callable[[], object]

INIT_S = 5.0
"""Half of the time that Lambda allows."""


def initialize(jobs: Callable[[], Iterable[Job]]) -> None:
    """Run jobs in parallel during INIT; outside Lambda, do nothing.

    Never raises, and returns after ``INIT_S`` at the latest: name resolution, for one, has no
    timeout of its own. A job that fails, or is still running, is logged.
    """
    if not os.environ.get("AWS_LAMBDA_FUNCTION_NAME"):
        return
    try:
        pool = ThreadPoolExecutor()
        done, late = wait([pool.submit(job) for job in jobs()], INIT_S)
        pool.shutdown(wait=False)
        errors = [error for error in (each.exception() for each in done) if error]
        errors += [TimeoutError(f"not done within {INIT_S:g} s")] * bool(late)
    except Exception as error:  # noqa: BLE001 - the first event handles it
        errors = [error]
    if errors:
        problems = [f"{type(error).__name__}: {error}" for error in errors]
        log.warning("INIT is incomplete: the first event tries again", problems=problems)


def connect(client: BaseClient) -> None:
    """Open the connection that the client's next call will use.

    The request is not signed, so it needs no permission; the response does not matter.
    """
    request = AWSRequest(method="GET", url=client.meta.endpoint_url).prepare()
    # Private to botocore, which has no public way to connect without a call.
    client._endpoint.http_session.send(request)  # type: ignore[attr-defined]  # noqa: SLF001
