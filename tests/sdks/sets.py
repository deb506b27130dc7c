"""Flag sets with everything that rows have to carry, and contexts to evaluate them for."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from simulators import launchdarkly_flags, split_flags, unleash_flags
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.split import SplitSimulator
from simulators.split_flags import in_segment, matcher, new_rule_based, rollout, rule
from simulators.unleash import UnleashSimulator

if TYPE_CHECKING:
    from collections.abc import Callable

MAIN = "main"
"""The flag that tests change; half of all contexts get it."""
REMOVED, ARCHIVED = "removed-later", "archived: ü/🙂"
"""Flags that are on for everybody until tests remove them."""
SEGMENT_FLAG = "by-segment"
GONE = "deleted-long-ago"
"""A flag that LaunchDarkly still names, as deleted."""
LARGE = "large"
"""A segment that is stored apart from the others, for its size; Unleash's is number 4."""
MEMBERS = [f"user-{number}" for number in range(0, 300, 2)]
SETS = ["backend", "frontend", "mobile"]
FLAG = "new-checkout"
SIMULATORS: dict[str, Any] = {
    "launchdarkly": LaunchDarklySimulator,
    "split": SplitSimulator,
    "unleash": UnleashSimulator,
}
NEW_FLAG = {
    "launchdarkly": launchdarkly_flags.new_flag,
    "split": split_flags.new_flag,
    "unleash": unleash_flags.new_flag,
}
COUNTRIES = ("DE", "FR", "JP", "BR", "US", "KE")


def server(provider: str, flag: str = FLAG) -> Any:
    """Return a provider with one flag, which is on, as examples have it."""
    return SIMULATORS[provider]({flag: NEW_FLAG[provider](flag)})


def launchdarkly() -> tuple[dict[str, Any], dict[str, Any]]:
    flags, segments = launchdarkly_flags.rich_flags(60)
    weights = [{"variation": n, "weight": 50_000} for n in (0, 1)]
    large = {"attribute": "", "op": "segmentMatch", "values": [LARGE], "negate": False}
    made: dict[str, dict[str, Any]] = {
        MAIN: {"fallthrough": {"rollout": {"variations": weights}}},
        REMOVED: {},
        ARCHIVED: {"variations": ["grün", None, {"deep": [1.5, {"b": None}]}]},
        SEGMENT_FLAG: {
            "rules": [{"id": "large", "clauses": [large], "variation": 0}],
            "fallthrough": {"variation": 1},
        },
        GONE: {"version": 7, "deleted": True},
        "off": {"on": False, "variations": [None, "text"]},
        "malformed": {"fallthrough": {"variation": 9}},
        "$inited": {},
        "k" * 256: {"version": 2**53 - 1},
    }
    flags |= {key: launchdarkly_flags.new_flag(key) | fields for key, fields in made.items()}
    apart = [f"somebody-with-a-long-name-{number}" for number in range(3_000)]
    for key, members in ((LARGE, apart + MEMBERS), ("used-by-no-flag", ["user-1"])):
        segments[key] = launchdarkly_flags.new_segment(key) | {"included": members}
    return flags, segments


def split() -> tuple[dict[str, Any], dict[str, list[str]], dict[str, Any]]:
    flags, segments, rule_based = split_flags.rich_flags(60)
    plans = matcher("WHITELIST", "plan", whitelistMatcherData={"whitelist": ["team"]})
    odd = "insiders & co: ü/中"
    conditions = {
        MAIN: [rollout(on=50, off=50)],
        REMOVED: [rollout(on=100)],
        ARCHIVED: [rollout(on=100)],
        SEGMENT_FLAG: [rule(in_segment(LARGE), label="large", on=100), rollout(off=100)],
        "till": [rule(plans, label="plans", on=100), rollout(on=50, off=50)],
        "nobody": [rule(in_segment("empty"), label="nobody", on=100), rollout(off=100)],
        "insiders": [
            rule(in_segment(odd, "IN_RULE_BASED_SEGMENT"), label="in", on=100),
            rollout(off=100),
        ],
    }
    for name, listed in conditions.items():
        made = {"conditions": listed, "sets": SETS[:1], "configurations": {"on": '{"a": "grün"}'}}
        flags[name] = split_flags.new_flag(name) | made
    segments[LARGE] = [f"{number:032x}" for number in range(4_000)] + MEMBERS
    segments["empty"] = []
    rule_based[odd] = new_rule_based(odd)
    rule_based[odd]["excluded"] = {
        "keys": ["user-16"],
        "segments": [{"name": "blocked", "type": "standard"}],
    }
    return flags, segments, rule_based


def unleash() -> tuple[dict[str, Any], dict[str, Any]]:
    flags, segments = unleash_flags.rich_flags(60)
    half = unleash_flags.new_flag(MAIN)["strategies"][0]
    half["parameters"] |= {"rollout": "50"}
    made: dict[str, dict[str, Any]] = {
        MAIN: {"strategies": [half]},
        REMOVED: {},
        ARCHIVED: {},
        SEGMENT_FLAG: {"strategies": [{"name": "default", "segments": [4]}]},
        "needs-main": {"dependencies": [{"feature": MAIN, "enabled": False}]},
        "unknown-strategy": {"strategies": [{"name": "of-our-own", "parameters": {}}]},
        "variants": {"variants": [_variant("json", '{"limit": 10}'), _variant("text", "grün 🎨")]},
    }
    flags |= {name: unleash_flags.new_flag(name) | fields for name, fields in made.items()}
    large = unleash_flags.new_segment(4)
    large["constraints"][0]["values"] = [f"user-{number}" for number in range(0, 6_000, 2)]
    return flags, segments | {"4": large}


def _variant(kind: str, value: str) -> dict[str, Any]:
    payload = {"type": kind if kind == "json" else "string", "value": value}
    return {"name": kind, "weight": 500, "stickiness": "default", "payload": payload}


def change(server: Any) -> None:
    """Change and remove flags and segments at a provider that has the set above."""
    if isinstance(server, LaunchDarklySimulator):
        server.set_flag(MAIN, fallthrough={"variation": 1})
        server.set_segment("employees", rules=[])
        server.remove_segment("used-by-no-flag")
    elif isinstance(server, SplitSimulator):
        server.set_flag(MAIN, killed=True, defaultTreatment="dead", sets=["mobile"])
        server.set_segment("beta-testers", remove=["user-3", "user-12"], add=["user-5"])
        server.set_segment(LARGE, remove=["user-10"])
        server.set_rule_based("insiders", excluded={"keys": ["user-16"], "segments": []})
    else:
        server.set_flag(MAIN, strategies=[])
        server.set_segment(2, constraints=[])
    server.remove_flag(REMOVED)
    server.remove_flag(ARCHIVED)


def contexts(provider: str, count: int = 200) -> list[dict[str, Any]]:
    """Return contexts in a provider's form, each without some of the attributes."""
    random = Random(1)
    make: Callable[[Random], dict[str, Any]] = {
        "launchdarkly": _launchdarkly_context,
        "split": _split_context,
        "unleash": _unleash_context,
    }[provider]
    return [make(random) for _ in range(count)]


def _attributes(random: Random) -> dict[str, Any]:
    made = {
        "plan": random.choice(("free", "team", "business")),
        "email": random.choice(("anna@example.com", "bob@example.org")),
        "country": random.choice(COUNTRIES),
        "age": random.randint(10, 70),
        "seats": random.choice((5, 50, 2.5)),
        "appVersion": random.choice(("2.3.9", "2.4.0", "2.5.0-rc.1", "10.0.0")),
        "signedUpAt": random.choice(("2025-12-31T23:59:59Z", "2026-07-01T00:00:00Z")),
        "beta": random.choice((True, False)),
    }
    return {name: value for name, value in made.items() if random.random() < 0.88}


def _key(random: Random) -> str:
    return random.choice((*[f"user-{random.randint(0, 300)}"] * 3, "empleado-7@müller.example"))


def _launchdarkly_context(random: Random) -> dict[str, Any]:
    user = {"key": _key(random), **_attributes(random)}
    if random.random() < 0.6:
        return {"kind": "user", **user}
    organisation = {"key": f"account-{random.randint(0, 19)}", "region": "eu"}
    return {"kind": "multi", "user": user, "organisation": organisation}


def _split_context(random: Random) -> dict[str, Any]:
    bucketing = random.choice((None, None, "team-1"))
    attributes = _attributes(random)
    return {"key": _key(random), "bucketing": bucketing, "attributes": attributes}


def _unleash_context(random: Random) -> dict[str, Any]:
    """Name a user and a session: without them Unleash decides at random."""
    return {
        "userId": random.choice((_key(random), str(random.randint(0, 200)))),
        "sessionId": f"session-{random.randint(0, 99)}",
        "remoteAddress": random.choice(("10.1.2.3", "2001:db8::1", "nowhere")),
        "currentTime": random.choice(("2025-06-01T00:00:00Z", "2026-06-01T00:00:00Z")),
        "properties": {name: str(value) for name, value in _attributes(random).items()},
    }
