"""What the pages say to put into SSM makes sources: typed into a real SSM's stand-in, and read."""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from simulators.aws import aws
from storesync import providers
from storesync.budget import SystemClock
from storesync.sources import Hooks, Sources
from tests.docs.commands import SHELLS
from tests.docs.pages import Block, RunBy, all_pages, blocks
from tests.docs.shell import commands

if TYPE_CHECKING:
    from local.stand_in import StandIn

__all__ = ["aws"]

PREFIX = "/flagstore"
"""The default of the template, which the pages use."""


def puts(block: Block) -> list[dict[str, str]]:
    """Return the options of each `aws ssm put-parameter` of a block, in its order."""
    if block.kind not in SHELLS:
        return []
    return [
        {option: value for option, value in pairwise(each.words) if option.startswith("--")}
        for each in commands(block)
        if each.words[:3] == ("aws", "ssm", "put-parameter")
    ]


BLOCKS = [block for page in all_pages() for block in blocks(page) if puts(block)]


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_what_is_put_makes_a_source(aws: StandIn, page: str) -> None:
    """Both functions read what a page's commands wrote, and find nothing wrong with it."""
    given = [options for block in BLOCKS if block.page == page for options in puts(block)]
    prefix = f"/{uuid.uuid4().hex}"
    client = aws.client("ssm")
    names: dict[str, set[str]] = {"sources": set(), "credentials": set(), "webhooks": set()}
    for options in given:
        start, kind, name = options["--name"].rsplit("/", 2)
        assert start == PREFIX
        names[kind].add(name)
        client.put_parameter(
            Name=f"{prefix}/{kind}/{name}", Type=options["--type"], Value=options["--value"]
        )
    sources = Sources(client, prefix, SystemClock())
    hooks = Hooks(client, prefix, SystemClock())
    assert sources.names() == sorted(names["sources"])
    for name in names["sources"]:
        source = sources.get(name)
        provider = providers.get(source.provider)
        assert (name in names["credentials"]) is provider.needs_key
        assert (name in names["webhooks"]) is bool(provider.methods)
        if provider.methods:
            assert hooks.get(name).provider == source.provider


def test_these_blocks_say_that_they_are_run() -> None:
    """Else they were among those that are only checked."""
    mark = RunBy("tests/docs/test_ssm.py", "test_what_is_put_makes_a_source")
    assert [block.place for block in BLOCKS if block.mark != mark] == [], f"mark them: {mark}"
