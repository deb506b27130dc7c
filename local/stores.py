"""Where ``make run`` keeps the flags: in the stand-in's DynamoDB, or in a real Redis server."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.screen import step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import trustme

REDIS_SERVER = "redis-server"


class StoreMissingError(RuntimeError):
    """The store's server is not installed; the text says what to install."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """One store that runs.

    Attributes:
        name: as the ``sources`` parameter has it.
        title: as people have it.
        redis_url: where Redis is; empty for DynamoDB.
        redis_ca_file: the authority of its certificate.

    """

    name: str
    title: str
    redis_url: str = ""
    redis_ca_file: str = ""

    def credential(self) -> dict[str, str]:
        """Return what the ``credentials`` parameter needs to write here."""
        return {"store_url": self.redis_url} if self.redis_url else {}


@contextmanager
def _dynamodb(_: trustme.CA) -> Iterator[Store]:
    yield Store(name="dynamodb", title="DynamoDB")


@contextmanager
def _redis(ca: trustme.CA) -> Iterator[Store]:
    # It brings pytest along, which nobody waits for who did not ask for Redis.
    from tests.simulators import redis_server  # noqa: PLC0415

    with ExitStack() as stack:
        with step(f"{REDIS_SERVER} on 127.0.0.1, with TLS and a password"):
            server = stack.enter_context(redis_server.running(ca=ca))
        url = server.url(redis_server.ADMIN, redis_server.ADMIN_PASSWORD)
        yield Store(name="redis", title="Redis", redis_url=url, redis_ca_file=server.ca_file)


STORES: dict[str, Callable[[trustme.CA], AbstractContextManager[Store]]] = {
    "dynamodb": _dynamodb,
    "redis": _redis,
}


def check_installed(name: str) -> None:
    """See that a store can be started.

    Raises:
        StoreMissingError: its server is not on the PATH.

    """
    if name == "redis" and shutil.which(REDIS_SERVER) is None:
        message = (
            f"STORE=redis needs {REDIS_SERVER}, which is not on the PATH: "
            f"run `make setup-e2e`, or install your distribution's {REDIS_SERVER}"
        )
        raise StoreMissingError(message)
