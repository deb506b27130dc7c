"""The pages' `aws ssm put-parameter` commands create valid sources."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from storesync import providers
from storesync.config import Sources, WebhookConfigs
from storesync.retry import SystemClock
from tests.docs.pages import all_pages, blocks

if TYPE_CHECKING:
    from pathlib import Path

    from local.stand_in import StandIn

PUT = "aws ssm put-parameter "
BLOCKS = [block for page in all_pages() for block in blocks(page) if block.text.startswith(PUT)]
AWS = f"""#!{sys.executable}
import json, sys
with open("put.jsonl", "a") as file:
    print(json.dumps(dict(zip(sys.argv[3::2], sys.argv[4::2], strict=True))), file=file)
"""
"""A fake `aws` command that records the options of each put."""


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_put_parameter_commands_create_sources(aws: StandIn, page: str, tmp_path: Path) -> None:
    """Both functions accept the parameters that a page's commands write."""
    program = tmp_path / "aws"
    program.write_text(AWS)
    program.chmod(0o755)
    script = "\n".join(block.text for block in BLOCKS if block.page == page)
    subprocess.run(
        ["/bin/bash", "-euc", script], cwd=tmp_path, env={"PATH": str(tmp_path)}, check=True
    )
    prefix, client = f"/{uuid.uuid4().hex}", aws.client("ssm")
    names: dict[str, set[str]] = {"sources": set(), "credentials": set(), "webhooks": set()}
    for options in map(json.loads, (tmp_path / "put.jsonl").read_text().splitlines()):
        start, kind, name = options["--name"].rsplit("/", 2)
        assert start == "/flagstore"  # the template's default
        assert options["--type"] == ("String" if kind == "sources" else "SecureString")
        names[kind].add(name)
        client.put_parameter(
            Name=f"{prefix}/{kind}/{name}", Type=options["--type"], Value=options["--value"]
        )
    sources = Sources(client, prefix, SystemClock())
    webhooks = WebhookConfigs(client, prefix, SystemClock())
    assert sources.names() == sorted(names["sources"])
    for name in names["sources"]:
        source = sources.get(name)
        provider = providers.get(source.provider)
        assert (name in names["credentials"]) is provider.needs_key
        assert (name in names["webhooks"]) is bool(provider.methods)
        if provider.methods:
            assert webhooks.get(name).provider == source.provider
