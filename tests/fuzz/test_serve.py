"""Nothing forged or malformed gets a flag out of ServeFunction, or breaks it."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from flagserve.app import PREFLIGHTS, ROUTES
from flagstore.lines import LINE_BYTES
from fuzz.test_webhooks import DOSE, ODD, WHOLE, mutated, text_like
from simulators.serving import KEYS, OLD, ORIGIN, PAGE, SECRET, Serving, text_of
from simulators.unleash_flags import new_flag
from storesync.usage_lines import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

STRANGER = "canary-secret-of-a-stranger"
KINDS = {SECRET: "server", OLD: "server", PAGE: "browser"}
SHOWN, HIDDEN, RULE = "shown-flag", "hidden-flag", "canary-in-a-rule"
BODY = {
    "appName": "shop",
    "context": {"userId": "ada", "properties": {"plan": "pro", "seats": 5, "roles": ["a"]}},
    "bucket": {"start": "x", "stop": "y", "toggles": {SHOWN: {"yes": 1, "no": 0, "variants": {}}}},
}
QUERY = "userId=ada&sessionId=1&properties%5Bplan%5D=pro&project=default&namePrefix=shown"
ROUTE_KEYS = [route for route in (*ROUTES, *sorted(PREFLIGHTS)) if " /api/" in route]


def served() -> Serving:
    strategy = new_flag(SHOWN)["strategies"][0] | {"title": RULE, "segments": [1]}
    flags = {name: {**new_flag(name), "strategies": [strategy]} for name in (SHOWN, HIDDEN)}
    segments = {"1": {"id": 1, "name": RULE, "constraints": []}}
    return Serving(flags, segments, keys=KEYS | {"page": {**KEYS["page"], "flags": [SHOWN]}})


def request(chance: random.Random) -> dict[str, Any]:
    secret = chance.choice([SECRET, OLD, PAGE, PAGE, STRANGER, ""])
    if chance.random() < 0.3:
        secret = text_like(secret, chance)
    headers = {"authorization": secret, "unleash-client-spec": "5.2.0", "origin": ORIGIN}
    headers |= {"accept-encoding": "gzip", "if-none-match": '"0"'}
    return {
        "version": "2.0",
        "routeKey": chance.choice(ROUTE_KEYS),
        "rawPath": "/api/frontend",
        "rawQueryString": chance.choice([QUERY, QUERY, "", text_like(QUERY, chance)]),
        "headers": headers,
        "requestContext": {"http": {"sourceIp": "198.51.100.7", "method": "GET"}},
        "body": json.dumps(BODY),
        "isBase64Encoded": False,
    }


def kind_of(event: Mapping[str, Any]) -> str:
    """Return the kind of key that an event carries, in the simplest way; empty for none."""
    given = event.get("headers")
    pairs = given.items() if isinstance(given, dict) else ()
    secret = {name.lower(): value for name, value in pairs if isinstance(value, str)}.get(
        "authorization", ""
    )
    secret = secret.strip()
    if secret.lower().startswith("bearer "):
        secret = secret[7:].strip()
    return KINDS.get(secret, "")


def shown(response: Mapping[str, Any]) -> str:
    body = text_of(response)
    if body:
        json.loads(body)
    return f"{body}{response['headers']}"


@pytest.mark.parametrize(
    "count", [DOSE, pytest.param(WHOLE, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_forged_requests_get_nothing(count: int) -> None:
    """No 5xx; flags only with a key, rules only with a server's key, and no read without one."""
    serving = served()
    chance, answered = random.Random(23), Counter[tuple[str, int]]()
    for _ in range(count):
        event = mutated(request(chance), chance)
        if chance.random() < 0.1:
            event["rawQueryString"] = chance.choice(ODD)
        serving.rig.calls()
        response = serving.respond(event)
        kind, status, text = kind_of(event), response["statusCode"], shown(response)
        answered[kind, status] += 1
        assert status < 500, repr(event)[:1500]
        for secret in KINDS:
            assert secret not in text
        if kind != "server":
            assert not any(each in text for each in (HIDDEN, RULE, "strateg")), repr(event)[:1500]
        if not kind:
            assert SHOWN not in text, repr(event)[:1500]
            assert status in {204, 401, 404}, repr(event)[:1500]
            assert serving.rig.calls() == []
    without = sum(number for (kind, _), number in answered.items() if not kind)
    print(f"\n{count:,} requests, {without:,} without a key: 0 flags for those, 0 of status 5xx")
    # A fuzzer that only ever meets one response proves nothing.
    kinds = ("browser", "server")
    met = [answered[kind, status] for kind in kinds for status in (200, 400, 403, 404)]
    assert min(*met, answered["", 401], answered["server", 202]) > count / 500
    assert serving.log == []
    # What clients report is printed, within the bounds of usage lines.
    assert len(serving.printed) > count / 500
    for line in serving.printed:
        found = parse(json.loads(line))
        assert found is not None
        assert len(line) <= LINE_BYTES
        assert set(found.flags) <= {SHOWN, HIDDEN}
