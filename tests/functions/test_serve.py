"""ServeFunction on SSM and both stores: what it serves, and what it reports when they fail."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flagserve import runtime
from simulators.deployment import KEY, SECRET, TOKEN, Context
from simulators.serving import FEATURES, FRONTEND, ask, opened
from storesync import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.stand_in import StandIn
    from simulators.deployment import Deployment, Output
    from simulators.redis_server import Server
    from simulators.unleash import UnleashSimulator

SERVICE: dict[str, Any] = {"source": "shop", "kind": "server", "secrets": [SECRET]}
PAGE = {**SERVICE, "kind": "browser", "secrets": [TOKEN], "origins": ["*"], "flags": ["*"]}


@pytest.fixture
def cold(
    stack: Deployment, unleash: UnleashSimulator, aws: StandIn, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Return a function that starts ServeFunction with two clients of a published source."""
    with ExitStack() as running:

        def start(store_url: str = "", **environ: str) -> Any:
            stack.put_source("shop", "unleash", unleash.url, KEY, redis=store_url)
            store = {"store_url": store_url} if store_url else {}
            for name, client in {"service": SERVICE, "page": PAGE}.items():
                stack.put(f"clients/{name}", client | store)
            assert sync.handler({"source": "shop"}, Context())["outcome"] == "published"
            monkeypatch.setenv("AWS_REGION", aws.region)
            return running.enter_context(opened({**os.environ, **environ}))

        yield start


@pytest.mark.parametrize("store", ["dynamodb", "redis"])
def test_flags_of_both_stores(
    cold: Callable[..., Any],
    unleash: UnleashSimulator,
    store: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loaded at the start; a change that was synced follows after the TTL."""
    server: Server | None = request.getfixturevalue("redis_server") if store == "redis" else None
    app = cold(server.url() if server else "")
    _, whole = ask(app, FEATURES, SECRET)
    assert {feature["name"] for feature in whole["features"]} == set(unleash.flags())
    unleash.set_flag("brand-new")
    assert sync.handler({"source": "shop"}, Context())["outcome"] == "published"
    (client,) = app._client._made.values()
    now = time.time() + 2 * runtime.TTL_S
    monkeypatch.setattr(client._cache, "_clock", lambda: now)
    _, shown = ask(app, FRONTEND, TOKEN)
    assert "brand-new" in {toggle["name"] for toggle in shown["toggles"]}


def test_authorities_of_redis_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for SyncFunction, a file next to the code holds the only trusted ones."""
    packed = tmp_path / "redis-ca.pem"
    monkeypatch.setattr(runtime, "REDIS_CA_FILE", str(packed))
    assert runtime._redis("rediss://redis.example")._ca_file == ""
    packed.touch()
    assert runtime._redis("rediss://redis.example")._ca_file == str(packed)
    assert Path(runtime.__file__).parents[1].name == "src"  # as /var/task


def test_ssm_out_of_reach(cold: Callable[..., Any], output: Output) -> None:
    """The function starts, logs service and host, and responds with 503."""
    app = cold(AWS_ENDPOINT_URL_SSM="http://127.0.0.1:9")
    assert ask(app, FEATURES, SECRET)[0] == 503
    logged = [line["message"] for line in output.logs if line["level"] == "ERROR"]
    assert "SSM at 127.0.0.1:9" in logged[0]
    assert logged[1:] == [
        "INIT is incomplete: client keys have not been read yet",
        "cannot serve: client keys have not been read yet",
    ]


def test_source_without_flags(cold: Callable[..., Any], stack: Deployment, output: Output) -> None:
    """Its clients get 503 and the operator the reason; those of other sources are served."""
    app, early = cold(), "canary-early-0009"
    stack.put("clients/early", {**SERVICE, "source": "not-yet", "secrets": [early]})
    app._keys._next_read = 0.0
    assert ask(app, FEATURES, early)[0] == 503
    assert "nothing has been published for source 'not-yet'" in output.logs[-1]["message"]
    assert ask(app, FEATURES, SECRET)[0] == 200
