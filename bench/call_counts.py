"""Count the functions that one sync and one read run: the measure of docs/architecture.md.

Distinct functions of `src`, without `evaluation/`, and the files they are in, by `sys.setprofile`,
on the stand-in for AWS. `make call-counts` prints them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.world import new_table
from local.stand_in import StandIn
from simulators.deployment import Context, batch, sync_request
from simulators.launchdarkly import LaunchDarklySimulator, rich_flags

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

SOURCE = str(Path(__file__).parents[1] / "src")
_COMPREHENSIONS = ("<lambda>", "<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>", "<module>")


class Calls:
    """The functions that ran."""

    def __init__(self) -> None:
        self.seen: set[CodeType] = set()

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a call of one of flagstore's functions."""
        if event == "call" and frame.f_code.co_filename.startswith(SOURCE):
            self.seen.add(frame.f_code)

    def report(self, what: str) -> None:
        """Print how many functions ran, in how many files; with --list, which."""
        counted = sorted(
            (code.co_filename.removeprefix(SOURCE), code.co_qualname)
            for code in self.seen
            if "/evaluation/" not in code.co_filename and code.co_name not in _COMPREHENSIONS
        )
        files = {name for name, _ in counted}
        print(f"{what}: {len(counted)} functions in {len(files)} files")
        if "--list" in sys.argv:
            print(*(f"  {name} {function}" for name, function in counted), sep="\n")


@contextmanager
def counted(what: str) -> Iterator[None]:
    """Count what runs meanwhile, in this thread."""
    from storesync.telemetry import log  # noqa: PLC0415 - after the environment is set

    calls = Calls()
    output = StringIO()
    for handler in log.handlers:
        handler.setStream(output)
    with redirect_stdout(output):
        sys.setprofile(calls.profile)
        try:
            yield
        finally:
            sys.setprofile(None)
    calls.report(what)


def sync_once() -> None:
    """Hand one message of the queue to SyncFunction."""
    from storesync import sync  # noqa: PLC0415 - after the environment is set

    record = {
        "messageId": "1",
        "receiptHandle": "1",
        "body": json.dumps(sync_request("prod")),
        "attributes": {"SentTimestamp": str(int(time.time() * 1000))},
    }
    context: Any = Context()
    response = sync.handler(batch(record), context)
    assert response == {"batchItemFailures": []}, response


def main() -> None:
    """Publish, change a flag, check an unchanged set; read cold and warm."""
    flags, segments = rich_flags(20)
    name = min(flags)
    with StandIn() as aws, LaunchDarklySimulator(flags, segments, sdk_key="key") as provider:
        table = new_table(aws)
        os.environ |= {
            **aws.environment,
            "FLAGSTORE_STORE": "dynamodb",
            "FLAGSTORE_PARAMETER_PREFIX": "/flagstore/calls",
            "FLAGSTORE_TABLE": table.name,
            "FLAGSTORE_QUEUE_URL": "",
            "POWERTOOLS_SERVICE_NAME": "flagstore",
            "POWERTOOLS_METRICS_NAMESPACE": "flagstore",
        }
        parameters = {
            "sources/prod": {"provider": "launchdarkly", "allow_http": True},
            "credentials/prod": {
                "provider": "launchdarkly",
                "key": "key",
                "base_url": provider.url,
            },
        }
        ssm = aws.client("ssm")
        for parameter, value in parameters.items():
            ssm.put_parameter(
                Name=f"/flagstore/calls/{parameter}", Value=json.dumps(value), Type="String"
            )
        with redirect_stdout(StringIO()):
            sync_once()
        for what, change in (("one changed flag", True), ("nothing changed", False)):
            if change:
                provider.set_flag(name, trackEvents=True)
            time.sleep(4)  # by then no earlier check serves it, and none is spaced out
            with counted(f"SyncFunction, {what}"):
                sync_once()
        import flagstore  # noqa: PLC0415 - after the environment is set

        client = flagstore.Client("prod")
        user = {"key": "ada"}
        for what in ("cold", "warm"):
            with counted(f"a read, {what}"):
                client.detail(name, user)


if __name__ == "__main__":
    main()
