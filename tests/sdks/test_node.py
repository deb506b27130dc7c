"""The providers' SDKs for Node.js evaluate what flagstore wrote as the provider's own response."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rigs import SOURCE, RedisRig, open_rig
from sdks import processes, sets
from sdks.processes import same
from sdks.sets import ARCHIVED, MAIN, REMOVED
from simulators.launchdarkly_flags import new_flag
from storesync.maintenance import roll_back

if TYPE_CHECKING:
    from rigs import AnyRig

SDKS = {
    "launchdarkly-6": ("launchdarkly", "dynamodb"),  # with its package for DynamoDB 4.0.0
    "launchdarkly-7": ("launchdarkly", "redis"),  # with its package for Redis 2.1.0
    "launchdarkly-9": ("launchdarkly", "redis"),
    "ldclient-5": ("launchdarkly", "redis"),
    "split": ("split", "redis"),
    "unleash": ("unleash", "dynamodb"),
}
"""Each SDK's provider, and the store that it reads."""
BEFORE_CONTEXTS = {"launchdarkly-6", "ldclient-5"}
"""They know users only, so contexts of several kinds are left out. So are flags that need each
other: they end 6.4.3's process (RangeError), and 5.8 never answers, whoever serves them; later SDKs
say MALFORMED_FLAG."""
CIRCLE = {"a-circle": "another", "another": "a-circle"}
"""Flags that need each other."""


def flags_and_more(sdk: str, provider: str) -> Any:
    """Return the flags that the SDK supports, and segments: what a simulator serves."""
    flags, *more = getattr(sets, provider)()
    if provider == "launchdarkly" and sdk not in BEFORE_CONTEXTS:
        for key, other in CIRCLE.items():
            flags[key] = new_flag(key) | {"prerequisites": [{"key": other, "variation": 0}]}
    return flags, *more


def contexts(sdk: str, provider: str, count: int) -> list[dict[str, Any]]:
    made = sets.contexts(provider, 2 * count)
    if sdk in BEFORE_CONTEXTS:
        made = [context for context in made if context["kind"] == "user"]
    return made[:count]


def place(rig: AnyRig) -> dict[str, str]:
    return rig.place() | ({"document": f"{SOURCE}:document"} if rig.name == "unleash" else {})


@pytest.mark.parametrize(
    "count", [40, pytest.param(200, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
@pytest.mark.parametrize("sdk", SDKS)
def test_sdk_evaluates_as_from_the_provider(
    request: pytest.FixtureRequest, sdk: str, count: int
) -> None:
    """All results are equal: at first, after changes and deletions, and after a rollback.

    While it reads the store, the SDK connects to nothing else.
    """
    provider, store = SDKS[sdk]
    made, given = flags_and_more(sdk, provider), contexts(sdk, provider, count)
    task: dict[str, Any] = {"flags": [*made[0], "never-there"], "contexts": given}
    task["sets"] = sets.SETS
    with sets.SIMULATORS[provider](*made) as server:
        rig = open_rig(request, store, server, provider)
        if isinstance(rig, RedisRig) and sdk != "ldclient-5":  # it knows passwords, no users
            rig.login = processes.documented_user(rig.server, f"{provider}-sdk")
            if sdk == "launchdarkly-7":  # its client asks a server whether it is ready
                rig.server.admin.execute_command("ACL", "SETUSER", "launchdarkly-sdk", "+info")
        options = {"document": provider == "unleash"}
        with processes.node("evaluate.cjs", sdk, rig.environment()) as ask:

            def stored() -> list[str]:
                results, connections = processes.evaluated(ask, **task, **place(rig))
                assert connections == [rig.address()]
                return results

            def direct() -> list[str]:
                return processes.evaluated(ask, **task, url=server.url, key=server.sdk_key)[0]

            assert rig.sync(**options).outcome == "published"
            first = rig.store().state(SOURCE).published
            before = stored()
            same(before, direct(), given)
            sets.change(server)
            assert rig.sync(**options).outcome == "published"
            after = stored()
            same(after, direct(), given)
            assert changed(before, after) >= {MAIN, REMOVED, ARCHIVED}
            until = int((rig.clock.now() + 3_600) * 1000)
            roll_back(rig.source(**options), rig.store(), rig.clock, to=first, pinned_until=until)
            same(stored(), before, given)


def changed(before: list[str], after: list[str]) -> set[str]:
    """Return the flags that some context gets with another result."""
    found: set[str] = set()
    for old, new in zip(map(json.loads, before), map(json.loads, after), strict=True):
        found |= {name for name in old["flags"] if old["flags"][name] != new["flags"][name]}
    return found
