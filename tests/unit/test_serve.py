"""ServeFunction's responses: by key, request and flag set, on clocks that only tests move."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from flagserve.access import LOAD_S, MAX_AGE_S, REFRESH_S, Parameters, parse
from flagserve.app import MAX_DOCUMENTS, PREFLIGHTS, ROUTES
from flagserve.gateway import MAX_BODY, read_request
from flagserve.usage import MAX_LINES
from flagstore.errors import ConfigurationError
from sdks import sets
from simulators.reader_rig import DOWN, EXPIRED_S, HEAD, STATE
from simulators.serving import FEATURES, FRONTEND, KEYS, OLD, ORIGIN, PAGE, SECRET, Serving, read
from simulators.unleash_flags import new_flag

if TYPE_CHECKING:
    from collections.abc import Mapping

REGISTER, METRICS = "POST /api/client/register", "POST /api/client/metrics"
UNLEASH = {route: each for route, each in ROUTES.items() if " /api/" in route}
MODERN = {"unleash-client-spec": "5.2.0"}
COUNTS = {"bucket": {"start": "x", "stop": "y", "toggles": {"main": {"yes": 1, "no": 0}}}}


class Served(Serving):
    def __init__(self, keys: Mapping[str, Any] = KEYS, provider: str = "unleash") -> None:
        super().__init__(*sets.unleash(), keys=keys, provider=provider)


def on(toggles: Any) -> list[str]:
    return [toggle["name"] for toggle in toggles["toggles"]]


@pytest.fixture
def serving() -> Served:
    return Served()


# -- for servers ----------------------------------------------------------------------------------


def test_features(serving: Served) -> None:
    """The response is the whole document, compressed on request; then 304 until it changes."""
    status, whole, headers = serving.send(FEATURES, SECRET, accept_encoding="gzip, br", **MODERN)
    flags, segments = sets.unleash()
    assert (status, whole["version"], headers["content-encoding"]) == (200, 2, "gzip")
    assert {feature["name"]: feature for feature in whole["features"]} == flags
    assert {str(segment["id"]): segment for segment in whole["segments"]} == segments
    for given in (f"Bearer {SECRET}", f"bearer  {OLD} "):
        plain = serving.send(FEATURES, given, **MODERN)
        assert plain[1] == whole
        assert "content-encoding" not in plain[2]
    etag = headers["etag"]
    for given in (etag, f"W/{etag}", f'"other", {etag}'):
        status, body, headers = serving.send(FEATURES, SECRET, if_none_match=given, **MODERN)
        assert (status, body, headers["etag"]) == (304, None, etag)
    serving.rig.publish({**flags, "new": new_flag("new")}, segments=segments)
    serving.rig.advance(EXPIRED_S)
    status, body, headers = serving.send(FEATURES, SECRET, if_none_match=etag, **MODERN)
    assert (status, len(body["features"])) == (200, len(flags) + 1)
    refused = serving.send(FEATURES, SECRET, accept_encoding="gzip;q=0, br", **MODERN)
    assert "content-encoding" not in refused[2]


def test_old_sdks_get_constraints_for_segments(serving: Served) -> None:
    """As on the server, the header alone decides."""
    flags, segments = sets.unleash()
    flags["sparse"] = {"name": "sparse", "strategies": [{"segments": None, "constraints": None}]}
    flags["none"] = {"name": "none", "strategies": None}
    serving.rig.publish(flags, segments=segments)
    for headers in ({}, {"unleash-client-spec": "4.1.9"}):
        _, whole, _ = serving.send(FEATURES, SECRET, **headers)
        assert "segments" not in whole
        (one,) = [flag for flag in whole["features"] if flag["name"] == sets.SEGMENT_FLAG]
        (strategy,) = one["strategies"]
        assert "segments" not in strategy
        assert strategy["constraints"] == segments["4"]["constraints"]
        assert len(whole["features"]) == len(flags)
    assert serving.send(FEATURES, SECRET, **{"unleash-client-spec": "4.2.0"})[1]["segments"]
    status, body, _ = serving.send(FEATURES, SECRET, **{"unleash-client-spec": "new"})
    assert (status, body) == (400, {"message": "Unleash-Client-Spec is not a version"})


def test_filters() -> None:
    """Names and projects narrow the document; the key decides which source it is of."""
    serving = Served()
    serving.rig.publish(
        {name: {**new_flag(name), "project": name[0]} for name in ("aa", "ab", "ba", "ca")}
    )
    for query, names in {
        "namePrefix=a": ["aa", "ab"],
        "project=a&project=b&project=": ["aa", "ab", "ba"],
        "project=a&namePrefix=%61%62": ["ab"],
        "project=none": [],
        "project=": ["aa", "ab", "ba", "ca"],
        "tag=simple:x&environment=production&source=other": ["aa", "ab", "ba", "ca"],
    }.items():
        _, whole, _ = serving.send(FEATURES, SECRET, query=query, **MODERN)
        assert [feature["name"] for feature in whole["features"]] == names, query


@pytest.mark.parametrize(
    ("report", "registered", "counted"),
    [
        ({"appName": "shop", **COUNTS}, True, True),
        ({"appName": "shop", "started": 1, "interval": 1}, True, False),
        ({"appName": "shop", "bucket": {"toggles": {"main": {"yes": -1}}}}, True, False),
        ({"appName": "shop", "bucket": {"toggles": {"main": 1}}}, True, False),
        ({"appName": "shop", "bucket": {"toggles": []}}, True, False),
        ({"appName": 7, **COUNTS}, False, False),
        ([], False, False),
        (None, False, False),
    ],
)
def test_reports(serving: Served, report: object, registered: bool, counted: bool) -> None:
    """SDKs' reports are checked and get the server's statuses; a bad report gets 400."""
    for area, secret, good in (("client", SECRET, 202), ("frontend/client", PAGE, 200)):
        for name, accepted in (("register", registered), ("metrics", counted)):
            status, body, _ = serving.send(f"POST /api/{area}/{name}", secret, report)
            assert (status, bool(body)) == ((good, False) if accepted else (400, True))


@pytest.mark.parametrize(
    ("counts", "cells"),
    [
        ({"yes": 3, "no": 2}, [[3, 1], [2, 0]]),
        ({"yes": 0, "no": 0, "variants": {"blue": 5}}, []),
        ({"yes": 5, "variants": {"blue": 2, "red": 1}}, [[2, 1, "blue"], [1, 1, "red"], [2, 1]]),
        # A variant of a flag that is off, or of one without variants.
        ({"no": 2, "variants": {"disabled": 1}}, [[1, 0, "disabled"], [1, 0]]),
        (
            {"yes": 2, "no": 1, "variants": {"disabled": 3}},
            [[1, 0, "disabled"], [2, 1, "disabled"]],
        ),
        # Forged: more variants than evaluations, and numbers that are none.
        ({"yes": 1, "variants": {"a": 5, "b": 5}}, [[1, 1, "a"]]),
        ({"yes": 1e300, "no": 1.9, "variants": {"a": -1, "b": "x"}}, [[10**9, 1], [1, 0]]),
        ({"yes": True, "variants": []}, [[1, 1]]),
    ],
)
def test_metrics_are_printed(serving: Served, counts: Any, cells: Any) -> None:
    """Usage lines have the same counts, for existing flags that the client may know of."""
    toggles = {"main": counts, "needs-main": {"yes": 1}, "none": {"yes": 1}}
    report = {"appName": "shop", "bucket": {"toggles": toggles}}
    assert serving.send(METRICS, SECRET, report)[0] == 202
    assert serving.send("POST /api/frontend/client/metrics", PAGE, report)[0] == 200
    for line, names in zip(serving.printed, ({"needs-main"}, set()), strict=False):
        found = json.loads(line)
        assert found["f"].get("main", []) == cells
        assert set(found["f"]) - {"main"} == names
        assert (found["s"], found["p"], found["n"]) == ("prod", "unleash", "shop")
        assert found["v"] == serving.rig.another().snapshot().snapshot_record.token
    assert len(serving.printed) == 1 + bool(cells)


def test_metrics_of_many_flags_are_several_lines() -> None:
    """Each line is short enough to be written at once, and their number is limited."""
    names = [f"flag-{number:04d}-{'x' * 60}" for number in range(1000)]
    serving = Serving({name: new_flag(name) for name in (*names, "y" * 4000)})
    for count in (100, 1000):
        toggles = {name: {"yes": 1} for name in ["y" * 4000, *names[:count]]}
        report = {"appName": "a" * 100, "bucket": {"toggles": toggles}}
        serving.printed.clear()
        assert serving.send(METRICS, SECRET, report)[0] == 202
        found = [json.loads(line) for line in serving.printed]
        assert max(map(len, serving.printed)) <= 4000
        assert len({line["id"] for line in found}) == len(found)
        printed = {name for line in found for name in line["f"]}
        assert printed <= set(names[:count])
        assert len(printed) == count if count == 100 else len(found) == MAX_LINES


# -- for browsers ---------------------------------------------------------------------------------


def test_toggles(serving: Served) -> None:
    """GET and POST give the flags that are on for the context, if the key names them."""
    context = {"userId": "user-2", "sessionId": "1", "properties": {"plan": "pro"}}
    query = "userId=user-2&sessionId=1&properties%5Bplan%5D=pro"
    _, by_get, headers = serving.send(FRONTEND, PAGE, query=query, origin=ORIGIN)
    _, by_post, _ = serving.send("POST /api/frontend", PAGE, {"context": context})
    assert by_get == by_post
    names = set(on(by_get))
    assert "variants" in names
    assert all(name in {"main", "by-segment", "variants"} or "checkout." in name for name in names)
    flags = serving.rig.client.for_context(context)
    expected = [name for name in flags.all() if flags.enabled(name)]
    assert names < set(expected)
    (one,) = [toggle for toggle in by_get["toggles"] if toggle["name"] == "variants"]
    variant = flags.detail("variants")
    assert one == {
        "name": "variants",
        "enabled": True,
        "impressionData": False,
        "variant": {
            "name": variant.variant,
            "enabled": True,
            "payload": variant.config,
            "feature_enabled": True,
            "featureEnabled": True,
        },
    }
    again = serving.send(FRONTEND, PAGE, query=query, if_none_match=headers["etag"])
    assert again[0] == 304


def constrained(name: str, *values: str) -> dict[str, Any]:
    one = {"contextName": name, "operator": "IN", "values": [*values], "inverted": False}
    return {"name": "default", "parameters": {}, "constraints": [one]}


@pytest.mark.parametrize(
    ("name", "value", "context"),
    [
        ("plan", "pro", {"plan": "pro"}),
        ("plan", "own", {"plan": "pro", "properties": {"plan": "own"}}),
        ("beta", "true", {"properties": {"beta": True}}),
        ("seats", "5", {"properties": {"seats": 5.0}}),
        ("share", "2.5", {"properties": {"share": 2.5}}),
        ("roles", "a,,true", {"properties": {"roles": ["a", None, True]}}),
        ("who", "[object Object]", {"properties": {"who": {"name": "ada"}}}),
        ("environment", "production", {"environment": "default"}),
        ("remoteAddress", "198.51.100.7", {"remoteAddress": ""}),
        ("remoteAddress", "10.0.0.1", {"remoteAddress": "10.0.0.1"}),
        ("userId", "7", {"userId": 7}),
    ],
)
def test_contexts(serving: Served, name: str, value: str, context: dict[str, Any]) -> None:
    """Values are compared as JavaScript writes them; unknown fields are properties."""
    flag = {**new_flag("main"), "strategies": [constrained(name, value)]}
    meta = {"query": {"environment": "production"}}
    serving.rig.publish({"main": flag}, meta)
    _, toggles, _ = serving.send("POST /api/frontend", PAGE, {"context": context})
    assert on(toggles) == ["main"]


def test_null_is_no_value(serving: Served) -> None:
    """It is treated like JavaScript's undefined."""
    strategies = [constrained("plan", "", "None", "null", "undefined")]
    serving.rig.publish({"main": {**new_flag("main"), "strategies": strategies}})
    context = {"plan": None, "properties": {"plan": None}}
    assert on(serving.send("POST /api/frontend", PAGE, {"context": context})[1]) == []


def test_impression_data(serving: Served) -> None:
    """A page reports a flag's use if the flag itself asks for it."""
    asks = {**new_flag("main"), "impressionData": True}
    strategy = {"name": "default", "impressionData": True}
    nested = {"name": "variants", "enabled": True, "strategies": [strategy]}
    serving.rig.publish({"main": asks, "variants": nested})
    _, toggles, _ = serving.send(FRONTEND, PAGE)
    assert [toggle["impressionData"] for toggle in toggles["toggles"]] == [True, False]


def test_page_without_a_session_gets_a_random_one(serving: Served) -> None:
    """So a flag that is on for half of all sessions is on for half of its visits."""
    strategy = new_flag("main")["strategies"][0]
    strategy["parameters"] |= {"rollout": "50", "stickiness": "sessionId"}
    serving.rig.publish({"main": {**new_flag("main"), "strategies": [strategy]}})
    counts = [
        "main" in on(serving.send("POST /api/frontend", PAGE, {"context": {}})[1])
        for _ in range(200)
    ]
    assert 50 < sum(counts) < 150


def test_browser_learns_nothing_else(serving: Served) -> None:
    """Whatever it requests, no response contains a rule, segment, parameter or other flag."""
    flags, segments = sets.unleash()
    secret = "canary-in-a-rule"
    strategy = constrained("email", secret) | {"parameters": {"rollout": secret}, "title": secret}
    hidden = {name: {**new_flag(name), "description": secret} for name in ("hidden", "mainly")}
    flags |= hidden | {"main": {**new_flag("main"), "strategies": [strategy, {"name": "default"}]}}
    segments["5"] = {"id": 5, "name": secret, "constraints": strategy["constraints"]}
    serving.rig.publish(flags, segments=segments)
    for context in sets.contexts("unleash", 50):
        for route, secret_given in ((r, s) for r in ROUTES for s in (PAGE, "", "no-such-secret")):
            body = {"context": context, "appName": "x", **COUNTS}
            path = {"key": "main", "environment": secret_given, "context": "e30"}
            sent = serving.send(route, secret_given, body, parameters=path)
            text = json.dumps(sent)
            assert secret not in text
            assert "hidden" not in text
            assert "mainly" not in text
            assert "strateg" not in text
            assert "segments" not in text


# -- who may ask ----------------------------------------------------------------------------------


def test_kinds_of_keys(serving: Served) -> None:
    """A missing or unknown key gets 401, and one of the other kind 403."""
    other = {SECRET: PAGE, PAGE: SECRET}
    for route, (kinds, *_) in UNLEASH.items():
        mine = SECRET if kinds == ("server",) else PAGE
        body = {"appName": "x", **COUNTS} if route.startswith("POST") else None
        assert serving.send(route, mine, body)[0] < 300
        assert serving.send(route, other[mine], body)[0] == 403
        for stranger in ("", mine[:-1], f"{mine}x", mine.upper(), "é", "\ud800", "x" * 100_000):
            status, refused, _ = serving.send(route, stranger, body, accept_encoding="gzip")
            assert (status, list(refused)) == (401, ["message"])
    for route in ("GET /api/admin", "PUT /api/frontend", "OPTIONS /api/client/features", ""):
        assert serving.send(route, SECRET)[0] == 404


def test_origins(serving: Served) -> None:
    """Pages of the key's origins may send requests and read responses; others may not."""
    asked = "authorization,if-none-match,unleash-appname"
    for route in PREFLIGHTS:
        status, _, headers = serving.send(
            route, origin=ORIGIN, access_control_request_headers=asked
        )
        assert (status, headers["access-control-allow-origin"]) == (204, ORIGIN)
        assert headers["access-control-allow-headers"] == asked
        for origin in ("https://evil.example", "null", f"{ORIGIN}.evil.example", ""):
            status, _, headers = serving.send(route, origin=origin)
            assert (status, headers["vary"]) == (204, "Origin")
            assert not [name for name in headers if name.startswith("access-control")]
    for secret, status in ((PAGE, 200), ("no-such-secret", 401), (SECRET, 403)):
        got, _, headers = serving.send(FRONTEND, secret, origin=ORIGIN)
        assert (got, headers["access-control-allow-origin"]) == (status, ORIGIN)
        assert headers["access-control-expose-headers"] == "ETag"
        assert headers["vary"].startswith("Origin")
    assert serving.send(FRONTEND, PAGE, origin="https://evil.example")[0] == 403
    serving = Served({"page": {**KEYS["page"], "origins": ["*"]}})
    assert serving.send(FRONTEND, PAGE, origin="https://any.example")[0] == 200
    odd = serving.send(
        "OPTIONS /api/frontend", origin="https://a", access_control_request_headers="a\r\nb: c"
    )
    assert "access-control-allow-headers" not in odd[2]


def test_strangers_cause_no_read(serving: Served) -> None:
    """Flags are never read for them, and keys only once they are a minute old."""
    for _ in range(100):
        for route in (*ROUTES, *PREFLIGHTS):
            serving.send(route, "no-such-secret-at-all", origin="https://evil.example")
    assert (serving.reads, serving.rig.calls()) == ([LOAD_S], [])
    serving.send(FEATURES, SECRET)
    assert serving.rig.calls()[0] == HEAD


def test_keys_change_within_a_minute(serving: Served) -> None:
    """A new secret is accepted, and a removed one refused, without a restart."""
    assert serving.send(FEATURES, OLD)[0] == 200
    new = "canary-server-secret-2"
    serving.keys["service"] = {**KEYS["service"], "secrets": [new, SECRET]}
    assert serving.send(FEATURES, new)[0] == 401
    serving.rig.mono.advance(MAX_AGE_S)
    assert [serving.send(FEATURES, secret)[0] for secret in (new, SECRET, OLD)] == [200, 200, 401]
    del serving.keys["service"]
    serving.rig.mono.advance(MAX_AGE_S)
    assert serving.send(FEATURES, new)[0] == 401


# -- when something is wrong ----------------------------------------------------------------------


def test_known_keys_and_flags_outlive_outages(serving: Served) -> None:
    """While SSM and the store are down, clients get the same as before and strangers get 401."""
    before = serving.send(FEATURES, SECRET), serving.send(FRONTEND, PAGE, query="sessionId=1")
    serving.down, serving.rig.store.error = True, DOWN
    for _ in range(20):
        serving.rig.advance(MAX_AGE_S)
        assert serving.send(FEATURES, SECRET) == before[0]
        assert serving.send(FRONTEND, PAGE, query="sessionId=1") == before[1]
        assert serving.send(FEATURES, "no-such-secret")[0] == 401
    assert set(serving.log) == {"client keys cannot be read: SSM is down"}
    assert serving.reads == [LOAD_S, *[REFRESH_S] * 20]  # SSM may be silent, and clients wait


@pytest.mark.parametrize("what", ["keys", "flags"])
def test_cold_function_in_an_outage(serving: Served, what: str) -> None:
    """It starts, asks clients to try again, and recovers."""
    serving.down = what == "keys"
    serving.rig.store.error = DOWN if what == "flags" else None
    serving.app = serving.cold()
    serving.app.start()
    assert serving.rig.calls() == []  # one attempt is the client's, which INIT has waited for
    for route, secret in ((FEATURES, SECRET), (FRONTEND, PAGE)):
        status, body, headers = serving.send(route, secret, origin=ORIGIN)
        assert (status, headers["retry-after"]) == (503, "5")
        assert body == {"message": "flags cannot be read now"}
    assert serving.send(FEATURES)[0] == 401
    assert any(str(error) in serving.log[-1] for error in (DOWN, "not been read yet"))
    serving.down, serving.rig.store.error = False, None
    serving.rig.advance(60)
    assert serving.send(FEATURES, SECRET)[0] == 200


def test_flags_of_another_provider() -> None:
    """Their client gets 404, and the operator a line in the log without secrets."""
    serving = Served(provider="split")
    for route, secret in ((FEATURES, SECRET), (FRONTEND, PAGE)):
        status, body, _ = serving.send(route, secret)
        assert (status, "not Unleash's" in body["message"]) == (404, True)
    assert "client 'page': 'prod' has flags of 'split', not Unleash" in serving.log
    assert not [line for line in serving.log if "canary" in line]


def test_malformed_requests(serving: Served) -> None:
    """Each gets a 4xx and the reason."""
    odd = {"routeKey": "POST /api/frontend", "headers": {"authorization": PAGE}}
    for more, status in (
        ({"body": "{"}, 400),
        ({"body": "[" * 100_000}, 400),
        ({"body": '{"context": 1}'}, 400),
        ({"body": '{"context": {"properties": [1]}}'}, 400),
        ({"body": '{"context": {"userId": "\\ud800"}}'}, 400),
        ({"body": '{"context": {"n": ' + "9" * 5000 + "}}"}, 400),
        ({"body": '{"context": {"n": ' + "[" * 900 + "]" * 900 + "}}"}, 400),
        ({"body": "\ud800"}, 400),
        ({"body": "%%", "isBase64Encoded": True}, 400),
        ({"body": base64.b64encode(b"\xff\xfe").decode(), "isBase64Encoded": True}, 400),
        ({"body": " " * (MAX_BODY + 1)}, 413),
        ({"body": 7}, 200),
        ({"body": "{", "routeKey": FRONTEND}, 200),
        ({"headers": None}, 401),
        ({"headers": {"authorization": [PAGE]}}, 401),
        ({"routeKey": None}, 404),
    ):
        got, body, _ = read(serving.app.respond({**odd, **more}))
        assert got == status, more
        assert status == 200 or body["message"]
    query = read_request({"rawQueryString": "a=b+c%2B&d&&=e&%ff=%F0%9F%8E%A8&\ud800=%"}).query()
    assert query == [("a", "b c+"), ("d", ""), ("", "e"), ("\ufffd", "🎨"), ("?", "%")]
    for query in ("%", "%zz=%ff&&=&properties[]=1&properties[a]b=2", "a" * 10_000, "a=1&a=2"):
        assert serving.send(FRONTEND, PAGE, query=query)[0] == 200


def test_warm_requests_read_little(serving: Served) -> None:
    """Flags cost one small read per TTL; each response is made once per flag set."""
    serving.send(FEATURES, SECRET, **MODERN)
    serving.rig.calls()
    first = serving.app.respond(event := {"routeKey": FEATURES, "headers": {"authorization": OLD}})
    assert serving.app.respond(event)["body"] is not None
    for _ in range(3):
        serving.rig.advance(EXPIRED_S)
        for number in range(20):
            serving.send(FEATURES, SECRET, query=f"namePrefix={number}", **MODERN)
            serving.send(FRONTEND, PAGE, query=f"userId={number}")
        assert serving.rig.calls() == [STATE]
    assert serving.app.respond(event)["body"] == first["body"]
    assert len(serving.app._documents._made) == MAX_DOCUMENTS


def test_start_prepares_a_response_for_each_key(serving: Served) -> None:
    """It is prepared during INIT, when a function has a whole core."""
    client = serving.rig.another()
    client.snapshot()
    serving.app._client = lambda _: client
    serving.app.start()
    serving.rig.calls()
    assert len(serving.app._documents._made) == len(serving.app._views._made) == 1
    (document,) = serving.app._documents._made.values()
    serving.send(FEATURES, SECRET, **MODERN)
    assert [*serving.app._documents._made.values()] == [document]
    assert serving.rig.calls() == []


# -- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"source": "$"}, '"source": '),
        ({"source": 7}, '"source": '),
        ({"kind": "admin"}, '"kind" must be "server" or "browser"'),
        ({"secrets": []}, '"secrets" must be one or more, each of at least 16 characters'),
        ({"secrets": ["short-canary"]}, '"secrets" must be one or more'),
        ({"secrets": "canary-" * 9}, '"secrets" must be a list of strings'),
        ({"kind": "server"}, '"origins" and "flags" are for "browser"'),
        ({"flags": []}, '"origins" and "flags" are for "browser", which needs both'),
        ({"origins": ["https://shop.example/"]}, '"origins" must look like'),
        ({"origins": ["https://*.example"]}, '"origins" must look like'),
        ({"store_url": "https://canary"}, '"store_url" must be the URL of a Redis'),
        ({"secret": "x"}, '"secret" is unknown'),
    ],
)
def test_problems_of_a_key(change: dict[str, Any], problem: str) -> None:
    """Each is reported without quoting a secret, and the other keys keep working."""
    text = json.dumps({**KEYS["page"], **change})
    with pytest.raises(ConfigurationError, match="client 'shop'") as refused:
        parse("shop", text)
    assert problem in str(refused.value)
    assert "canary" not in str(refused.value)
    serving = Served({**KEYS, "shop": json.loads(text)})
    assert serving.send(FEATURES, SECRET)[0] == 200
    assert len(serving.log) == 1


def test_key_never_shows_its_secrets() -> None:
    """Not even in a traceback, which shows values."""
    url = "rediss://reader:canary@redis.example"
    key = parse("shop", json.dumps({**KEYS["page"], "store_url": url}))
    assert (key.store_url, repr(key)) == (url, "ClientKey(shop)")
    for broken in ("", "7", "[" * 100_000, '{"source": '):
        with pytest.raises(ConfigurationError, match="must be a JSON object"):
            parse("shop", broken)


def test_parameters_come_in_pages() -> None:
    """All pages are read, decrypted, and each key is named by the last part of its path."""
    asked, transport = list[Any](), Mock()

    def call(operation: str, payload: Mapping[str, Any], deadline: float) -> Any:
        asked.append((operation, dict(payload), deadline))
        start = int(payload.get("NextToken", 0))
        found = [{"Name": f"/p/clients/{n}", "Value": f"v{n}"} for n in range(start, start + 10)]
        return {"Parameters": found, **({"NextToken": str(start + 10)} if start < 20 else {})}

    transport.call = call
    assert Parameters("/p/clients", transport)(7.0) == {
        str(number): f"v{number}" for number in range(30)
    }
    first = {"Path": "/p/clients", "WithDecryption": True, "MaxResults": 10}
    assert asked[0] == ("GetParametersByPath", first, 7.0)
    assert len(asked) == 3
