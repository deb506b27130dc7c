"""One deployment, several sources: each with its provider and store, independent of the others."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client
from flagstore.stores.redis import RedisReader, parse_url
from simulators.deployment import KEY, Context, Deployment
from simulators.split import SplitSimulator
from simulators.split import rich_flags as split_flags
from storesync import sync

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.redis_server import Server
    from simulators.unleash import UnleashSimulator

pytestmark = pytest.mark.usefixtures("without_a_queue")


def invoke(event: Any) -> Any:
    return json.loads(json.dumps(sync.handler(event, Context(60.0))))


def in_redis(deployment: Deployment, name: str, provider: str, url: str, store_url: str) -> None:
    deployment.put_source(name, provider, url, KEY, store="redis")
    credentials = {"provider": provider, "key": KEY, "base_url": url, "store_url": store_url}
    deployment.put(f"credentials/{name}", credentials)


def flags_in_redis(server: Server, source: str) -> set[str]:
    with closing(RedisReader(parse_url(server.url()))) as transport:
        return set(Client(source, store=transport).keys())


def test_each_source_has_its_provider_and_store(
    stack: Deployment,
    launchdarkly: LaunchDarklySimulator,
    unleash: UnleashSimulator,
    redis_server: Server,
) -> None:
    """LaunchDarkly in DynamoDB, Unleash and Split in Redis, by one schedule."""
    with SplitSimulator(*split_flags(20), sdk_key=KEY) as split:
        stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
        in_redis(stack, "prod-eu", "unleash", unleash.url, redis_server.url())
        in_redis(stack, "fme", "split", split.url, redis_server.url())
        outcomes = {outcome["source"]: outcome for outcome in invoke({"schedule": True})}
        published = {name for name, each in outcomes.items() if each["outcome"] == "published"}
        assert published == {"fme", "prod", "prod-eu"}
        assert stack.flags("prod") == set(launchdarkly.flags())
        assert flags_in_redis(redis_server, "prod-eu") == set(unleash.flags())
        assert flags_in_redis(redis_server, "fme") == set(split.flags())
    # Names that begin alike share nothing.
    assert not {item["namespace"]["S"] for item in stack.items()} & {"prod-eu:$state", "fme:$state"}
