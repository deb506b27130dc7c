"""LaunchDarkly's API for browsers at ServeFunction: flags, contexts, reasons, ETags."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest

from simulators import launchdarkly_flags
from simulators.reader_rig import DOWN, EXPIRED_S
from simulators.serving import EVALX, EVALX_REPORT, FLAGS, KEYS, ORIGIN, PAGE, SECRET, Serving, read

if TYPE_CHECKING:
    from collections.abc import Mapping

GET, REPORT = EVALX, EVALX_REPORT
GOALS = "GET /sdk/goals/{environment}"
EVENTS = ("POST /events/bulk/{environment}", "POST /events/diagnostic/{environment}")
ADA = {"kind": "user", "key": "ada", "plan": "team", "name": "Ada ü🎨"}


def flag(key: str, **fields: Any) -> dict[str, Any]:
    shown = {"clientSideAvailability": {"usingEnvironmentId": True, "usingMobileKey": False}}
    return launchdarkly_flags.new_flag(key) | shown | fields


def serving(*flags: dict[str, Any], keys: Mapping[str, Any] = KEYS, **sections: Any) -> Serving:
    made = Serving(keys=keys, provider="launchdarkly")
    made.rig.publish({each["key"]: each for each in flags}, **sections)
    return made


def encoded(context: Any) -> str:
    return urlsafe_b64encode(json.dumps(context).encode()).decode()


def get(
    made: Serving, context: Any = ADA, secret: str = PAGE, query: str = "", **headers: str
) -> tuple[int, Any, dict[str, str]]:
    path = {"environment": secret, "context": encoded(context).rstrip("=")}
    return made.send(GET, parameters=path, query=query, **headers)


def test_evaluations() -> None:
    """GET and REPORT give value, variation and versions of the flags for browsers."""
    made = serving(
        flag("main", version=7, trackEvents=True),
        flag("variants", variations=[{"a": [1.5, None]}, "b"]),
        flag("checkout.off", on=False, offVariation=None),
        flag("checkout.bad", fallthrough={"variation": 9}, version=3),
        flag("checkout.null", variations=[None]),
        flag("checkout.version", version=True),
        flag("checkout.gone", deleted=True),
        flag("hidden"),
        launchdarkly_flags.new_flag("checkout.of-servers"),
    )
    status, found, _ = get(made)
    assert status == 200
    assert found == {
        "main": row(True, 0, 7, tracked=True),
        "variants": row({"a": [1.5, None]}, 0),
        "checkout.off": row(None, None),
        "checkout.bad": row(None, None, 3),
        "checkout.null": row(None, 0),
        "checkout.version": row(True, 0, 0),
    }
    padded = {"environment": PAGE, "context": encoded(ADA)}
    assert made.send(GET, parameters=padded)[1] == found
    assert made.send(REPORT, body=ADA, parameters={"environment": PAGE})[1] == found


def row(value: Any, variation: int | None, version: int = 1, *, tracked: bool = False) -> Any:
    versions = {"version": version, "flagVersion": version}
    return {"value": value, "variation": variation, **versions, "trackEvents": tracked}


def test_reasons_name_no_rule() -> None:
    """They have the kind, the kind of error, and whether it is an experiment."""
    clause = {"attribute": "plan", "op": "in", "values": ["team"]}
    weights = [{"variation": 0, "weight": 100_000}]
    rollout = {"kind": "experiment", "variations": weights}
    made = serving(
        flag("main", rules=[{"id": "canary", "clauses": [clause], "variation": 1}]),
        flag("variants", prerequisites=[{"key": "hidden", "variation": 1}]),
        flag("by-segment", fallthrough={"rollout": rollout}),
        flag("checkout.bad", fallthrough={"variation": 9}),
        flag("checkout.off", on=False),
        flag("checkout.target", targets=[{"values": ["ada"], "variation": 0}]),
        flag("checkout.plain"),
        flag("hidden"),
    )
    _, found, _ = get(made, query="withReasons=true")
    assert {key: each["reason"] for key, each in found.items()} == {
        "main": {"kind": "RULE_MATCH"},
        "variants": {"kind": "PREREQUISITE_FAILED"},
        "by-segment": {"kind": "FALLTHROUGH", "inExperiment": True},
        "checkout.bad": {"kind": "ERROR", "errorKind": "MALFORMED_FLAG"},
        "checkout.off": {"kind": "OFF"},
        "checkout.target": {"kind": "TARGET_MATCH"},
        "checkout.plain": {"kind": "FALLTHROUGH"},
    }
    assert not any("reason" in each for each in get(made)[1].values())


def test_etags() -> None:
    """A 304 until the flags, the context or what is asked of them differ."""
    made = serving(flag("main"))
    _, before, headers = get(made, origin=ORIGIN)
    assert headers["access-control-allow-origin"] == ORIGIN
    etag = headers["etag"]
    assert get(made, if_none_match=etag)[0] == 304
    assert get(made, {**ADA, "plan": "x"}, if_none_match=etag)[0] == 200
    assert get(made, if_none_match=etag, query="withReasons=true")[0] == 200
    made.rig.publish({"main": flag("main", on=False)})
    made.rig.advance(EXPIRED_S)
    status, after, _ = get(made, if_none_match=etag)
    assert (status, before["main"]["value"], after["main"]["value"]) == (200, True, False)


def test_etag_of_flags_read_just_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not that of the earlier flags, which may come back."""
    made = serving(flag("main"))
    get(made)
    made.rig.publish({"main": flag("main", on=False)})
    page = made.app._keys.find(PAGE)
    assert page
    client = made.app._client(page)

    def read_first(context: Any) -> Any:
        made.rig.advance(EXPIRED_S)
        return type(client).for_context(client, context)

    monkeypatch.setattr(client, "for_context", read_first)
    _, found, headers = get(made)
    monkeypatch.undo()
    made.rig.publish({"main": flag("main")})
    made.rig.advance(EXPIRED_S)
    status, again, _ = get(made, if_none_match=headers["etag"])
    assert (found["main"]["value"], status, again["main"]["value"]) == (False, 200, True)


@pytest.mark.parametrize(
    "context",
    [
        *("7", "[]", "{", "", "\xff", "{}", "[" * 100_000, '{"key": ""}', '{"key": "\\ud800"}'),
        *('{"kind": "kind"}', '{"kind": "multi"}', '{"key": "ada", "anonymous": 7}'),
        *(json.dumps({"key": "ada", "long": [{"a": "a" * 1_001}]}), f'{{"key": "{"a" * 1_001}"}}'),
    ],
)
def test_malformed_contexts(context: str) -> None:
    made = serving(flag("main"))
    text = urlsafe_b64encode(context.encode("latin-1")).decode()
    event: Any = {"routeKey": GET, "pathParameters": {"environment": PAGE, "context": text}}
    assert read(made.respond(event))[0] == 400
    event |= {"routeKey": REPORT, "body": context.encode("latin-1").decode(errors="replace")}
    event["requestContext"] = {"http": {"method": "REPORT"}}
    assert read(made.respond(event))[0] == 400


def test_failures_that_pass_have_no_etag() -> None:
    """As while a large segment cannot be read; reasons do not have flagstore's own words."""
    clause = {"attribute": "", "op": "segmentMatch", "values": ["large"]}
    rules = [{"clauses": [clause], "variation": 0}]
    large = launchdarkly_flags.large_segment("large")
    made = serving(flag("main", rules=rules), segments={"large": large})
    get(made, {"key": ""})
    made.rig.store.error = DOWN
    _, found, headers = get(made, query="withReasons=true")
    assert found["main"]["reason"] == {"kind": "ERROR", "errorKind": "EXCEPTION"}
    assert "etag" not in headers


def test_both_apis_for_a_page() -> None:
    """What one of them has found out about a flag is not the other's."""
    made = serving(flag("main", variations=[1, 1.5]))
    for _ in range(2):
        body = {"context": {"targetingKey": "ada"}}
        _, found, _ = made.send(FLAGS, PAGE, body)
        assert found["flags"][0]["value"] == 1
        assert get(made)[1] == {"main": row(1, 0)}


def test_malformed_paths() -> None:
    made = serving(flag("main"))
    for text in ("%%%", "a", "é", "\ud800", "e30=e30"):
        path = {"environment": PAGE, "context": text}
        status, found, _ = made.send(GET, parameters=path)
        assert (status, bool(found["message"])) == (400, True)
    event = {"routeKey": REPORT, "pathParameters": {"environment": PAGE}}
    for method in ("GET", "POST", "DELETE", "", None):
        event["requestContext"] = {"http": {"method": method}}
        assert read(made.respond(event))[0] == 405


def test_what_else_sdks_ask_for() -> None:
    """There are no goals, and events are accepted unread."""
    made = serving(flag("main"))
    path = {"environment": PAGE}
    assert made.send(GOALS, parameters=path)[:2] == (200, [])
    for route in EVENTS:
        for body in ("{", "%" * 300_000, None):
            event = {"routeKey": route, "pathParameters": path, "body": body}
            assert read(made.respond(event))[:2] == (202, None)


def test_keys() -> None:
    """The client-side ID is the key of a page; others get a 401 or 403, and no flags."""
    made = serving(flag("main"))
    for route in (GET, REPORT, GOALS, *EVENTS):
        for secret, status in (("", 401), ("no-such-secret-at-all", 401), (SECRET, 403)):
            path = {"environment": secret, "context": encoded(ADA)}
            assert made.send(route, parameters=path, body=ADA)[0] == status
            # Nor does the header count.
            assert made.send(route, PAGE, parameters=path, body=ADA)[0] == status
        path = {"environment": PAGE, "context": encoded(ADA)}
        sent = made.send(route, parameters=path, body=ADA, origin="https://evil.example")
        assert sent[0] == 403
        preflight = f"OPTIONS {route.partition(' ')[2]}"
        status, _, headers = made.send(preflight, origin=ORIGIN)
        assert (status, headers["access-control-allow-origin"]) == (204, ORIGIN)
        assert "REPORT" in headers["access-control-allow-methods"]


def test_flags_of_another_provider() -> None:
    made = Serving({"main": {}}, provider="split")
    status, found, _ = get(made)
    assert (status, "not LaunchDarkly's" in found["message"]) == (404, True)
    assert made.log == ["client 'page': 'prod' has flags of 'split', not LaunchDarkly"]
