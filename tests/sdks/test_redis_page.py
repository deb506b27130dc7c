"""The code blocks of docs/redis.md for others' SDKs and redis-cli, run as written."""

from __future__ import annotations

import shlex
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from rigs import SOURCE, RedisRig
from sdks import processes, sets
from sdks.processes import PYTHON, output
from sdks.sets import FLAG
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.redis_server import Server

PAGE = "docs/redis.md"
SDKS = {
    "ldclient": "print(client.variation({flag!r}, Context.create('ada'), None))",
    "splitio": "factory.block_until_ready(20)\nprint(client.get_treatment('ada', {flag!r}))",
}


@pytest.fixture
def rigs(redis_server: Server) -> Iterator[dict[str, RedisRig]]:
    """Give a Redis, and providers with the same flag: a source may change its provider."""
    names = {"ldclient": "launchdarkly", "splitio": "split", "unleash": "unleash"}
    with ExitStack() as stack:
        yield {
            sdk: RedisRig(redis_server, stack.enter_context(sets.server(name)), name=name)
            for sdk, name in names.items()
        }


def code(kind: str, holds: str) -> str:
    (found,) = (b.text for b in blocks(PAGE) if b.kind == kind and holds in b.text)
    return found


def changes(sdk: str, rig: RedisRig) -> dict[str, str]:
    """Return what a test has to write instead: where Redis is, and names for what comes next."""
    if sdk == "ldclient":
        return {'"redis://…"': repr(rig.server.url()), "import Config,": "import Config, Context,"}
    return {
        '"redisHost": "…"': '"redisHost": "127.0.0.1"',
        '"redisPort": 6379': f'"redisPort": {rig.server.port}',
        '"redisUsername": "split-sdk"': '"redisUsername": None',
        '"redisPassword": "…"': '"redisPassword": None',
        "client = get_factory(": "factory = get_factory(",
        ").client()": ")\nclient = factory.client()",
    }


@pytest.mark.parametrize(("sdk", "printed"), [("ldclient", "True"), ("splitio", "on")])
def test_python_sdk_examples_run(rigs: dict[str, RedisRig], sdk: str, printed: str) -> None:
    """With the settings of the page, but for the address, the flag is on."""
    processes.needs_python()
    rig = rigs[sdk]
    assert rig.sync().outcome == "published"
    text = code("python", f"from {sdk}")
    for written, real in changes(sdk, rig).items():
        assert written in text
        text = text.replace(written, real)
    script = (
        f"{text}\n{SDKS[sdk].format(flag=FLAG)}\nimport os, sys\nsys.stdout.flush()\nos._exit(0)"
    )
    assert output([PYTHON, "-I", "-c", script]) == f"{printed}\n"


def test_redis_cli_examples_run(rigs: dict[str, RedisRig]) -> None:
    """Each command finds something, of one provider's rows or another's."""
    client = shutil.which("redis-cli")
    if client is None:
        pytest.skip("redis-cli is missing: run `make setup-e2e`")
    lines = code("bash", "redis-cli").splitlines()
    assert len(lines) >= 4
    responses: dict[str, str] = {}
    for rig in rigs.values():
        assert rig.sync().outcome == "published"
        for line in lines:
            _, *words = shlex.split(line)
            found = output([client, "-p", str(rig.server.port), *words])
            responses[line] = responses.get(line, "") + found.strip()
    assert [line for line in lines if not responses[line]] == []
    assert f"{{{SOURCE}}}" in "".join(lines)
