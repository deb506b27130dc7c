"""ServeFunction's routes: the response to a client, by its key and request.

No request without a valid key reads a flag, or reads keys before they are due. A request fails with
5xx only while flags or keys have never been read.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from flagserve import launchdarkly, ofrep, unleash, views
from flagserve.access import BROWSER, SERVER
from flagserve.gateway import (
    Request,
    RequestError,
    Response,
    cacheable,
    check_visitor,
    gzipped,
    has,
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
"""Lists in memory of the flags that a key may see."""
TITLES = {launchdarkly.PROVIDER: "LaunchDarkly", unleash.PROVIDER: "Unleash"}
"""Providers with an API of their own here."""
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Combine the parts.

        Args:
            keys: the client keys.
            client: returns the client of the source that a key is for.
            log: called with each problem that an operator should see.
            print_usage: called with an SDK's report, the flag set, and whether the client may know
                of a flag; None: reports are not kept.
            clock: returns seconds since the epoch.
        """
        self._keys = keys
        self._client = client
        self._log = log
        self._print_usage = print_usage
        self._clock = clock
        self._documents = Memory(MAX_DOCUMENTS)
        self._views = Memory(MAX_VIEWS)

    def start(self) -> None:
        """Prepare a response for each key during INIT, when a function has a whole core.

        Never raises: requests try again.
        """
        try:
            made = [(key, self._client(key)) for key in self._keys.all()]
            for key, client in made:
                snapshot = client.current()
                if snapshot is not None:
                    self._warm_up(key, snapshot.snapshot_record.provider)
        except (ConfigurationError, NotLoadedError) as error:
            self._log(f"INIT is incomplete: {error}")

    def respond(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Respond to one request of API Gateway's HTTP API (payload 2.0)."""
        request = read_request(event)
        route = ROUTES.get(request.route)
        refuse = route.refuse if route else refusal
        headers: dict[str, str] = {}
        try:
            headers |= self._cors(request)
            response = self._routed(request, route)
        except RequestError as error:
            response = refuse(request, error)
        except (ConfigurationError, NotLoadedError) as error:
            self._log(f"cannot serve: {error}")
            response = refuse(request, RequestError(503, "flags cannot be read now"))
            headers["retry-after"] = RETRY_S
        return to_event(response, request, headers)

    def _routed(self, request: Request, route: Route | None) -> Response:
        if request.route in PREFLIGHTS:
            return Response(204)
        if route is None:
            raise RequestError(404, "not found")
        return route.respond(self, self._authorized(request, route), request)

    # -- Unleash ----------------------------------------------------------------------------------

    def features(self, key: ClientKey, request: Request) -> Response:
        """Return all flags of a source, rules included."""
        try:
            spec = request.headers.get("unleash-client-spec", "")
            query = unleash.read_query(request.query(), spec)
        except ValueError as error:
            raise RequestError(400, str(error)) from error
        snapshot = self._client_of(key, unleash.PROVIDER).snapshot()

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
        client = self._client_of(key, unleash.PROVIDER)
        flags, snapshot = client.for_context(context), client.snapshot()
        shown = self._views.get(key, snapshot, lambda: unleash.view(snapshot, key.sees))
        return cacheable(unleash.toggles(flags, shown))

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

    # -- OFREP ------------------------------------------------------------------------------------

    def flag(self, key: ClientKey, request: Request) -> Response:
        """Evaluate one flag for a context."""
        context = _ofrep_context(key, request.body())
        client = self._client(key)
        snapshot = client.snapshot()
        view = self._view("ofrep", key, snapshot)
        name = ofrep.name_of(request.parameter("key"), view.known)
        detail = client.for_context(context).detail(name)
        kind = ofrep.kind_of(detail, view, snapshot)
        return ofrep.one(detail, kind, rules=key.kind == SERVER)

    def flags(self, key: ClientKey, request: Request) -> Response:
        """Evaluate all flags that the key may see for a context."""
        body = request.body()
        client, now = self._client(key), self._clock()
        snapshot = client.snapshot()
        view = self._view("ofrep", key, snapshot)
        etag = views.etag(view, snapshot, body, now)
        if etag and has(request, etag):
            return Response(304, etag=etag)
        flags = client.for_context(_ofrep_context(key, body))
        etag = etag if client.current() is snapshot else ""  # of others, if they were just read
        return ofrep.many(flags, view, snapshot, etag, rules=key.kind == SERVER)

    # -- LaunchDarkly, for browsers ---------------------------------------------------------------

    def evaluations(self, key: ClientKey, request: Request) -> Response:
        """Evaluate all flags that the key may see for a context."""
        asked, reasons = launchdarkly.asked(request), ("withReasons", "true") in request.query()
        client, now = self._client_of(key, launchdarkly.PROVIDER), self._clock()
        snapshot = client.snapshot()
        view = self._view("evalx", key, snapshot)
        etag = views.etag(view, snapshot, b"%d %b" % (reasons, asked), now)
        if etag and has(request, etag):
            return Response(304, etag=etag)
        context = launchdarkly.read_context(asked)
        check_visitor(context, len(asked))
        flags = client.for_context(context)
        etag = etag if client.current() is snapshot else ""  # of others, if they were just read
        return launchdarkly.evaluations(flags, view, snapshot, etag, reasons=reasons)

    def goals(self, _key: ClientKey, _request: Request) -> Response:
        """Return no goals: what visitors click on is not counted."""
        return cacheable("[]")

    def events(self, _key: ClientKey, _request: Request) -> Response:
        """Accept an SDK's events, and discard them."""
        return Response(202)

    # -- parts ------------------------------------------------------------------------------------

    def _warm_up(self, key: ClientKey, provider: str) -> None:
        route, headers, event = WARM_UP.get((provider, key.kind), WARM_UP_ANY)
        with suppress(RequestError):
            ROUTES[route].respond(self, key, Request(route, headers, event))

    def _authorized(self, request: Request, route: Route) -> ClientKey:
        secret = route.secret(request)
        key = self._keys.find(secret) if secret else None
        if key is None:
            raise RequestError(401, route.unauthorized)
        if key.kind not in route.kinds:
            raise RequestError(403, "this path takes another kind of client key")
        origin = request.headers.get("origin")
        if origin and key.kind == BROWSER and not key.allows(origin):
            raise RequestError(403, "this client key is not for pages of this origin")
        return key

    def _view(self, api: str, key: ClientKey, snapshot: Snapshot) -> views.View:
        """Return the flags that a key may see through an API."""
        sees = key.sees if key.kind == BROWSER else None
        # All servers of a source see the same.
        name = api, key if sees else (key.source, key.store_url)
        found: views.View = self._views.get(name, snapshot, lambda: views.view(snapshot, sees))
        return found

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
            "access-control-allow-methods": "GET, POST, REPORT",
            "access-control-max-age": "86400",
        }

    def _client_of(self, key: ClientKey, provider: str) -> Client:
        """Return the client of a key's source, whose flags are loaded and of this provider.

        Raises:
            NotLoadedError: if nothing has been loaded yet.
        """
        client, title = self._client(key), TITLES[provider]
        found = client.snapshot().snapshot_record.provider
        if found != provider:
            self._log(f"client {key.name!r}: {key.source!r} has flags of {found!r}, not {title}")
            raise RequestError(404, f"the flags of this client's source are not {title}'s")
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


def _ofrep_context(key: ClientKey, body: bytes) -> dict[str, Any]:
    context = ofrep.read_context(body)
    if key.kind == BROWSER:
        check_visitor(context, len(body))
    return context


def _anything(_flag: str) -> bool:
    return True


def _accepted(key: ClientKey) -> Response:
    return Response(202 if key.kind == SERVER else 200)  # as the server does


def _authorization(request: Request) -> str:
    secret = request.headers.get("authorization", "").strip()
    return secret[7:].strip() if secret[:7].lower() == "bearer " else secret


def _api_key(request: Request) -> str:
    return _authorization(request) or request.headers.get("x-api-key", "").strip()


def _client_side_id(request: Request) -> str:
    return request.parameter("environment")


# -- routes ---------------------------------------------------------------------------------------


class Route(NamedTuple):
    """Who may use a route, and what responds."""

    kinds: tuple[str, ...]
    """Kinds of keys that it takes."""
    respond: Callable[[App, ClientKey, Request], Response]
    secret: Callable[[Request], str] = _authorization
    """Returns the secret that a request carries."""
    unauthorized: str = "the Authorization header holds no valid client key"
    refuse: Callable[[Request, RequestError], Response] = refusal


def _ofrep(respond: Callable[[App, ClientKey, Request], Response]) -> Route:
    unauthorized = "neither Authorization nor X-API-Key holds a valid client key"
    return Route((SERVER, BROWSER), respond, _api_key, unauthorized, ofrep.refusal)


def _launchdarkly(respond: Callable[[App, ClientKey, Request], Response]) -> Route:
    return Route((BROWSER,), respond, _client_side_id, "the client-side ID is no valid client key")


ROUTES = {
    "GET /api/client/features": Route((SERVER,), App.features),
    "POST /api/client/register": Route((SERVER,), App.registration),
    "POST /api/client/metrics": Route((SERVER,), App.metrics),
    "GET /api/frontend": Route((BROWSER,), App.toggles),
    "POST /api/frontend": Route((BROWSER,), App.toggles),
    "POST /api/frontend/client/register": Route((BROWSER,), App.registration),
    "POST /api/frontend/client/metrics": Route((BROWSER,), App.metrics),
    # Flags' names may contain slashes, which some providers do not escape.
    "POST /ofrep/v1/evaluate/flags/{key+}": _ofrep(App.flag),
    "POST /ofrep/v1/evaluate/flags": _ofrep(App.flags),
    "GET /sdk/evalx/{environment}/contexts/{context}": _launchdarkly(App.evaluations),
    # API Gateway has no routes for REPORT.
    "ANY /sdk/evalx/{environment}/context": _launchdarkly(App.evaluations),
    "GET /sdk/goals/{environment}": _launchdarkly(App.goals),
    "POST /events/bulk/{environment}": _launchdarkly(App.events),
    "POST /events/diagnostic/{environment}": _launchdarkly(App.events),
}
"""Route → who may use it, and what responds."""
WARM_UP: dict[tuple[str, str], tuple[str, dict[str, str], dict[str, Any]]] = {
    (unleash.PROVIDER, SERVER): (
        "GET /api/client/features",
        {"unleash-client-spec": "5.2.0"},
        {},
    ),
    (unleash.PROVIDER, BROWSER): ("GET /api/frontend", {}, {}),
}
"""Provider, kind of a key → route, headers and event of the request that prepares its clients'
responses."""
WARM_UP_ANY = (
    "POST /ofrep/v1/evaluate/flags",
    dict[str, str](),
    {"body": '{"context":{"targetingKey":"-"}}'},
)
"""The same for all others."""
PREFLIGHTS = frozenset(
    f"OPTIONS {name.partition(' ')[2]}" for name, route in ROUTES.items() if BROWSER in route.kinds
)
