"""LaunchDarkly's own SDKs read what was published to Redis, and see LaunchDarkly's response."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sdks import launchdarkly_set
from sdks.launchdarkly_set import GONE
from sdks.rig import RedisRig, node
from sdks.test_launchdarkly import (
    SCRIPT,
    assert_changes_show,
    change,
    node_sdk,
    python_sdk,
    response,
)
from simulators.launchdarkly import LaunchDarklySimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.redis_server import Server

OFFICIAL = "@launchdarkly/node-server-sdk-redis"
PAGE = Path(__file__).parents[2] / "docs" / "redis.md"
USER = "launchdarkly-sdk"
PASSWORD = "tests-own"


@pytest.fixture
def rig(redis_server: Server) -> Iterator[RedisRig]:
    """Give an empty Redis that lets SDKs in with the documented rights, and a LaunchDarkly."""
    (line,) = [line for line in PAGE.read_text().splitlines() if f" {USER} " in line]
    rules = line.replace(">PASSWORD", f">{PASSWORD}").split()[3:]
    redis_server.admin.execute_command("ACL", "SETUSER", USER, "reset", *rules)
    with LaunchDarklySimulator(*launchdarkly_set.flag_set()) as server:
        yield RedisRig(redis_server, server, "launchdarkly", login=f"{USER}:{PASSWORD}")


def test_the_python_sdk_reads_what_launchdarkly_answered(rig: RedisRig) -> None:
    """In daemon mode, each value, variation and reason is LaunchDarkly's, after changes too."""
    assert rig.sync().outcome == "published"
    before = python_sdk(rig)
    change(rig)
    assert_changes_show(before, python_sdk(rig))


def test_the_node_sdk_reads_what_launchdarkly_answered(rig: RedisRig, tmp_path: Path) -> None:
    """The same of the Node.js SDK, with LaunchDarkly's package for Redis."""
    node(OFFICIAL)
    assert rig.sync().outcome == "published"
    before = node_sdk(rig, "redis", tmp_path / "response.json")
    change(rig)
    assert_changes_show(before, node_sdk(rig, "redis", tmp_path / "response.json"))


def test_the_rows_are_those_that_launchdarklys_sdk_writes(rig: RedisRig) -> None:
    """Same keys and types, and the item as LaunchDarkly wrote it."""
    rig.sync()
    document, admin = response(rig), rig.redis.admin
    theirs = {"redis": rig.redis.url(), "prefix": "theirs"}
    rig.python(SCRIPT, document=document, **theirs, write=True)
    found: Any = admin.keys("theirs:*")
    assert sorted(admin.keys("{prod}:*")) == sorted(
        key.replace(b"theirs", b"{prod}") for key in found
    )
    for section, name in (("features", "flags"), ("segments", "segments")):
        ours: Any = admin.hgetall(f"{{prod}}:{section}")
        written: Any = admin.hgetall(f"theirs:{section}")
        written.pop(GONE.encode(), None)  # of what is deleted they keep a tombstone, we nothing
        assert ours.keys() == written.keys()
        for key, item in ours.items():
            content = document[name][key.decode()]
            assert item.decode() == json.dumps(content, separators=(",", ":"))
            assert json.loads(written[key]) == content
    assert admin.type("theirs:$inited") == admin.type("{prod}:$inited") == b"string"
