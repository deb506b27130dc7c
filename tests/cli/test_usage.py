"""The command `usage` shows what UsageFunction recorded next to the published flags."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from simulators.appconfig import AppConfigSimulator
from simulators.appconfig_flags import definition, document
from storesync.cli.usage import _variant
from storesync.retry import SystemClock
from storesync.usage_records import DAY_S, UsageRecords

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.redis_server import Server
    from tests.cli.rig import Rig

pytestmark = pytest.mark.usefixtures("prod")


@pytest.fixture
def records(rig: Rig) -> UsageRecords:
    table = rig.environ["FLAGSTORE_TABLE"]
    return UsageRecords(rig.aws.client("dynamodb"), table, SystemClock())


def test_usage(rig: Rig, prod: LaunchDarklySimulator, records: UsageRecords) -> None:
    """Unused flags stand out; flags that were never published are not listed."""
    assert "no usage of prod has been collected" in rig.run("usage", "prod").out
    prod.set_flag("new-checkout", variations=[True, {"a long": "value " * 9}])
    rig.json("sync")
    now = int(time.time())
    old, *others = sorted(set(prod.flags()) - {"new-checkout"})
    recent, ago = now - 300, now - 40 * DAY_S
    uses = {"new-checkout": {"0": recent, "1": ago, "default": ago}, "gone": {"0": recent}}
    records.record_use("prod", {**uses, old: {"1": ago}})
    data = rig.json("usage", "prod")
    assert (data["days"], data["since"]) == (30, 1000 * ago)
    assert [each["key"] for each in data["flags"]] == sorted(prod.flags())
    assert data["unused"] == [old, *others]
    (found,) = [each for each in data["flags"] if each["key"] == "new-checkout"]
    assert found["last_used"] == 1000 * recent
    assert found["variants"] == {"0": 1000 * recent, "1": 1000 * ago, "default": 1000 * ago}
    assert rig.json("usage", "prod", "--days", "60")["unused"] == others
    shown = rig.run("usage", "prod", "--days", "60").out
    assert '0 (true) 5 min ago, 1 ({"a long": "value va…) 40 d ago, default 40 d ago' in shown
    assert f"not used for 60 days: {', '.join(others)}\nusage is collected only since" in shown
    assert "only since" not in rig.run("usage", "prod").out


def test_usage_of_all_flags(rig: Rig, prod: LaunchDarklySimulator, records: UsageRecords) -> None:
    records.record_use("prod", {key: {"0": int(time.time())} for key in prod.flags()})
    assert "not used for 30 days: none" in rig.run("usage", "prod").out


@pytest.mark.parametrize("store", ["dynamodb", "redis"])
def test_purge_of_usage(
    rig: Rig,
    prod: LaunchDarklySimulator,
    records: UsageRecords,
    redis_server: Server,
    store: str,
) -> None:
    """Flags and names of applications are deleted; ids of lines stay, so that none counts twice."""
    url = ("--store-url-file", rig.file("url", redis_server.url())) if store == "redis" else ()
    assert rig.add("shop", prod, "--store", store, *url).code == 0
    for name in ("shop", "prod"):
        records.record_use(name, {key: {"0": int(time.time())} for key in prod.flags()})
        for claim in ("app:20000:checkout", "line0000001"):
            assert records.claim_name(name, claim)
    rig.json("source", "remove", "shop", "--yes", "--purge")
    assert list(records.uses("shop")) == []
    assert records.claim_name("shop", "app:20000:checkout")
    assert not records.claim_name("shop", "line0000001")
    assert dict(records.uses("prod")).keys() == prod.flags().keys()
    assert not records.claim_name("prod", "app:20000:checkout")


@pytest.mark.usefixtures("prod")
def test_usage_in_a_gradual_deployment(rig: Rig, records: UsageRecords) -> None:
    """The flags of both versions are listed."""
    with AppConfigSimulator({"a": {"enabled": True}, "b": {"enabled": True}}) as server:
        server.checks_signatures = False
        assert rig.add("shop", server).code == 0
        rig.json("sync", "shop")
        values = {"a": {"enabled": False}, "added": {"enabled": True}}
        server.deploy(server.put(document(values, dict.fromkeys(values, definition("")))))
        rig.json("sync", "shop")
    records.record_use("shop", {key: {"on": int(time.time())} for key in ("a", "added")})
    data = rig.json("usage", "shop")
    assert [each["key"] for each in data["flags"]] == ["a", "added", "b"]
    assert data["unused"] == ["b"]
    assert re.search(r"added +\d+ s ago +on", rig.run("usage", "shop").out)


def test_usage_of_a_freeform_profile() -> None:
    """Its flags may be any JSON."""
    flags = (False, [1], None, {"variations": [1]})
    assert [_variant("0", flag) for flag in flags] == ["0", "0", "0", "0 (1)"]
