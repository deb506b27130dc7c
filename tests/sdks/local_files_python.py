"""LaunchDarkly's and Split's Python SDKs over a local file, in an environment of their own.

Told what to do on standard input, as JSON: the ``provider``, the ``path`` of its file, and which
``flags`` to evaluate for which ``keys``. Prints a line for each key.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Do what standard input says."""
    logging.disable(logging.CRITICAL)
    task = json.load(sys.stdin)
    evaluate, close = {"launchdarkly": launchdarkly, "split": split}[task["provider"]](task["path"])
    for key in task["keys"]:
        print(json.dumps({name: evaluate(key, name) for name in task["flags"]}))
    close()


def launchdarkly(path: str) -> tuple[Callable[[str, str], Any], Callable[[], None]]:
    """Open a data file."""
    from ldclient import Config, Context, LDClient  # noqa: PLC0415 - one SDK a run
    from ldclient.integrations import Files  # noqa: PLC0415

    source = Files.new_data_source(paths=[path])
    client = LDClient(Config("sdk-key", update_processor_class=source, send_events=False))
    return (lambda key, name: client.variation(name, Context.create(key), None)), client.close


def split(path: str) -> tuple[Callable[[str, str], Any], Callable[[], None]]:
    """Open a file of the localhost mode; what the SDK calls control is null."""
    from splitio import get_factory  # noqa: PLC0415 - one SDK a run

    factory = get_factory("localhost", config={"splitFile": path})
    factory.block_until_ready(20)
    client = factory.client()

    def evaluate(key: str, name: str) -> Any:
        treatment, config = client.get_treatment_with_config(key, name)
        return None if treatment == "control" else [treatment, config]

    return evaluate, factory.destroy


main()
