"""Unleash's own clients at ServeFunction, beside a real Unleash server: only their URL differs."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import pytest
import requests

from flagserve.app import ROUTES
from sdks import sets
from sdks.processes import PYTHON, needs_python, started
from simulators.memory_store import MemoryStore
from simulators.reader_rig import DOWN, EXPIRED_S
from simulators.serving import FEATURES, FRONTEND, KEYS, PAGE, SECRET, Gateway, Serving
from simulators.unleash import UnleashSimulator
from storesync import providers
from storesync.http import HttpClient
from storesync.model import Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline

from .browser import MODULES, NODE_FOLDER, browse, needs_browser, page
from .deployments import wait_for
from .served_flags import UNLIKE, constraint, seed, strategy
from .unleash_server import UnleashServer, needs_unleash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import PurePath

    from sdks.processes import Ask

pytestmark = pytest.mark.e2e

CONTEXTS = sets.contexts("unleash", 200)
PEOPLE = [{**each, "userId": each["userId"].replace("ü", "u")} for each in CONTEXTS]
"""The server's own frontend API hashes other letters than ASCII's as Node.js does, all other SDKs
as UTF-8."""
ALL = {**KEYS, "page": {**KEYS["page"], "flags": ["*"], "origins": ["*"]}}
SDKS: dict[str, list[str | PurePath]] = {
    "node": ["node", NODE_FOLDER / "sdk.mjs"],
    "python": [PYTHON, Path(__file__).with_name("python_sdk.py")],
}


class World(NamedTuple):
    """A real server, and ServeFunction with what was synced from it."""

    server: UnleashServer
    serving: Serving
    gateway: Gateway
    flags: list[str]

    def sync(self) -> None:
        """Publish what the server has, as SyncFunction does; the cached flags expire."""
        newest = self.server.newest_event()
        wait_for(lambda: self.server.features()["meta"]["revisionId"] >= newest, "revision")
        rig, key = self.serving.rig, Secret(self.server.backend_token("development"))
        source = Source("prod", "unleash", self.server.url, key, allow_http=True)
        deadline = Deadline(rig.wall, random.Random(1), 60.0)
        store = MemoryStore(rig.records)
        sync = Sync(source, providers.get("unleash"), store, http=HttpClient(), deadline=deadline)
        assert sync.run([SyncRequest("prod", trigger="schedule")]).outcome == "published"
        rig.advance(EXPIRED_S)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    needs_unleash()
    with UnleashServer() as server:
        serving = Serving(keys=ALL)
        with Gateway(serving.respond) as gateway:
            made = World(server, serving, gateway, seed(server))
            made.sync()
            # Its frontend API follows some time after its client API.
            wait_for(lambda: "child.of-none" in evaluated(made, PEOPLE[0]), "dependencies")
            yield made


def needs_node() -> None:
    if shutil.which("node") is None or not (MODULES / "unleash-client").exists():
        pytest.skip("Unleash's SDK for Node.js is missing: run `make setup-e2e`")


def sdk(name: str, url: str, token: str) -> AbstractContextManager[Ask]:
    """Start a server's SDK at a URL, which evaluates ``flags`` for ``contexts``."""
    if name == "python":
        needs_python()
    else:
        needs_node()
    return started([*SDKS[name], url, token], os.environ)


# -- with a provider that is simulated ------------------------------------------------------------


@pytest.mark.parametrize("name", SDKS)
def test_server_sdk(name: str) -> None:
    """It registers, gets the same as from Unleash, polls with 304s, and survives an outage."""
    flags, contexts = [*sets.unleash()[0], "never-there"], CONTEXTS[:20]
    serving = Serving(*sets.unleash())
    with ExitStack() as running:
        gateway = running.enter_context(Gateway(serving.respond))
        unleash = running.enter_context(UnleashSimulator(*sets.unleash()))
        theirs = running.enter_context(sdk(name, f"{unleash.url}/api", unleash.sdk_key))
        ours = running.enter_context(sdk(name, gateway.url, SECRET))
        task = {"flags": flags, "contexts": contexts}
        seen = ours(**task)
        assert seen == theirs(**task)
        assert any(enabled for one in seen for enabled, _ in one.values())
        statuses = gateway.statuses
        wait_for(lambda: statuses("POST /api/client/metrics"), "metrics")
        wait_for(lambda: len(statuses(FEATURES)) > 1, "poll")
        assert statuses(FEATURES)[:2] == [200, 304]
        assert set(statuses("POST /api/client/register")) == {202}
        assert set(statuses("POST /api/client/metrics")) == {202}
        serving.rig.store.error, serving.app = DOWN, serving.cold()
        wait_for(lambda: statuses(FEATURES)[-1] == 503, "failed poll")
        assert ours(**task) == seen


# -- beside a real server -------------------------------------------------------------------------


def get(url: str, token: str, **headers: str) -> Any:
    response = requests.get(url, headers={"Authorization": token, **headers}, timeout=10)
    assert response.ok, response.text
    return response.json()


@pytest.mark.campaign
@pytest.mark.parametrize("spec", ["", "4.1.9", "4.2.0", "5.2.0"])
@pytest.mark.parametrize("query", ["", "?namePrefix=con.", "?project=default", "?project=none"])
def test_documents(world: World, query: str, spec: str) -> None:
    """Features and segments are the server's, for every filter and generation of SDKs."""
    headers = {"Unleash-Client-Spec": spec} if spec else {}
    path, token = f"/client/features{query}", world.server.backend_token("development")
    theirs = get(f"{world.server.url}/api{path}", token, **headers)
    ours = get(f"{world.gateway.url}{path}", SECRET, **headers)
    assert ours["features"] == sorted(theirs["features"], key=lambda feature: feature["name"])
    assert bool(ours["features"]) == ("none" not in query)
    by_name = [sorted(one.get("segments", []), key=lambda s: s["name"]) for one in (ours, theirs)]
    assert by_name[0] == by_name[1]
    assert ("segments" in ours) == ("segments" in theirs) == (spec[:3] >= "4.2")


@pytest.mark.campaign
def test_statuses(world: World) -> None:
    """Each kind of token gets the server's status at each path, and so does a report."""
    at = "2026-01-01T00:00:00Z"
    registration = {"appName": "shop", "interval": 10, "started": at, "strategies": []}
    body = {**registration, "bucket": {"start": at, "stop": at, "toggles": {"x": {"yes": 1}}}}
    backend = world.server.backend_token("development")
    frontend = world.server.frontend_token("development")
    tokens = {backend: SECRET, frontend: PAGE, "nobody": "nobody", "": ""}
    routes = [route for route in ROUTES if " /api/" in route]
    for route, (theirs, mine), content in product(routes, tokens.items(), (body, {}, [])):
        method, _, path = route.partition(" ")
        sent = {"json": content} if method == "POST" else {}
        statuses = [
            requests.request(
                method, url, headers={"Authorization": token} if token else {}, timeout=10, **sent
            ).status_code
            for url, token in (
                (f"{world.server.url}{path}", theirs),
                (f"{world.gateway.url.removesuffix('/api')}{path}", mine),
            )
        ]
        assert statuses[0] == statuses[1], (route, theirs[:20], content)


def shown(toggles: Any) -> dict[str, Any]:
    return {toggle["name"]: toggle for toggle in toggles if toggle["name"] != UNLIKE}


def evaluated(world: World, context: dict[str, Any]) -> dict[str, Any]:
    """Return what the server's own frontend API says."""
    token, url = world.server.frontend_token("development"), f"{world.server.url}/api/frontend"
    response = requests.post(
        url, json={"context": context}, headers={"Authorization": token}, timeout=10
    )
    return shown(response.json()["toggles"])


@pytest.mark.campaign
def test_frontend_api(world: World) -> None:
    """GET and POST give the same flags and variants as the server, for 200 contexts."""
    differing, names = [], set[str]()
    for context in PEOPLE:
        theirs = evaluated(world, context)
        response = requests.post(
            f"{world.gateway.url}/frontend",
            json={"context": context},
            headers={"Authorization": PAGE},
            timeout=10,
        )
        by_post = shown(response.json()["toggles"])
        properties = {f"properties[{name}]": value for name, value in context["properties"].items()}
        fields = {name: value for name, value in context.items() if name != "properties"}
        query = urlencode(fields | properties)
        by_get = shown(get(f"{world.gateway.url}/frontend?{query}", PAGE)["toggles"])
        assert by_get == by_post
        names |= theirs.keys()
        differing += [
            (name, context, theirs.get(name), by_post.get(name))
            for name in theirs.keys() | by_post.keys()
            if theirs.get(name) != by_post.get(name)
        ]
    assert differing == []
    print(f"{len(PEOPLE)} contexts, {len(world.flags)} flags, {len(names)} on for some: 0 differ")


@pytest.mark.campaign
@pytest.mark.parametrize("name", SDKS)
def test_server_sdks(world: World, name: str) -> None:
    """All flags are equal for 200 contexts, before and after changes and a deletion."""
    token = world.server.backend_token("development")
    flags = [*world.flags, f"new-{name}", f"gone-{name}"]
    world.server.create_flag(f"gone-{name}")
    world.server.switch(f"gone-{name}", "on")
    world.sync()
    before = compared(world, name, token, flags)
    world.server.create_flag(f"new-{name}")
    one = strategy("default", constraint("IN"))
    path = f"new-{name}/environments/development/strategies"
    world.server.change_flag("POST", path, one)
    world.server.switch(f"new-{name}", "on")
    world.server.change_flag("DELETE", f"gone-{name}")
    world.sync()
    after = compared(world, name, token, flags)
    changed = {f for old, new in zip(before, after, strict=True) for f in flags if old[f] != new[f]}
    assert changed == {f"new-{name}", f"gone-{name}"}


def compared(world: World, name: str, token: str, flags: list[str]) -> list[dict[str, Any]]:
    with (
        sdk(name, f"{world.server.url}/api", token) as theirs,
        sdk(name, world.gateway.url, SECRET) as ours,
    ):
        seen: list[dict[str, Any]] = ours(flags=flags, contexts=CONTEXTS)
        assert seen == theirs(flags=flags, contexts=CONTEXTS)
        return seen


@pytest.mark.campaign
def test_browser_sdks(world: World) -> None:
    """All flags are equal for 200 contexts from another origin; in an outage, they are kept."""
    needs_browser()
    serving, warm = world.serving, world.serving.app
    statuses = world.gateway.statuses

    def on(path: str) -> None:
        serving.rig.store.error = DOWN if path == "/down" else None
        serving.app = serving.cold() if path == "/down" else warm

    task = {"url": f"{world.gateway.url}/frontend", "clientKey": PAGE, "contexts": PEOPLE}
    world.gateway.seen.clear()
    with page(task, on) as (origin, served):
        assert origin not in world.gateway.url
        found = browse(origin, served)
    expected = [evaluated(world, context) for context in PEOPLE]
    for sdk_used in ("get", "post", "react"):
        seen = [shown(each) for each in found[sdk_used]["toggles"]]
        differing = [
            pair for pair in zip(seen, expected, PEOPLE, strict=True) if pair[0] != pair[1]
        ]
        assert differing == [], sdk_used
    for sdk_used in ("get", "post"):
        assert found[sdk_used]["errors"] == [503]
        assert shown(found[sdk_used]["after"]) == expected[-1]
    assert statuses(FRONTEND).count(304) >= 1
    assert statuses("POST /api/frontend").count(304) >= 1
    assert set(statuses("POST /api/frontend/client/metrics")) == {200}
    assert set(statuses("OPTIONS /api/frontend")) == {204}


@pytest.mark.campaign
def test_pages_of_other_origins() -> None:
    """The browser gives them nothing, whatever key they have."""
    needs_browser()
    serving = Serving(sets.unleash()[0], keys=KEYS)
    with Gateway(serving.respond) as gateway:
        task = {"url": f"{gateway.url}/frontend", "clientKey": PAGE, "contexts": CONTEXTS[:2]}
        with page(task) as (origin, served):
            found = browse(origin, served)
    for method in ("get", "post"):
        assert found[method] == {"errors": ["fetch-toggles"], "toggles": []}
    assert {status for route, status in gateway.seen if route == FRONTEND} <= {403}
