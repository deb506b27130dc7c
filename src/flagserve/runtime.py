"""Connects ServeFunction to SSM, the stores of its sources, and its log."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from flagserve.access import ClientKeys, Parameters
from flagserve.app import App
from flagstore.clients import Client
from flagstore.stores.dynamodb import LeanTransport, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagserve.access import ClientKey
    from flagstore.snapshot import Snapshot

TTL_S = 10.0
"""Minimum seconds between freshness checks. Short, since SDKs poll at intervals, too."""
REDIS_CA_FILE = f"{os.path.dirname(os.path.dirname(__file__))}/redis-ca.pem"  # noqa: PTH120 - pathlib is slow to import
"""Private certificate authorities for Redis, packaged with the code (docs/redis.md)."""


def open_app(environ: Mapping[str, str]) -> App:
    """Return the function's app, with the settings that the template gives it."""
    region, path = environ["AWS_REGION"], f"{environ['FLAGSTORE_PARAMETER_PREFIX']}/clients"
    transport = SsmTransport(region, endpoint_of(environ, region, "ssm"), environ)
    keys = ClientKeys(Parameters(path, transport), log)
    collects = environ.get("FLAGSTORE_SERVE_USAGE", "false") != "false"
    return App(keys, Clients(), log, print_usage if collects else None)


class SsmTransport(LeanTransport):
    """SSM over one reused connection."""

    title, service = "SSM", "ssm"
    capacity_remedy = "raise the quota of GetParametersByPath, or start fewer functions at once"
    target, content_type = "AmazonSSM", "application/x-amz-json-1.1"


class Clients:
    """The clients of the sources, each made for the first key that is for its source."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Client] = {}

    def __call__(self, key: ClientKey) -> Client:
        """Return the client of a key's source; during INIT, it loads at once.

        Raises:
            ConfigurationError: if a setting of its store is missing or wrong.
        """
        place = key.source, key.store_url
        made = self._made.get(place)
        if made is None:
            store = _redis(key.store_url) if key.store_url else None
            made = Client(key.source, store=store, ttl_s=TTL_S, rollout_by="key")
            self._made[place] = made
            made._start(loads=True)  # noqa: SLF001 - as flagstore.client, which knows no URLs
        return made


def _redis(url: str) -> Any:  # noqa: ANN401 - its type is not imported otherwise
    from flagstore.stores.redis import open_reader  # noqa: PLC0415 - for sources in Redis

    ca_file = REDIS_CA_FILE if os.path.exists(REDIS_CA_FILE) else ""  # noqa: PTH110 - as above
    return open_reader({"FLAGSTORE_REDIS_URL": url, "FLAGSTORE_REDIS_CA_FILE": ca_file})


def print_usage(report: dict[str, Any], snapshot: Snapshot, sees: Callable[[str], bool]) -> None:
    """Print a client's usage, each line in one call, so that lines do not mix."""
    from flagserve import usage  # noqa: PLC0415 - not on import, since few stacks collect it

    for line in usage.lines(report, snapshot, sees, int(time.time()), os.urandom):
        os.write(1, line)


def log(message: str) -> None:
    """Log an error."""
    print(json.dumps({"level": "ERROR", "message": message}))  # noqa: T201 - Lambda's log
