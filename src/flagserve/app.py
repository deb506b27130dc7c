"""ServeFunction's routes: the response to a client, by its key and request.

No request without a valid key reads a flag, or reads keys before they are due. A request fails with
5xx only while flags or keys have never been read.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from flagserve import unleash
from flagserve.access import BROWSER, SERVER
from flagserve.gateway import (
    Request,
    RequestError,
    Response,
    cacheable,
    gzipped,
    read_request,
    refusal,
    to_event,
)
from flagstore.errors import ConfigurationError, NotLoadedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from flagserve.access import ClientKey, ClientKeys
    from flagstore.clients import Client
    from flagstore.snapshot import Snapshot

RETRY_S = "5"
MAX_DOCUMENTS = 8
"""Responses to SDKs of servers in memory: one per source and query, each some 0.5 KB a flag."""
MAX_VIEWS = 100
"""Lists in memory of the flags that a browser's key may see."""
HEADER_NAMES = r"[A-Za-z0-9_, -]{1,1000}"


class App:
    """Responds to requests, one at a time, as Lambda sends them."""

    def __init__(
        self,
        keys: ClientKeys,
        client: Callable[[ClientKey], Client],
        log: Callable[[str], object],
        print_usage: Callable[[dict[str, Any], Snapshot, Callable[[str], bool]], object]
        | None = None,
    ) -> None:
        """Combine the parts.

        Args:
            keys: the client keys.
            client: returns the client of the source that a key is for.
            log: called with each problem that an operator should see.
            print_usage: called with an SDK's report, the flag set, and whether the client may know
                of a flag; None: reports are not kept.
        """
        self._keys = keys
        self._client = client
        self._log = log
        self._print_usage = print_usage
        self._documents = Memory(MAX_DOCUMENTS)
        self._views = Memory(MAX_VIEWS)

    def start(self) -> None:
        """Prepare a response for each key during INIT, when a function has a whole core.

        Never raises: requests try again.
        """
        try:
            made = [(key, self._client(key)) for key in self._keys.all()]
            for key, client in made:
                if client.current() is not None:
                    self._warm_up(key)
        except (ConfigurationError, NotLoadedError) as error:
            self._log(f"INIT is incomplete: {error}")

    def respond(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Respond to one request of API Gateway's HTTP API (payload 2.0)."""
        request = read_request(event)
        headers: dict[str, str] = {}
        try:
            headers |= self._cors(request)
            response = self._routed(request)
        except RequestError as error:
            response = refusal(error.status, str(error))
        except (ConfigurationError, NotLoadedError) as error:
            self._log(f"cannot serve: {error}")
            response = refusal(503, "flags cannot be read now")
            headers["retry-after"] = RETRY_S
        return to_event(response, request, headers)

    def _routed(self, request: Request) -> Response:
        if request.route in PREFLIGHTS:
            return Response(204)
        if request.route not in ROUTES:
            raise RequestError(404, "not found")
        kind, respond = ROUTES[request.route]
        return respond(self, self._authorized(request, kind), request)

    # -- routes -----------------------------------------------------------------------------------

    def features(self, key: ClientKey, request: Request) -> Response:
        """Return all flags of a source, rules included."""
        try:
            spec = request.headers.get("unleash-client-spec", "")
            query = unleash.read_query(request.query(), spec)
        except ValueError as error:
            raise RequestError(400, str(error)) from error
        snapshot = self._client_of(key).snapshot()

        def make() -> Response:
            document = cacheable(unleash.features(snapshot, query))
            return document._replace(zipped=gzipped(document.body))

        found: Response = self._documents.get((key.source, query), snapshot, make)
        return found

    def toggles(self, key: ClientKey, request: Request) -> Response:
        """Return the flags that the key may see and that are on for a context."""
        try:
            if request.route.startswith("POST"):
                given = unleash.body_context(request.body())
            else:
                given = unleash.query_context(request.query())
            context = unleash.context(given, request.ip(), os.urandom(18).hex())
        except (ValueError, RecursionError) as error:
            raise RequestError(400, "the context is malformed") from error
        client = self._client_of(key)
        flags, snapshot = client.for_context(context), client.snapshot()
        views = self._views.get(key, snapshot, lambda: unleash.view(snapshot, key.sees))
        return cacheable(unleash.toggles(flags, views))

    def registration(self, key: ClientKey, request: Request) -> Response:
        """Accept an SDK's registration, and discard it."""
        _checked(request, unleash.check_registration)
        return _accepted(key)

    def metrics(self, key: ClientKey, request: Request) -> Response:
        """Accept an SDK's counts of evaluations, and print them if usage is collected."""
        report = _checked(request, unleash.check_metrics)
        if self._print_usage:
            snapshot = self._client(key).snapshot()
            if snapshot.snapshot_record.provider == unleash.PROVIDER:
                self._print_usage(report, snapshot, key.sees if key.kind == BROWSER else _anything)
        return _accepted(key)

    # -- parts ------------------------------------------------------------------------------------

    def _warm_up(self, key: ClientKey) -> None:
        route, headers = WARM_UP[key.kind]
        try:
            ROUTES[route][1](self, key, Request(route, headers, {}))
        except RequestError:
            return  # of another provider, and logged

    def _authorized(self, request: Request, kind: str) -> ClientKey:
        secret = request.headers.get("authorization", "").strip()
        if secret[:7].lower() == "bearer ":
            secret = secret[7:].strip()
        key = self._keys.find(secret) if secret else None
        if key is None:
            raise RequestError(401, "the Authorization header holds no valid client key")
        if key.kind != kind:
            raise RequestError(403, "this path takes another kind of client key")
        origin = request.headers.get("origin")
        if origin and kind == BROWSER and not key.allows(origin):
            raise RequestError(403, "this client key is not for pages of this origin")
        return key

    def _cors(self, request: Request) -> dict[str, str]:
        """Return the headers that permit pages of another origin to read the response.

        A preflight names no key, so it is accepted if any key allows its origin.
        """
        method, _, path = request.route.partition(" ")
        if f"OPTIONS {path}" not in PREFLIGHTS:
            return {}
        headers, origin = {"vary": "Origin"}, request.headers.get("origin")
        if not origin or not any(key.allows(origin) for key in self._keys.all()):
            return headers
        headers["access-control-allow-origin"] = origin
        if method != "OPTIONS":
            # Without it, a page's script cannot see the ETag, and gets everything each time.
            return {**headers, "access-control-expose-headers": "ETag"}
        asked = request.headers.get("access-control-request-headers", "")
        if re.fullmatch(HEADER_NAMES, asked):
            headers["access-control-allow-headers"] = asked
        return {
            **headers,
            "access-control-allow-methods": "GET, POST",
            "access-control-max-age": "86400",
        }

    def _client_of(self, key: ClientKey) -> Client:
        """Return the client of a key's source, whose flags are loaded and Unleash's.

        Raises:
            NotLoadedError: if nothing has been loaded yet.
        """
        client = self._client(key)
        provider = client.snapshot().snapshot_record.provider
        if provider != unleash.PROVIDER:
            self._log(f"client {key.name!r}: {key.source!r} has flags of {provider!r}, not Unleash")
            raise RequestError(404, "the flags of this client's source are not Unleash's")
        return client


class Memory:
    """Results made from flag sets, each for as long as its set is the current one."""

    def __init__(self, most: int) -> None:
        """Keep at most that many results, those last used."""
        self._most = most
        self._made: dict[Hashable, tuple[Snapshot, Any]] = {}

    def get(self, name: Hashable, snapshot: Snapshot, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it makes
        """Return the result of that name, made again if the flag set is another."""
        found = self._made.pop(name, None)
        if found is None or found[0] is not snapshot:
            found = snapshot, make()
        self._made[name] = found
        if len(self._made) > self._most:
            del self._made[next(iter(self._made))]
        return found[1]


def _checked(request: Request, check: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    try:
        return check(request.body())
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "the report is malformed") from error


def _anything(_flag: str) -> bool:
    return True


def _accepted(key: ClientKey) -> Response:
    return Response(202 if key.kind == SERVER else 200)  # as the server does


ROUTES: dict[str, tuple[str, Callable[[App, ClientKey, Request], Response]]] = {
    "GET /api/client/features": (SERVER, App.features),
    "POST /api/client/register": (SERVER, App.registration),
    "POST /api/client/metrics": (SERVER, App.metrics),
    "GET /api/frontend": (BROWSER, App.toggles),
    "POST /api/frontend": (BROWSER, App.toggles),
    "POST /api/frontend/client/register": (BROWSER, App.registration),
    "POST /api/frontend/client/metrics": (BROWSER, App.metrics),
}
"""Route → kind of keys that it takes, and the method that responds."""
WARM_UP = {
    SERVER: ("GET /api/client/features", {"unleash-client-spec": "5.2.0"}),
    BROWSER: ("GET /api/frontend", {}),
}
"""Kind of a key → route and headers of the request that prepares its clients' responses."""
PREFLIGHTS = frozenset(
    f"OPTIONS {route.partition(' ')[2]}" for route, (kind, _) in ROUTES.items() if kind == BROWSER
)
