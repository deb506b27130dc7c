"""Client keys: which flags of which source a request may see.

``<prefix>/clients/<name>``  SecureString, JSON: source, kind, secrets; browsers: origins and flags;
                             a source in Redis: store_url. For ServeFunction only
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import hmac
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.keys import check_source

if TYPE_CHECKING:
    from flagstore.stores.dynamodb import LeanTransport

SERVER, BROWSER = "server", "browser"
"""Kinds of keys: a server's may read rules, a browser's only results."""
LISTS = ("secrets", "origins", "flags")
FIELDS = ("source", "kind", *LISTS, "store_url")
MIN_SECRET = 16
"""Characters."""
ORIGIN = r"\*|[a-z][a-z0-9+.-]*://[^A-Z*/?#\s]+"
"""As browsers write it: no path, no capitals. Not compiled here: few requests need it."""

MAX_AGE_S = 60.0
"""Maximum age of keys in memory. An unknown key causes no earlier read."""
PAUSE_S = 5.0
"""Pause after the keys could not be read."""
LOAD_S, REFRESH_S = 2.0, 1.0
"""Time for a first read, all pages together; and for one while there are keys in memory."""


class ClientKey(NamedTuple):
    """One client's key."""

    name: str
    source: str
    kind: str
    digests: tuple[bytes, ...]
    """SHA-256 of the current secret and, during a rotation, of the previous one."""
    origins: tuple[str, ...] = ()
    """Origins whose pages may use a browser key; ``*`` for any."""
    flags: tuple[str, ...] = ()
    """Flags that a browser key may see. A trailing ``*`` matches any ending."""
    store_url: str = ""
    """Redis URL for readers; empty for the table."""

    def __repr__(self) -> str:
        return f"ClientKey({self.name})"

    def allows(self, origin: str) -> bool:
        """Return whether pages of this origin may use the key."""
        return "*" in self.origins or origin in self.origins

    def sees(self, flag: str) -> bool:
        """Return whether a browser may know of this flag."""
        return any(
            flag.startswith(name[:-1]) if name.endswith("*") else flag == name
            for name in self.flags
        )


def parse(name: str, text: str) -> ClientKey:
    """Read a client key from its parameter.

    Raises:
        ConfigurationError: names everything that is wrong; quotes no secret.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConfigurationError(f"client {name!r} must be a JSON object with {', '.join(FIELDS)}")
    problems = [f'"{field}" is unknown' for field in sorted(values.keys() - set(FIELDS))]
    source, kind, url = (values.get(field, "") for field in ("source", "kind", "store_url"))
    secrets, origins, flags = (_strings(values, field, problems) for field in LISTS)
    try:
        check_source(source)
    except ConfigurationError as error:
        problems.append(f'"source": {error}')
    if not secrets or min(map(len, secrets)) < MIN_SECRET:
        problems.append(f'"secrets" must be one or more, each of at least {MIN_SECRET} characters')
    if kind not in (SERVER, BROWSER):
        problems.append(f'"kind" must be "{SERVER}" or "{BROWSER}"')
    elif (bool(origins), bool(flags)) != (kind == BROWSER,) * 2:
        problems.append(f'"origins" and "flags" are for "{BROWSER}", which needs both')
    if not all(re.fullmatch(ORIGIN, origin) for origin in origins):
        problems.append('"origins" must look like https://shop.example, or be *')
    if url != "" and not _is_redis(url):
        problems.append('"store_url" must be the URL of a Redis')
    if problems:
        raise ConfigurationError(f"client {name!r}: {'; '.join(problems)}")
    return ClientKey(name, source, kind, tuple(map(_digest, secrets)), origins, flags, url)


def _strings(values: Mapping[str, Any], field: str, problems: list[str]) -> tuple[str, ...]:
    found = values.get(field, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        problems.append(f'"{field}" must be a list of strings')
        return ()
    return tuple(one.strip() for one in found)


def _is_redis(url: object) -> bool:
    from flagstore.stores.redis import parse_url  # noqa: PLC0415 - for sources in Redis

    return isinstance(url, str) and parse_url(url) is not None


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


class ClientKeys:
    """The keys of all clients, read from SSM at most once a minute. Not thread-safe."""

    def __init__(
        self,
        read: Callable[[float], Mapping[str, str]],
        log: Callable[[str], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create it; nothing is read yet.

        Args:
            read: returns the parameters by client name, by a deadline in ``time.monotonic()``
                seconds; raises StoreUnavailableError.
            log: called with each problem.
            monotonic: returns seconds that never go back.
        """
        self._read = read
        self._log = log
        self._monotonic = monotonic
        self._keys: tuple[ClientKey, ...] | None = None
        self._next_read = float("-inf")

    def find(self, secret: str) -> ClientKey | None:
        """Return the key with this secret, or None; every comparison takes constant time.

        Raises:
            StoreUnavailableError: if the keys have never been read.
        """
        given, found = _digest(secret), None
        for key in self.all():
            for digest in key.digests:
                if hmac.compare_digest(digest, given):
                    found = key
        return found

    def all(self) -> tuple[ClientKey, ...]:
        """Return all keys; those in memory if a later read fails.

        Raises:
            StoreUnavailableError: if they have never been read.
        """
        now = self._monotonic()
        if now >= self._next_read:
            try:
                limit_s = LOAD_S if self._keys is None else REFRESH_S
                self._keys = self._parsed(self._read(now + limit_s))
                # Processes that started together must not read together.
                self._next_read = now + MAX_AGE_S * (0.8 + os.urandom(1)[0] / 1275)
            except StoreUnavailableError as error:
                self._log(f"client keys cannot be read: {error}")
                self._next_read = self._monotonic() + PAUSE_S
        if self._keys is None:
            raise StoreUnavailableError("client keys have not been read yet")
        return self._keys

    def _parsed(self, parameters: Mapping[str, str]) -> tuple[ClientKey, ...]:
        keys = []
        for name, text in sorted(parameters.items()):
            try:
                keys.append(parse(name, text))
            except ConfigurationError as error:
                self._log(str(error))
        return tuple(keys)


class Parameters:
    """Reads the parameters below one path of SSM, decrypted."""

    def __init__(self, path: str, transport: "LeanTransport") -> None:
        """Keep the path, and the transport of SSM."""
        self._path = path
        self._transport = transport

    def __call__(self, deadline: float) -> dict[str, str]:
        """Return the values by the last part of their names."""
        payload: dict[str, Any] = {"Path": self._path, "WithDecryption": True, "MaxResults": 10}
        found: dict[str, str] = {}
        while True:
            page = self._transport.call("GetParametersByPath", payload, deadline)
            for parameter in page.get("Parameters", ()):
                found[parameter["Name"].rpartition("/")[2]] = parameter["Value"]
            if not page.get("NextToken"):
                return found
            payload["NextToken"] = page["NextToken"]
