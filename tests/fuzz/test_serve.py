"""Nothing forged or malformed gets a flag out of ServeFunction, or breaks it."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from flagserve.app import PREFLIGHTS, ROUTES
from flagstore.lines import LINE_BYTES
from fuzz.test_webhooks import DOSE, ODD, WHOLE, mutated, text_like
from simulators import appconfig_flags, launchdarkly_flags, split_flags
from simulators.serving import KEYS, OLD, ORIGIN, PAGE, SECRET, Serving, text_of
from simulators.unleash_flags import new_flag
from storesync.usage_lines import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STRANGER = "canary-secret-of-a-stranger"
KINDS = {SECRET: "server", OLD: "server", PAGE: "browser"}
SHOWN, HIDDEN, RULE = "shown-flag", "hidden-flag", "canary-in-a-rule"
BODY = {
    "appName": "shop",
    "context": {"userId": "ada", "properties": {"plan": "pro", "seats": 5, "roles": ["a"]}},
    "bucket": {"start": "x", "stop": "y", "toggles": {SHOWN: {"yes": 1, "no": 0, "variants": {}}}},
}
QUERY = "userId=ada&sessionId=1&properties%5Bplan%5D=pro&project=default&namePrefix=shown"
ROUTE_KEYS = [*ROUTES, *sorted(PREFLIGHTS)]
OF_UNLEASH = [route for route in ROUTE_KEYS if " /api/" in route]
OTHERS = [route for route in ROUTE_KEYS if route not in OF_UNLEASH]
SERVERS_ONLY = "flag-not-for-browsers"
PERSON = {"kind": "user", "key": "ada", "plan": "pro", "seats": 5, "roles": ["a"]}
PERSON_IN_OFREP = {"context": {"targetingKey": "ada", "plan": "pro", "userId": "7"}}
PROVIDERS = ("launchdarkly", "split", "unleash", "appconfig")


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
        "routeKey": chance.choice(OF_UNLEASH),
        "rawPath": "/api/frontend",
        "rawQueryString": chance.choice([QUERY, QUERY, "", text_like(QUERY, chance)]),
        "headers": headers,
        "requestContext": {"http": {"sourceIp": "198.51.100.7", "method": "GET"}},
        "body": json.dumps(BODY),
        "isBase64Encoded": False,
    }


def flags_of(provider: str) -> dict[str, Any]:
    """Return a flag that browsers see and two that they do not, with the canary in their rules."""
    names = (SHOWN, HIDDEN, SERVERS_ONLY)
    if provider == "launchdarkly":
        clause = {"attribute": "plan", "op": "in", "values": [RULE, "pro"]}
        rules = [{"id": RULE, "clauses": [clause], "variation": 0}]
        needed = [{"key": HIDDEN, "variation": 0}]
        flags = {name: launchdarkly_flags.new_flag(name) | {"rules": rules} for name in names}
        flags[SHOWN]["prerequisites"] = needed
        for name in (SHOWN, HIDDEN):
            flags[name]["clientSideAvailability"] = {"usingEnvironmentId": True}
        return flags
    if provider == "split":
        condition = split_flags.rule(split_flags.matcher("ALL_KEYS"), label=RULE, on=100)
        return {name: split_flags.new_flag(name) | {"conditions": [condition]} for name in names}
    if provider == "appconfig":
        return dict.fromkeys(names, appconfig_flags.multi_variant(f'(eq $plan "{RULE}")'))
    return {
        name: new_flag(name) | {"strategies": [{"name": "default", "title": RULE}]}
        for name in names
    }


def other_request(chance: random.Random) -> dict[str, Any]:
    """Return a request of OFREP's or of one of LaunchDarkly's SDKs for browsers."""
    event = request(chance)
    others = [route for route in OTHERS if chance.random() < 0.1 or route in ROUTES]
    event["routeKey"] = route = chance.choice(others)
    secret = event["headers"]["authorization"]
    header = chance.choice(["authorization", "x-api-key", "none"])
    event["headers"][header] = event["headers"].pop("authorization")
    event["body"] = json.dumps(PERSON_IN_OFREP if "ofrep" in route else PERSON)
    event["rawQueryString"] = chance.choice(["", "withReasons=true", event["rawQueryString"]])
    event["requestContext"]["http"]["method"] = chance.choice(["REPORT", "REPORT", "GET"])
    context = base64.urlsafe_b64encode(json.dumps(PERSON).encode()).decode()
    names = [SHOWN, SHOWN, HIDDEN, SERVERS_ONLY]
    path = {"key": chance.choice(names), "environment": secret, "context": context}
    if chance.random() < 0.3:
        name = chance.choice(sorted(path))
        path[name] = chance.choice([text_like(path[name], chance), chance.choice(ODD)])
    return {**event, "pathParameters": path}


def kind_of(event: Mapping[str, Any]) -> str:
    """Return the kind of key that an event carries, in the simplest way; empty for none."""
    route, path = event.get("routeKey"), event.get("pathParameters")
    if isinstance(route, str) and (" /sdk/" in route or " /events/" in route):
        given = path.get("environment") if isinstance(path, dict) else None
        return KINDS.get(given, "") if isinstance(given, str) else ""
    found = event.get("headers")
    pairs = found.items() if isinstance(found, dict) else ()
    headers = {name.lower(): value for name, value in pairs if isinstance(value, str)}
    secret = headers.get("authorization", "").strip()
    if secret.lower().startswith("bearer "):
        secret = secret[7:].strip()
    if not secret and isinstance(route, str) and "ofrep" in route:
        secret = headers.get("x-api-key", "").strip()
    return KINDS.get(secret, "")


def shown(response: Mapping[str, Any]) -> str:
    """Return what a response says, besides the name that a refused request gave."""
    body = text_of(response)
    found = json.loads(body) if body else None
    if isinstance(found, dict) and "errorCode" in found:
        found.pop("key", None)
    return f"{json.dumps(found)}{response['headers']}"


def answers(
    serving: Serving, events: Iterable[dict[str, Any]], hidden: tuple[str, ...]
) -> Counter[tuple[str, int]]:
    """Send requests, and count the kinds of keys with the statuses; only servers get *hidden*."""
    answered = Counter[tuple[str, int]]()
    for event in events:
        serving.rig.calls()
        response = serving.respond(event)
        kind, status, text = kind_of(event), response["statusCode"], shown(response)
        answered[kind, status] += 1
        assert status < 500, repr(event)[:1500]
        for secret in KINDS:
            assert secret not in text
        if kind != "server":
            assert not any(each in text for each in hidden), repr(event)[:1500]
        if not kind:
            assert SHOWN not in text, repr(event)[:1500]
            assert status in {204, 401, 404}, repr(event)[:1500]
            assert serving.rig.calls() == []
    return answered


def forged(chance: random.Random) -> dict[str, Any]:
    event = mutated(request(chance), chance)
    if chance.random() < 0.1:
        event["rawQueryString"] = chance.choice(ODD)
    return event


@pytest.mark.parametrize(
    "count", [DOSE, pytest.param(WHOLE, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_forged_requests_get_nothing(count: int) -> None:
    """No 5xx; flags only with a key, rules only with a server's key, and no read without one."""
    serving = served()
    chance = random.Random(23)
    answered = answers(serving, (forged(chance) for _ in range(count)), (HIDDEN, RULE, "strateg"))
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


@pytest.mark.parametrize(
    "count",
    [DOSE, pytest.param(WHOLE // len(PROVIDERS), marks=pytest.mark.campaign)],
    ids=["dose", "all"],
)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_forged_requests_of_other_apis_get_nothing(provider: str, count: int) -> None:
    """The same for OFREP and for LaunchDarkly's API for browsers, with flags of each provider."""
    keys = KEYS | {"page": {**KEYS["page"], "flags": [SHOWN, SERVERS_ONLY]}}
    if provider != "launchdarkly":
        keys["page"]["flags"].pop()
    serving = Serving(keys=keys, provider=provider)
    serving.rig.publish(flags_of(provider))
    chance = random.Random(29)
    serving.respond({"routeKey": OTHERS[0], "headers": {"x-api-key": SECRET}})
    serving.log.clear()
    events = (mutated(other_request(chance), chance) for _ in range(count))
    answered = answers(serving, events, (HIDDEN, SERVERS_ONLY, RULE))
    without = sum(number for (kind, _), number in answered.items() if not kind)
    figures = f"{count:,} requests, {without:,} without a key: 0 flags, 0 of status 5xx"
    print(f"\nOFREP and pages: {figures}")
    kinds = ("browser", "server")
    met = [answered[kind, status] for kind in kinds for status in (200, 400, 404)]
    met += [answered["", 401], answered["browser", 202], answered["server", 403]]
    assert min(met) > count / 500
    assert not [line for line in serving.log if "not LaunchDarkly" not in line]
