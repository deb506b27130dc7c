"""LaunchDarkly's SDKs for browsers at ServeFunction: values are those of its SDK for Python."""

from __future__ import annotations

from typing import Any

import pytest

from sdks.processes import needs_python
from simulators.serving import EVALX, EVALX_REPORT, PAGE, Gateway

from .browser import browse, needs_browser, page
from .official import official, shown_to_browsers

pytestmark = pytest.mark.e2e

GET, REPORT = EVALX, EVALX_REPORT
VERSIONS = ("3", "4")
DEFAULT = "default"
STREAMS = ("GET /eval/", "GET /ping/")


def expected(details: list[Any]) -> list[Any]:
    """Return value, variation and reason as they should be in a browser, which sees no rules."""
    value, variation, reason = details
    kept = {name: reason[name] for name in ("kind", "errorKind", "inExperiment") if name in reason}
    return [DEFAULT if variation is None or value is None else value, variation, kept]


@pytest.mark.parametrize("count", [5, pytest.param(200, marks=pytest.mark.campaign)])
def test_sdks_for_browsers(count: int) -> None:
    """GET and REPORT from another origin give all flags for browsers; an unchanged GET is a 304."""
    needs_browser("@launchdarkly/js-client-sdk")
    needs_python()
    made = official("launchdarkly", count)
    shown = [name for name, flag in made.flags.items() if shown_to_browsers(flag)]
    at = dict[str, int]()
    with Gateway(made.serving.respond) as gateway:
        url = gateway.url.removesuffix("/api")
        task: dict[str, Any] = {"url": url, "clientKey": PAGE, "contexts": made.own}
        task["flags"] = dict.fromkeys(shown)
        with page(task, lambda path: at.update({path: len(gateway.seen)}), "flags.jsx") as served:
            assert served[0] not in url
            found = browse(*served)
    wanted = [{name: expected(each["flags"][name]) for name in shown} for each in made.said]
    for version in VERSIONS:
        for way in ("get", "report"):
            seen = found[version][way]
            differing = [
                (name, one["flags"][name], want[name])
                for one, want in zip(seen["seen"], wanted, strict=True)
                for name in shown
                if one["flags"][name] != want[name]
            ]
            assert differing[:3] == []
            assert {tuple(one["all"]) for one in seen["seen"]} == {tuple(sorted(shown))}
            assert (seen["errors"], seen["lines"]["error"]) == ([], [])
        # No stream: one warning at most, no error, and the flags stay.
        streaming, polling = found[version]["streaming"], found[version]["polling"]
        assert (streaming["errors"], streaming["lines"]["error"]) == ([], [])
        assert len(streaming["lines"]["warn"]) <= 1, streaming
        assert (polling["errors"], polling["lines"]) == ([], {"error": [], "warn": []})
        assert streaming["value"] == polling["value"] != DEFAULT
    routes = [route for route, _ in gateway.seen]
    for version in VERSIONS:
        begun, ended = at[f"/listening-{version}"], at[f"/polling-{version}"]
        asked = [route for route in routes[begun:ended] if route.startswith(STREAMS)]
        assert 1 <= len(asked) <= 4  # each pause is longer than the one before
    assert not [route for route in routes[at["/polling-4"] :] if route.startswith(STREAMS)]
    statuses = gateway.statuses
    assert set(statuses(GET)) == {200, 304}
    assert statuses(GET).count(304) >= len(VERSIONS)
    assert set(statuses(REPORT)) == {200}
    assert set(statuses("GET /sdk/goals/{environment}")) <= {200, 304}
    assert set(statuses("POST /events/bulk/{environment}")) == {202}
    assert {s for route, s in gateway.seen if route.startswith("OPTIONS")} == {204}
    print(f"LaunchDarkly's in pages: {count} contexts, {len(shown)} flags: 0 differ")
