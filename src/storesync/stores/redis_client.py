"""Calls to Redis: opened from a URL, with retries, and with errors that name a remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from flagstore.stores.redis import URL_SHAPE, index_name, parse_url, without_arguments
from storesync.errors import ConfigurationError, StoreError
from storesync.stores.redis_scripts import PROBE, Script
from storesync.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from storesync.retry import Deadline

    Argument = str | bytes | int

CONNECT_S = 3.0
RESPONSE_S = 5.0
REPETITIONS = 6
"""Retries of a call, within about three seconds; then the queue retries the sync request."""
TRANSIENT = {
    *("LOADING", "TRYAGAIN", "ASK", "MOVED", "CLUSTERDOWN", "MASTERDOWN"),
    *("BUSY", "READONLY", "NOREPLICAS"),
}
"""Errors of a server that is starting, failing over or moving slots."""
REMEDIES = {
    "NOAUTH": "put user and password into the URL",
    "WRONGPASS": "check user and password in the URL",
    "NOPERM": "give the user the writer's rights in docs/redis.md",
    "READONLY": "name the primary in the URL, not a replica",
    "CROSSSLOT": "a Redis cluster cannot hold rows under a rows_prefix: remove that option, or "
    "use a Redis that is not a cluster",
    "OOM": "its memory is full and nothing was written: give it more",
    "MISCONF": "it cannot save to its disk: see its log",
    "WRONGTYPE": "something else writes to one of flagstore's keys (docs/redis.md)",
    "CERTIFICATE_VERIFY_FAILED": "check the host's name; if its authority is private, SyncFunction "
    "needs src/redis-ca.pem before `sam build`, and storesync FLAGSTORE_REDIS_CA_FILE",
}
_CODE = re.compile(rf"\b({'|'.join((*TRANSIENT, *REMEDIES))})\b")

log = logger()


class Server(Redis):
    """A client of one server, which can open the others of its cluster.

    redis-py's cluster client needs the right to COMMAND, and queries the whole cluster when it
    starts. All keys of a source are on one server, which the first response names.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - redis-py's
        super().__init__(**options)
        self._own_options = options
        self._neighbours: dict[tuple[str, int], Server] = {}

    def neighbour(self, host: str, port: int) -> Server:
        """Return a client of another server, with the same options, and keep it.

        An empty host means the same one, as in a cluster's redirects.
        """
        place = (host or self._own_options["host"], port)
        if place not in self._neighbours:
            options = {**self._own_options, "host": place[0], "port": port}
            self._neighbours[place] = Server(**options)
        return self._neighbours[place]

    def close(self) -> None:
        """Close all connections."""
        for neighbour in self._neighbours.values():
            neighbour.close()
        super().close()


def open_redis(url: str, *, ca_file: str = "") -> Server:
    """Return a client of a server or a cluster; it connects when used. Keep it between syncs.

    It does not retry: the store does, within its deadline. With *ca_file*, it trusts the
    authorities in this PEM file instead of the system's.

    Raises:
        ConfigurationError: if the URL (never part of the message) is invalid, or there is no file.
    """
    address = parse_url(url)
    if address is None:
        message = f"store_url, the URL of Redis, must be {URL_SHAPE}"
        raise ConfigurationError(message)
    if ca_file and not Path(ca_file).is_file():
        message = f"FLAGSTORE_REDIS_CA_FILE: there is no file {ca_file!r}"
        raise ConfigurationError(message)
    tls = {"ssl": True, "ssl_ca_certs": ca_file or None} if address.tls else {}
    return Server(
        host=address.host,
        port=address.port,
        db=address.database,
        username=address.user or None,
        password=address.password or None,
        socket_connect_timeout=CONNECT_S,
        socket_timeout=RESPONSE_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        encoding_errors="surrogateescape",  # not UTF-8: another program's field, to be removed
        driver_info=None,  # else each connection begins with two commands that name the client
        **tls,
    )


class Calls:
    """Calls commands and scripts for one sync, within its deadline."""

    def __init__(self, client: Server, deadline: Deadline) -> None:
        self._client = client
        self._node: Any = client  # redis-py is not typed here
        self._deadline = deadline
        self.resent = 0
        """Calls that were sent again."""

    def command(self, purpose: str, *command: Argument) -> Any:  # noqa: ANN401 - by command
        """Call one command."""
        return self._repeated(purpose, lambda: self._node.execute_command(*command))

    def script(
        self, purpose: str, script: Script, keys: list[str], arguments: list[Argument]
    ) -> Any:  # noqa: ANN401 - by script
        """Run a script by its digest, or send it whole if the server does not know it."""
        rest = (len(keys), *keys, *arguments)

        def run() -> Any:  # noqa: ANN401 - by script
            try:
                return self._node.execute_command("EVALSHA", script.digest, *rest)
            except NoScriptError:
                return self._node.execute_command("EVAL", script.source, *rest)

        return self._repeated(purpose, run)

    def check(self, source: str, extra_key: str = "") -> None:
        """Check, once per client and source, that the server is fit to store flags.

        Raises:
            StoreError: if it may evict keys without a TTL, or the user lacks rights to the source's
                keys or to *extra_key*, in the same slot.
        """
        checked = _checked.setdefault(self._client, set())
        if (extra_key or source) in checked:
            return
        keys = [f"{index_name(f'{source}:$probe')}:key", *([extra_key] if extra_key else [])]
        # In a cluster, this also leads later calls to the server that has the keys.
        self.script("checking the user's rights", PROBE, keys, [])
        policy = self._policy()
        if policy.startswith("allkeys"):
            message = (
                f"Redis' maxmemory-policy is {policy}, which may remove flags: set noeviction "
                "or a volatile policy (docs/redis.md)"
            )
            raise StoreError(message)
        if not policy:
            log.warning("Redis' eviction policy cannot be read; see docs/redis.md", source=source)
        checked.add(extra_key or source)

    def _policy(self) -> str:
        """Return the eviction policy of the server; empty if it cannot be read."""

        def ask() -> Any:  # noqa: ANN401 - redis-py's
            try:
                return self._node.execute_command("INFO", "memory")
            except ResponseError:  # no right to it
                return {}

        found = self._repeated("reading the eviction policy", ask)
        return str(found.get("maxmemory_policy", ""))

    def _repeated(self, purpose: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - by command
        attempt = 0
        while True:
            try:
                return call()
            except (RedisError, OSError) as error:
                if attempt == REPETITIONS or not _is_transient(error):
                    raise _failure(purpose, error) from _cause(error)
                if self._follow(error):
                    attempt += 1
                    continue
            self.resent += 1
            self._deadline.back_off(attempt, base_s=0.05, cap_s=2.0, purpose=f"{purpose} again")
            attempt += 1

    def _follow(self, error: Exception) -> bool:
        """Switch to the server that a cluster names for the keys, or back to the first one."""
        if isinstance(error, MovedError):
            self._node = self._client.neighbour(error.host, error.port)
            return True
        pool = getattr(self._node, "connection_pool", None)
        if isinstance(error, ReadOnlyError) and pool is not None:
            pool.disconnect()  # it is a replica now; its name leads to the new primary
        self._node = self._client
        return False


_checked: WeakKeyDictionary[Server, set[str]] = WeakKeyDictionary()
"""Checked sources by client: a warm function checks a server once."""


def _code(error: Exception) -> str:
    """Return the code that a Redis error begins with, or that a TLS error ends with."""
    status = getattr(error, "status_code", None)
    if status and status != "ERR":
        return str(status)
    match = _CODE.search(str(error))
    return match[1] if match else ""


def _is_transient(error: Exception) -> bool:
    code = _code(error)
    unreached = isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError))
    return code in TRANSIENT or (unreached and code not in REMEDIES)


def _failure(purpose: str, error: Exception) -> StoreError:
    code = _code(error)
    text = without_arguments(str(error))
    shown = text if text.startswith(code) else f"{code} {text}"
    remedy = f"; {REMEDIES[code]}" if code in REMEDIES else ""
    return StoreError(f"{purpose}: Redis: {shown}{remedy}")


def _cause(error: Exception) -> Exception | None:
    """Return the error, unless it quotes arguments: those of AUTH are a password."""
    return error if without_arguments(str(error)) == str(error) else None
