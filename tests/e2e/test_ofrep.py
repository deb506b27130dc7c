"""OpenFeature's OFREP providers at ServeFunction: values are those of each provider's own SDK."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from docs.pages import blocks
from sdks.processes import PYTHON, needs_python, output, started
from simulators.launchdarkly_flags import new_flag
from simulators.serving import FLAG, FLAGS, PAGE, SECRET, Gateway, Serving

from .browser import MODULES, NODE_FOLDER, browse, needs_browser, page
from .official import ALL, NO_VALUE, PROVIDERS, official, shown_to_browsers

if TYPE_CHECKING:
    from pathlib import PurePath

    from .official import Official

pytestmark = pytest.mark.e2e

SDKS: dict[str, list[str | PurePath]] = {
    "node": ["node", NODE_FOLDER / "ofrep.mjs"],
    "python": [PYTHON, Path(__file__).with_name("ofrep_python.py")],
}
PRECISE = "python"
"""Tells 1 from 1.0, unlike JavaScript."""
POLL_MS = 300
DEFAULT = "default"
REASONS = {"STATIC", "TARGETING_MATCH", "SPLIT", "UNKNOWN"}


def needs(sdk: str) -> None:
    if sdk == "node":
        if not (MODULES / "@openfeature").exists():
            pytest.skip("OpenFeature's SDKs for Node.js are missing: run `make setup-e2e`")
        return
    needs_python()
    if not [*PYTHON.parents[1].glob("lib/*/site-packages/openfeature/contrib")]:
        pytest.skip("OpenFeature's provider for Python is missing: run `make setup`")


def assert_same(seen: list[Any], made: Official, sdk: str) -> None:
    """Assert that values are the expected ones, or the default where there is none."""
    differing = []
    for found, expected, asked in zip(seen, made.expected, made.asked, strict=True):
        for name, (value, reason, variant, code) in found.items():
            wanted, kind = expected[name], asked["flags"][name]
            same = value == wanted and isinstance(variant, str) and not code and reason in REASONS
            if sdk == PRECISE:
                same = same and type(value) is typed(wanted, kind)
            if not (same or (wanted == NO_VALUE and value == DEFAULT)):
                differing.append((name, kind, found[name], wanted, asked["context"]))
    assert differing[:3] == []


def typed(value: Any, kind: str) -> type:
    return float if kind == "float" else type(value)


@pytest.mark.parametrize("count", [3, pytest.param(200, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("sdk", SDKS)
def test_providers_for_servers(sdk: str, provider: str, count: int) -> None:
    """Each flag has its type and value for every context; the rest is the caller's default."""
    needs(sdk)
    needs_python()
    made = official(provider, count)
    with Gateway(made.serving.respond) as gateway:
        url = gateway.url.removesuffix("/api")
        with started([*SDKS[sdk], url, SECRET], os.environ) as ask:
            results, step = [], 20
            for start in range(0, count, step):
                results += ask(asked=made.asked[start : start + step])
            (missing,) = ask(asked=[{"context": {}, "flags": {"never-there": "boolean"}}])
            assert missing["never-there"][3] == "FLAG_NOT_FOUND"
            assert_same(results, made, sdk)
        with started([*SDKS[sdk], url, "no-such-secret-at-all"], os.environ) as ask:
            (refused,) = ask(asked=[{"context": {}, "flags": {"main": "boolean"}}])
            assert (refused["main"][0], refused["main"][3]) == (False, "GENERAL")
    assert set(gateway.statuses(FLAG)) <= {200, 400, 401, 404}
    print(f"servers: {count} contexts, {len(made.flags)} flags: 0 differ")


@pytest.mark.parametrize("count", [3, pytest.param(200, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_provider_for_browsers(provider: str, count: int) -> None:
    """The same from another origin, for the flags that browsers may see; then polls are 304s."""
    needs_browser()
    needs("node")
    made = official(provider, count)
    hidden = [name for name, flag in made.flags.items() if not shown_to_browsers(flag)]
    with Gateway(made.serving.respond) as gateway:
        url = gateway.url.removesuffix("/api")
        task = {"sdk": "ofrep", "url": url, "clientKey": PAGE, "pollMs": POLL_MS}
        task["asked"] = made.asked
        with page(task, script="flags.jsx") as (origin, served):
            assert origin not in url
            found = browse(origin, served)
    for each in found["seen"]:
        assert {each.pop(name)[3] for name in hidden} <= {"FLAG_NOT_FOUND"}
    assert_same(found["seen"], made, "browser")
    assert found["changed"] == []
    statuses = gateway.statuses(FLAGS)
    assert set(statuses) == {200, 304}
    assert statuses[-3:] == [304] * 3
    assert set(gateway.statuses(f"OPTIONS {FLAGS.partition(' ')[2]}")) == {204}
    shown = len(made.flags) - len(hidden)
    print(f"pages: {count} contexts, {shown} flags: 0 differ")


FLAG_NAMES = ("plain", "targeted", "limits", "broken")
"""As in ofrep.yaml, which also names one that browsers must not see and one that is not there."""
UNFIT = "unsupported_method,positive_data_acceptance"
"""API Gateway responds to other methods (404), and LaunchDarkly has rules for contexts (400) that
the description does not know."""


@pytest.mark.parametrize("secret", [SECRET, PAGE])
@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.campaign)])
def test_description(count: int, secret: str, tmp_path: Path) -> None:
    """Made-up requests get responses as in the protocol's description; see ofrep.yaml."""
    needs("python")
    rules = [{"clauses": [{"attribute": "plan", "op": "in", "values": ["team"]}], "variation": 1}]
    fields: list[dict[str, Any]] = [
        *({}, {"rules": rules}, {"variations": [{"a": 1}, 2.5]}),
        {"fallthrough": {"variation": 9}},
    ]
    shown = {"clientSideAvailability": {"usingEnvironmentId": True}}
    flags = {
        name: new_flag(name) | shown | each for name, each in zip(FLAG_NAMES, fields, strict=True)
    }
    flags["hidden-from-browsers"] = new_flag("hidden-from-browsers")
    serving = Serving(keys=ALL, provider="launchdarkly")
    serving.rig.publish(flags)
    with Gateway(serving.respond) as gateway:
        done = subprocess.run(
            [
                *(PYTHON.with_name("schemathesis"), "run", Path(__file__).with_name("ofrep.yaml")),
                *("--url", gateway.url.removesuffix("/api"), "--exclude-checks", UNFIT),
                *("--header", f"Authorization: Bearer {secret}", "--seed", "7", "--no-color"),
                *("--max-examples", str(count), "--generation-database", "none"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    statuses = Counter(gateway.seen)
    assert {status for _, status in statuses} >= {200, 400, 401, 404}
    print(f"{sum(statuses.values())} requests made up from the description: 0 faults")


def run_page(block: str, url: str, folder: Path) -> Any:
    """Run a block of the page in a browser; return what it calls ``enabled``."""
    script = folder / "example.js"
    known = f"const SERVE_URL = {json.dumps(url)}, CLIENT_KEY = {json.dumps(PAGE)};"
    done = "await fetch('/done', { method: 'POST', body: JSON.stringify({ enabled }) });"
    script.write_text(f"{known}\n{block}\n{done}\n", encoding="utf-8")
    with page({}, script=str(script)) as served:
        return browse(*served)


def test_examples_of_the_page(tmp_path: Path) -> None:
    """The blocks of docs/ofrep.md evaluate a flag."""
    needs_browser()
    needs("node")
    server, in_page, launchdarkly = [block.text for block in blocks("docs/ofrep.md")]
    rules = [{"clauses": [{"attribute": "plan", "op": "in", "values": ["team"]}], "variation": 0}]
    shown = {"clientSideAvailability": {"usingEnvironmentId": True}, "rules": rules}
    flag = new_flag("new-checkout") | shown | {"fallthrough": {"variation": 1}}
    serving = Serving(keys=ALL, provider="launchdarkly")
    serving.rig.publish({"new-checkout": flag})
    (tmp_path / "node_modules").symlink_to(MODULES)
    script = tmp_path / "example.mjs"
    script.write_text(f"{server}\nconsole.log(enabled);\nprocess.exit(0);\n", encoding="utf-8")
    with Gateway(serving.respond) as gateway:
        url = gateway.url.removesuffix("/api")
        environment = {**os.environ, "SERVE_URL": url, "CLIENT_KEY": SECRET}
        assert output(["node", script], environment).split() == ["true"]
        for block in (in_page, launchdarkly):
            assert run_page(block, url, tmp_path) == {"enabled": True}
