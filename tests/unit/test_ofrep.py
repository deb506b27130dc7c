"""OFREP at ServeFunction: types, reasons, errors, what each key sees, and ETags."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from flagserve.gateway import MAX_BODY, MAX_CONTEXT, MAX_STRING
from simulators import appconfig_flags, launchdarkly_flags, split_flags, unleash_flags
from simulators.reader_rig import DOWN, EXPIRED_S, STATE
from simulators.serving import FLAG, FLAGS, KEYS, OLD, ORIGIN, PAGE, SECRET, Serving, read

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = {**KEYS, "page": {**KEYS["page"], "flags": ["*"]}}
ADA: dict[str, Any] = {"targetingKey": "ada", "plan": "team"}
MATCH = "TARGETING_MATCH"
NOON = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""


def serving(
    provider: str,
    flags: Mapping[str, Any],
    meta: Mapping[str, Any] | None = None,
    keys: Mapping[str, Any] = ALL,
    **sections: Any,
) -> Serving:
    made = Serving(keys=keys, provider=provider)
    made.rig.publish(dict(flags), dict(meta or {}), **sections)
    return made


def one(
    made: Serving, name: str, context: Any = ADA, secret: str = SECRET, **headers: str
) -> tuple[int, Any]:
    """Evaluate one flag; return status and JSON."""
    body = {"context": context}
    status, found, _ = made.send(FLAG, secret, body, parameters={"key": name}, **headers)
    return status, found


def many(
    made: Serving, context: Any = ADA, secret: str = SECRET, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Evaluate all flags; return status, results by key, and headers."""
    status, found, given = made.send(FLAGS, secret, {"context": context}, **headers)
    return status, {each["key"]: each for each in found["flags"]} if found else {}, given


def launchdarkly(key: str = "f", **fields: Any) -> dict[str, Any]:
    return launchdarkly_flags.new_flag(key) | fields


def shown(flag: dict[str, Any]) -> dict[str, Any]:
    return flag | {"clientSideAvailability": {"usingEnvironmentId": True}}


def split(**treatments: int) -> dict[str, Any]:
    return split_flags.new_flag("f") | {"conditions": [split_flags.rollout(**treatments)]}


def unleash(*strategies: dict[str, Any], **fields: Any) -> dict[str, Any]:
    strategy = {"name": "default", "parameters": {}}
    return unleash_flags.new_flag("f") | {"strategies": [*strategies] or [strategy]} | fields


def by_date(*values: str, operator: str = "DATE_AFTER") -> dict[str, Any]:
    constraints = [
        {"contextName": "currentTime", "operator": operator, "value": value} for value in values
    ]
    return {"name": "default", "parameters": {}, "constraints": constraints}


def payload(kind: str, value: str) -> list[dict[str, Any]]:
    return [{"name": "v", "weight": 1000, "payload": {"type": kind, "value": value}}]


# -- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "flag", "value", "variant", "reason"),
    [
        ("launchdarkly", launchdarkly(), True, "0", "STATIC"),
        ("launchdarkly", launchdarkly(on=False), False, "1", "STATIC"),
        ("launchdarkly", launchdarkly(on=False, offVariation=None), None, "", "DISABLED"),
        ("launchdarkly", launchdarkly(variations=[None]), None, "0", "STATIC"),
        ("launchdarkly", launchdarkly(variations=[{"a": [1.5]}]), {"a": [1.5]}, "0", "STATIC"),
        ("launchdarkly", launchdarkly(variations=[10, 1]), 10, "0", "STATIC"),
        ("launchdarkly", launchdarkly(variations=[10, 2.5]), 10.0, "0", "STATIC"),
        ("launchdarkly", launchdarkly(variations=[10.0]), 10.0, "0", "STATIC"),
        ("launchdarkly", launchdarkly(variations=[2**53, 1.5]), 2.0**53, "0", "STATIC"),
        ("launchdarkly", launchdarkly(variations=[2**60, 1.5]), 2**60, "0", "STATIC"),
        ("split", split(on=100), True, "on", "STATIC"),
        ("split", split(TRUE=100), True, "TRUE", "STATIC"),
        ("split", split(Off=100), False, "Off", "STATIC"),
        ("split", split(on=100, blue=0), "on", "on", "STATIC"),
        ("split", split(on=100) | {"defaultTreatment": "blue"}, "on", "on", "STATIC"),
        ("split", split(on=100) | {"killed": True}, False, "off", "STATIC"),
        ("unleash", unleash(), True, "enabled", MATCH),
        ("unleash", unleash(enabled=False), False, "disabled", "STATIC"),
        ("unleash", unleash(variants=[{"name": "v", "weight": 1000}]), True, "v", MATCH),
        ("unleash", unleash(variants=payload("string", "7")), "7", "v", MATCH),
        ("unleash", unleash(variants=payload("csv", "a,b")), "a,b", "v", MATCH),
        ("unleash", unleash(variants=payload("number", "7.0")), 7.0, "v", MATCH),
        ("unleash", unleash(variants=payload("json", "[1]")), [1], "v", MATCH),
        (
            "unleash",
            unleash({"name": "default", "variants": payload("json", "[1]")}),
            [1],
            "v",
            MATCH,
        ),
        (
            "unleash",
            unleash(enabled=False, variants=payload("json", "1")),
            None,
            "",
            "DISABLED",
        ),
        ("appconfig", {"enabled": True}, True, "enabled", "STATIC"),
        ("appconfig", {"enabled": False}, False, "disabled", "STATIC"),
        ("appconfig", {"enabled": True, "a": 1}, {"a": 1, "enabled": True}, "", "STATIC"),
        ("appconfig", {"enabled": False, "a": 1}, {"enabled": False}, "", "STATIC"),
        (
            "appconfig",
            appconfig_flags.multi_variant('(eq $plan "team")'),
            {"limit": 0, "enabled": True},
            "Variant 0",
            MATCH,
        ),
        ("freeform", [1, {"enabled": 2}], [1, {"enabled": 2}], "", "STATIC"),
        ("freeform", "text", "text", "", "STATIC"),
    ],
)
def test_types(provider: str, flag: Any, value: Any, variant: str, reason: str) -> None:
    """Each flag has one type, and all five fields; both routes and kinds of keys agree."""
    meta = {"format": "freeform"} if provider == "freeform" else {}
    if provider == "launchdarkly":
        flag = shown(flag)
    name = "appconfig" if provider == "freeform" else provider
    made = serving(name, {"f": flag}, meta)
    status, found = one(made, "f")
    assert (status, found["key"]) == (200, "f")
    assert (found["value"], type(found["value"])) == (value, type(value))
    assert (found["variant"], found["reason"]) == (variant, reason)
    assert all(isinstance(each, (str, int, float)) for each in found["metadata"].values())
    assert many(made)[1] == {"f": found}
    for route in (one(made, "f", secret=PAGE)[1], many(made, secret=PAGE)[1]["f"]):
        assert {**route, "metadata": 0} == {**found, "metadata": 0}
        assert found["metadata"].items() >= route["metadata"].items()


def test_metadata() -> None:
    """It has our own words; a browser gets none about rules."""
    clause = {"attribute": "plan", "op": "in", "values": ["team"]}
    rules = [{"id": "canary", "clauses": [clause], "variation": 1}]
    made = serving("launchdarkly", {"f": shown(launchdarkly(rules=rules, version=7))})
    found = one(made, "f")[1]
    assert found["reason"] == "TARGETING_MATCH"
    assert found["metadata"] == {
        "reason": "RULE_MATCH",
        "rule": "canary",
        "rule_index": 0,
        "version": 7,
        "in_experiment": False,
    }
    by_page = one(made, "f", secret=PAGE)[1]["metadata"]
    assert by_page == {"reason": "RULE_MATCH", "version": 7, "in_experiment": False}
    made = serving("split", {"f": split(on=100) | {"configurations": {"on": '{"a": 1}'}}})
    assert one(made, "f")[1]["metadata"]["config"] == '{"a": 1}'
    made = serving("unleash", {"f": unleash(variants=payload("json", "1"))})
    assert one(made, "f", secret=PAGE)[1]["metadata"]["enabled"] is True


def test_reasons() -> None:
    """Experiments and flags outside of an allocation are SPLIT."""
    weights = [{"variation": 0, "weight": 100_000}]
    rollout = {"kind": "experiment", "variations": weights}
    made = serving("launchdarkly", {"f": launchdarkly(fallthrough={"rollout": rollout})})
    assert one(made, "f")[1]["reason"] == "SPLIT"
    made = serving("split", {"f": split(on=100) | {"trafficAllocation": 0}})
    assert one(made, "f")[1]["reason"] == "SPLIT"


# -- contexts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "value"),
    [
        ({"targetingKey": "ada"}, True),
        ({"key": "ada"}, True),
        ({"targetingKey": "bob", "key": "ada"}, False),
        ({"kind": "multi", "user": {"targetingKey": "ada"}, "org": {"targetingKey": "o"}}, True),
        ({"targetingKey": "ada", "kind": "org"}, False),
    ],
)
def test_contexts(context: Any, value: bool) -> None:
    """As for OpenFeature's provider: the targeting key is the key, of each kind."""
    targets = [{"variation": 0, "values": ["ada"]}]
    flag = launchdarkly(targets=targets, fallthrough={"variation": 1})
    assert one(serving("launchdarkly", {"f": flag}), "f", context)[1]["value"] is value


@pytest.mark.parametrize("provider", ["launchdarkly", "split"])
def test_targeting_key_is_missing(provider: str) -> None:
    """LaunchDarkly's and Split's flags need one."""
    flag = launchdarkly() if provider == "launchdarkly" else split(on=100)
    made = serving(provider, {"f": flag})
    for context in ({}, {"targetingKey": None}):
        status, found = one(made, "f", context)
        assert (status, found["key"], found["errorCode"]) == (400, "f", "TARGETING_KEY_MISSING")
        status, found, _ = made.send(FLAGS, SECRET, {"context": context})
        assert (status, found["errorCode"]) == (400, "TARGETING_KEY_MISSING")
        assert found["errorDetails"]


def test_targeting_key_is_optional() -> None:
    """Unleash's and AppConfig's flags need none; without a body, the context is empty."""
    for made in (serving("unleash", {"f": unleash()}), serving("appconfig", {"f": {"enabled": 1}})):
        for body in ({"context": {}}, {}):
            status, found, _ = made.send(FLAG, SECRET, body, parameters={"key": "f"})
            assert status == (200 if found.get("value") else 400)
    assert one(serving("unleash", {"f": unleash()}), "f", {})[1]["value"] is True


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "PARSE_ERROR"),
        ("{", "PARSE_ERROR"),
        ("[" * 100_000, "PARSE_ERROR"),
        ('{"context": {"n": NaN}}', "PARSE_ERROR"),
        ('{"context": {"n": ' + "9" * 5_000 + "}}", "PARSE_ERROR"),
        ('{"context": {"a": "\\ud800"}}', "PARSE_ERROR"),
        ("[]", "INVALID_CONTEXT"),
        ("null", "INVALID_CONTEXT"),
        ('{"context": []}', "INVALID_CONTEXT"),
        ('{"context": null}', "INVALID_CONTEXT"),
        ('{"context": {"targetingKey": 7}}', "INVALID_CONTEXT"),
        ('{"context": {"targetingKey": "ada", "kind": "kind"}}', "INVALID_CONTEXT"),
        ('{"context": {"targetingKey": "ada", "name": 7}}', "INVALID_CONTEXT"),
    ],
)
def test_malformed_requests(body: str, code: str) -> None:
    """They get a 400 with the code, the flag's key and details."""
    made = serving("launchdarkly", {"f": launchdarkly()})
    event = {"headers": {"x-api-key": SECRET}, "body": body, "pathParameters": {"key": "f"}}
    status, found, _ = read(made.respond({**event, "routeKey": FLAG}))
    assert (status, found["key"], found["errorCode"]) == (400, "f", code)
    assert found["errorDetails"]
    event["pathParameters"] = {}
    status, found, _ = read(made.respond({**event, "routeKey": FLAGS}))
    assert (status, found["errorCode"], "key" in found) == (400, code, False)


@pytest.mark.parametrize("route", [FLAG, FLAGS])
def test_visitors_send_no_long_contexts(route: str) -> None:
    """A pattern could take minutes on them; servers may send them."""
    made = serving("launchdarkly", {"main": shown(launchdarkly("main"))}, keys=KEYS)
    longest = {"targetingKey": "ada", "deep": {"er": ["a" * MAX_STRING]}}
    many = {"targetingKey": "ada", "many": ["a"] * MAX_CONTEXT}
    for context, expected in (
        (longest, 200),
        (longest | {"more": "a" * (MAX_STRING + 1)}, 400),
        (many, 400),
    ):
        status, found, _ = made.send(route, PAGE, {"context": context}, parameters={"key": "main"})
        assert status == expected
        assert found.get("errorCode") == (None if expected == 200 else "INVALID_CONTEXT")
        assert made.send(route, SECRET, {"context": context}, parameters={"key": "main"})[0] == 200


def test_statuses_are_json() -> None:
    """Also those of keys, sizes and outages, with `errorDetails`."""
    made = serving("launchdarkly", {"f": launchdarkly()}, keys=KEYS)
    event: Any = {"headers": {"authorization": SECRET}, "pathParameters": {"key": "f"}}
    statuses = []
    for more in (
        {"headers": {}},
        {"headers": {"x-api-key": "no-such-secret-at-all"}},
        {"headers": {"authorization": PAGE, "origin": "https://evil.example"}},
        {"body": " " * (MAX_BODY + 1)},
        {"body": "%%", "isBase64Encoded": True},
    ):
        for route in (FLAG, FLAGS):
            status, found, headers = read(made.respond({**event, "routeKey": route, **more}))
            assert (found["key"], found["errorCode"]) == ("f", "GENERAL")
            assert (bool(found["errorDetails"]), headers["content-type"][-4:]) == (True, "json")
            statuses.append(status)
    assert statuses[::2] == statuses[1::2] == [401, 401, 403, 413, 400]
    made.rig.store.error, made.app = DOWN, made.cold()
    status, found, headers = made.send(FLAG, SECRET, {"context": ADA}, parameters={"key": "f"})
    assert (status, found["errorCode"], headers["retry-after"]) == (503, "GENERAL", "5")


def test_ways_to_send_the_key() -> None:
    made = serving("launchdarkly", {"f": launchdarkly()})
    body = json.dumps({"context": ADA})
    for headers in (
        {"authorization": f"Bearer {SECRET}"},
        {"authorization": f"bearer {SECRET}"},
        {"authorization": SECRET},
        {"X-API-Key": SECRET},
    ):
        event = {"routeKey": FLAGS, "headers": headers, "body": body}
        assert made.respond(event)["statusCode"] == 200


# -- which flags ----------------------------------------------------------------------------------


def test_names_in_paths() -> None:
    """A name is found escaped, unescaped and with slashes; an unknown one is not."""
    odd = {"archived: ü/🙂": "archived%3A%20%C3%BC%2F%F0%9F%99%82", "50%25": "50%2525", "a+b": ""}
    made = serving("launchdarkly", {name: launchdarkly(name) for name in odd})
    for name, escaped in odd.items():
        for given in filter(None, (name, escaped)):
            status, found = one(made, given)
            assert (status, found["key"]) == (200, name)
    for given in ("", "a b", "50", "none", "\ud800", "x" * 10_000, "archived: ü/"):
        status, found = one(made, given)
        assert (status, found["errorCode"]) == (404, "FLAG_NOT_FOUND")
        assert found.get("key", "") == given


def test_what_a_browser_sees_of_launchdarkly() -> None:
    """Flags marked for browsers, if the key names them, too; the rest does not exist."""
    flags = {
        "main": shown(launchdarkly("main")),
        "checkout.a": shown(launchdarkly("checkout.a")),
        "main-marked-not": launchdarkly("main-marked-not"),
        "checkout.marked-not": launchdarkly("checkout.marked-not") | {"clientSide": True},
        "variants": launchdarkly("variants") | {"clientSideAvailability": True},
        "by-segment": launchdarkly() | {"clientSideAvailability": {"usingEnvironmentId": 1}},
        "named-not": shown(launchdarkly("named-not")),
        "checkout.gone": shown(launchdarkly("checkout.gone", deleted=True)),
    }
    made = serving("launchdarkly", flags, keys=KEYS)
    assert set(many(made, secret=PAGE)[1]) == {"main", "checkout.a"}
    for name in flags:
        status, found = one(made, name, secret=PAGE)
        assert status == (200 if name in {"main", "checkout.a"} else 404)
        assert status == 200 or found["errorCode"] == "FLAG_NOT_FOUND"
    assert set(many(made)[1]) == set(flags) - {"checkout.gone"}
    assert one(made, "checkout.gone")[0] == 404


@pytest.mark.parametrize("provider", ["split", "unleash", "appconfig"])
def test_what_a_browser_sees_of_others(provider: str) -> None:
    """The flags that its key names."""
    flag = {"split": split(on=100), "unleash": unleash(), "appconfig": {"enabled": True}}[provider]
    made = serving(provider, {"main": flag, "hidden": flag}, keys=KEYS)
    assert set(many(made, secret=PAGE)[1]) == {"main"}
    assert [one(made, name, secret=PAGE)[0] for name in ("main", "hidden")] == [200, 404]
    assert set(many(made)[1]) == {"main", "hidden"}


def test_flags_that_cannot_be_evaluated() -> None:
    """In bulk they are failures among the others."""
    flags = {"bad": launchdarkly("bad", fallthrough={"variation": 9}), "good": launchdarkly("good")}
    made = serving("launchdarkly", flags)
    status, found = one(made, "bad")
    assert (status, found["errorCode"]) == (400, "PARSE_ERROR")
    assert found["metadata"] == {"error": "MALFORMED_FLAG"}
    _, both, _ = many(made)
    assert (both["bad"], both["good"]["value"]) == (found, True)
    for text in ("[NaN]", '{"a": 1e999}', "[-Infinity]"):  # no JSON can hold these numbers
        made = serving("unleash", {"bad": unleash(variants=payload("json", text)), "f": unleash()})
        assert [one(made, name)[0] for name in ("bad", "f")] == [400, 200]
        assert many(made)[1]["bad"] == one(made, "bad")[1]
    odd = {"bad": {"name": "bad"}, "worse": {"conditions": 7, "defaultTreatment": 7}}
    for name in odd:
        assert one(serving("split", odd), name)[0] == 400


# -- ETags ----------------------------------------------------------------------------------------


def test_etags() -> None:
    """A 304 until flags, context or key differ; it evaluates nothing and reads nothing."""
    made = serving("launchdarkly", {"main": shown(launchdarkly("main"))})
    _, first, headers = many(made, origin=ORIGIN, secret=PAGE)
    assert headers["access-control-expose-headers"] == "ETag"
    etag = headers["etag"]
    made.rig.calls()
    for given in (etag, etag.removeprefix("W/"), f'"x", {etag}'):
        status, nothing, headers = many(made, secret=PAGE, if_none_match=given)
        assert (status, nothing, headers["etag"]) == (304, {}, etag)
    assert made.rig.calls() == []
    assert many(made, {**ADA, "plan": "x"}, secret=PAGE, if_none_match=etag)[0] == 200
    assert many(made, if_none_match=etag, secret=SECRET)[0] == 304  # sees the same flags
    made.rig.publish({"main": shown(launchdarkly("main", version=2, on=False))})
    made.rig.advance(EXPIRED_S)
    status, second, _ = many(made, secret=PAGE, if_none_match=etag)
    assert (status, first["main"]["value"], second["main"]["value"]) == (200, True, False)


def test_etags_of_keys_for_other_flags() -> None:
    """One key's ETag is no other's, although both see as many flags."""
    other = {**KEYS["page"], "secrets": ["canary-of-another-page"], "flags": ["b"]}
    keys = {"page": {**KEYS["page"], "flags": ["a"]}, "other": other}
    flags = {name: shown(launchdarkly(name)) for name in ("a", "b")}
    made = serving("launchdarkly", flags, keys=keys)
    etag = many(made, secret=PAGE)[2]["etag"]
    status, found, _ = many(made, secret=other["secrets"][0], if_none_match=etag)
    assert (status, set(found)) == (200, {"b"})


def test_etag_while_an_earlier_segment_stands_in() -> None:
    """The response decides, since it changes as soon as the segment can be read."""
    made = serving("launchdarkly", {"main": launchdarkly("main")})
    etag = many(made)[2]["etag"]
    snapshot(made).stand_ins["large"] = dict
    assert many(made)[2]["etag"] not in {etag, ""}


def test_etag_of_flags_read_just_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not that of the earlier flags, which may come back."""
    on, off = ({"main": launchdarkly("main", on=on)} for on in (True, False))
    made = serving("launchdarkly", on)
    many(made)
    made.rig.publish(off)
    client = made.app._client(key(made))

    def read_first(context: Any) -> Any:
        made.rig.advance(EXPIRED_S)
        return type(client).for_context(client, context)

    monkeypatch.setattr(client, "for_context", read_first)
    _, found, headers = many(made)
    monkeypatch.undo()
    made.rig.publish(on)
    made.rig.advance(EXPIRED_S)
    status, again, _ = many(made, if_none_match=headers["etag"])
    assert (found["main"]["value"], status, again["main"]["value"]) == (False, 200, True)


def test_ages_do_not_change_flags() -> None:
    """They are in the metadata of the bulk only, and the ETag stays."""
    made = serving("launchdarkly", {"main": launchdarkly("main")})
    sent = [made.send(FLAGS, SECRET, {"context": ADA})]
    made.rig.advance(1)
    sent.append(made.send(FLAGS, SECRET, {"context": ADA}))
    (_, before, first), (_, after, second) = sent
    assert before["flags"] == after["flags"]
    assert before["metadata"]["age_s"] < after["metadata"]["age_s"]
    token = snapshot(made).snapshot_record.token
    assert after["metadata"].items() >= {"version": token, "stale": False}.items()
    assert first["etag"] == second["etag"]


@pytest.mark.parametrize("where", ["strategy", "segment"])
def test_etags_of_rules_by_date(where: str) -> None:
    """They change when a date passes, and only then."""
    rule = by_date("2026-01-01T12:00:00Z")
    before = by_date("2026-01-01T14:00:00.500+01:00", operator="DATE_BEFORE")
    sections = {}
    flag = unleash(rule, before)
    if where == "segment":
        sections["segments"] = {"1": {"id": 1, "name": "s", "constraints": rule["constraints"]}}
        flag = unleash({"name": "default", "segments": [1]}, before)
    made = serving("unleash", {"f": flag}, **sections)
    etags, values = list[str](), list[bool]()
    made.rig.wall.advance(NOON - 60 - made.rig.wall.now())
    for seconds in (0, 59, 1, 1, 3_599, 0.5, 0.5, 9_999):
        made.rig.wall.advance(seconds)
        status, found, headers = many(made, if_none_match=etags[-1] if etags else "")
        etags.append(headers["etag"])
        values.append(found["f"]["value"] if status == 200 else values[-1])
        assert values[-1] is one(made, "f")[1]["value"]
    # Both dates count at themselves, too.
    assert [etags[0], *etags[2:4], *etags[5:7]] == list(dict.fromkeys(etags))
    assert (etags[0], etags[3], etags[6]) == (etags[1], etags[4], etags[7])


def test_etags_of_browsers_tell_no_date() -> None:
    """Those of servers change when a date passes, in a flag that a browser does not see, too."""
    made = serving("unleash", {"main": unleash(), "f": unleash(by_date("2026-01-01T12:00:00Z"))})
    made.keys["page"] = KEYS["page"]
    made.app = made.cold()
    made.rig.wall.advance(NOON - 1 - made.rig.wall.now())
    before = [many(made, secret=secret)[2]["etag"] for secret in (PAGE, SECRET)]
    made.rig.wall.advance(2)
    after = [many(made, secret=secret)[2]["etag"] for secret in (PAGE, SECRET)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]


def key(made: Serving) -> Any:
    found = made.app._keys.find(SECRET)
    assert found
    return found


@pytest.mark.parametrize(
    "strategy",
    [
        by_date("2026-01-01T12:00:00Z", operator="NUM_GT"),
        by_date("2016-12-31T23:59:60Z"),
        by_date("soon"),
        {"name": "flexibleRollout", "parameters": {"rollout": "50", "stickiness": "currentTime"}},
    ],
)
def test_etags_of_other_rules_by_time(strategy: dict[str, Any]) -> None:
    """The response itself decides."""
    made = serving("unleash", {"f": unleash(strategy), "g": unleash()})
    for _ in range(20):
        made.rig.wall.advance(1)
        _, found, headers = many(made)
        status, again, _ = many(made, if_none_match=headers["etag"])
        assert status == 304 or again == found


def test_etag_of_a_deployment_in_progress() -> None:
    """Who has the new version changes with time, so the response decides."""
    deployment = {"ConfigurationVersion": 2, "PreviousVersion": 1, "RemovedFlags": []}
    made = serving(
        "appconfig",
        {"f": {"enabled": False}},
        new_flags={"f": {"enabled": True}},
        deployments={"7": deployment},
    )
    many(made)
    (_, view), *_ = made.app._views._made.values()
    assert view.moments is None
    metadata = [one(made, "f", secret=secret)[1]["metadata"] for secret in (SECRET, PAGE)]
    assert ["deployment" in each for each in metadata] == [True, False]


def snapshot(made: Serving) -> Any:
    return made.app._client(key(made)).snapshot()


def test_failures_that_pass_have_no_etag() -> None:
    """As while a large segment cannot be read: the next response may differ."""
    clause = {"attribute": "", "op": "segmentMatch", "values": ["large"]}
    rules = [{"clauses": [clause], "variation": 0}]
    large = launchdarkly_flags.large_segment("large", "ada")
    flag = launchdarkly(rules=rules, fallthrough={"variation": 1})
    made = serving("launchdarkly", {"f": flag}, segments={"large": large})
    snapshot(made)
    made.rig.store.error = DOWN
    _, found, headers = many(made)
    assert found["f"]["errorCode"] == "GENERAL"
    assert "etag" not in headers
    made.rig.store.error = None
    made.rig.advance(60)
    _, found, headers = many(made)
    assert (found["f"].get("value"), "etag" in headers) == (True, True)


def test_bulk_is_compressed() -> None:
    flags = {f"flag-{number}": launchdarkly(f"flag-{number}") for number in range(50)}
    made = serving("launchdarkly", flags)
    _, found, headers = many(made, accept_encoding="gzip")
    assert (len(found), headers["content-encoding"]) == (50, "gzip")
    event = {"routeKey": FLAGS, "headers": {"authorization": SECRET}, "isBase64Encoded": True}
    event["body"] = base64.b64encode(json.dumps({"context": ADA}).encode()).decode()
    assert len(read(made.respond(event))[1]["flags"]) == 50


def test_warm_requests_read_little() -> None:
    """One small read per TTL, and each list of flags is made once per flag set."""
    made = serving("split", {"f": split(on=100)})
    one(made, "f")
    made.rig.calls()
    many(made, secret=OLD)
    views = dict(made.app._views._made)
    assert len(views) == 1
    made.rig.advance(EXPIRED_S)
    for number in range(20):
        one(made, "f", {"targetingKey": str(number)})
        many(made, {"targetingKey": str(number)})
    assert made.rig.calls() == [STATE]
    assert made.app._views._made == views


def test_start_compiles_all_flags() -> None:
    """INIT, when a function has a whole core, evaluates each flag once."""
    made = serving("split", {"f": split(on=100)})
    client = made.rig.another()
    client.snapshot()
    made.app._client = lambda _: client
    made.app.start()
    assert "f" in client._made[1].flags
    assert made.log == []
