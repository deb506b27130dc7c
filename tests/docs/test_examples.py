"""The pages' Python, tests and `aws ssm put-parameter` commands run."""

from __future__ import annotations

import json
import os
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from simulators.launchdarkly_flags import new_flag
from storesync import providers
from storesync.config import Sources, WebhookConfigs
from storesync.retry import SystemClock
from tests.build.tooling import run
from tests.docs.pages import REPOSITORY, Block, all_pages, blocks, read

if TYPE_CHECKING:
    from pathlib import Path

    from local.stand_in import StandIn

CLAUSE = {"attribute": "plan", "op": "in", "values": ["pro"]}
BETA = {
    **new_flag("beta"),
    "variations": [False, True],
    "rules": [{"id": "pro", "variation": 1, "clauses": [CLAUSE]}],
}
FLAGS = {"flagValues": {"new-checkout": True, "button-color": "green"}, "flags": {"beta": BETA}}
"""The flags that the examples read."""
ASSERTIONS = {
    "README.md": """
assert handler({"user": "ada"}, None) == {"color": "green"}
""",
    "docs/evaluate.md": """
assert bucket("ada", "any", "abc") == 37307840
assert bucket("Zoë 👋", "any", "grüezi") == 48800125
assert bucket("ada", "abc") == 87425516
assert bucket("42", "new-checkout") == 42174975
assert split("ada", 37.307841, "any", "abc") and not split("ada", 37.30784, "any", "abc")
""",
    "docs/read.md": """
assert handler({"user": "ada"}, None) == {"color": "green", "why": "FALLTHROUGH"}
assert flags.detail("beta", {"key": "ada", "plan": "pro"}).rule == "pro"
""",
    "docs/usage.md": """
assert handler({"user": "ada"}, None) is None
assert flags._usage._recorder._waiting
flags.flush()
""",
}
"""Assertions that run after a page's blocks."""


def python(page: str) -> list[Block]:
    """Return the Python blocks of a page without a mark."""
    return [block for block in blocks(page) if block.kind == "python" and block.mark is None]


@pytest.mark.parametrize("page", [page for page in all_pages() if python(page)])
def test_python_blocks_run(page: str, tmp_path: Path) -> None:
    """All blocks of a page run in order in a fresh process, with a file of flags."""
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(FLAGS))
    code = "\n".join(f"# {block.place}\n{block.text}" for block in python(page))
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(REPOSITORY / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FLAGSTORE_FILE": str(flags),
        "FLAGSTORE_SOURCE": "prod",
    }
    command = (sys.executable, "-W", "error", "-c", code + ASSERTIONS.get(page, ""))
    run(*command, cwd=tmp_path, environment=environment)


def test_page_tests_pass(tmp_path: Path) -> None:
    """Each block runs as its own file, next to the page's shop.py and flags.json."""
    shop, *others = (each for each in blocks("docs/testing.md") if each.kind in {"json", "python"})
    (tmp_path / "shop.py").write_text(shop.text)
    for block in others:
        name = "flags.json" if block.kind == "json" else f"test_{block.line}.py"
        (tmp_path / name).write_text(block.text)
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{tmp_path}",
        "FLAGSTORE_FILE": str(tmp_path / "flags.json"),
    }
    plugin = ("-c", os.devnull, "-p", "flagstore.pytest_plugin")
    done = run(
        *(sys.executable, "-m", "pytest", "-q", *plugin), cwd=tmp_path, environment=environment
    )
    assert f"{read('docs/testing.md').count('def test_')} passed" in done.stdout, done.stdout


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
    run("/bin/bash", "-euc", script, cwd=tmp_path, environment={"PATH": str(tmp_path)})
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
    assert all(webhooks.get(name).sources for name in names["webhooks"])
    for name in names["sources"]:
        source = sources.get(name)
        provider = providers.get(source.provider)
        assert (name in names["credentials"]) is provider.needs_key
        assert (name in names["webhooks"]) is bool(provider.methods)
        if provider.methods:
            assert webhooks.get(name).provider == source.provider
