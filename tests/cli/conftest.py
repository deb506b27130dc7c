"""Fixtures of the command line's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simulators import launchdarkly as launchdarkly_simulator
from simulators import unleash as unleash_simulator
from tests.cli.rig import deployed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.stand_in import StandIn
    from simulators.aws import Table
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Rig


@pytest.fixture
def rig(aws: StandIn, dynamodb_table: Table, tmp_path: Path) -> Iterator[Rig]:
    """Give a deployment without sources."""
    with deployed(aws, dynamodb_table.name, tmp_path) as made:
        yield made


@pytest.fixture
def launchdarkly() -> Iterator[LaunchDarklySimulator]:
    flags = launchdarkly_simulator.rich_flags(30)
    with launchdarkly_simulator.LaunchDarklySimulator(*flags) as provider:
        yield provider


@pytest.fixture
def unleash() -> Iterator[UnleashSimulator]:
    with unleash_simulator.UnleashSimulator(*unleash_simulator.rich_flags(30)) as provider:
        yield provider


@pytest.fixture
def prod(rig: Rig, launchdarkly: LaunchDarklySimulator) -> LaunchDarklySimulator:
    """Give the provider of the source ``prod``, which is in sync."""
    launchdarkly.set_flag("new-checkout", on=False)
    assert rig.add("prod", launchdarkly).code == 0
    assert rig.run("sync", "prod").code == 0
    rig.requests()
    return launchdarkly
