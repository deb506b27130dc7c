"""The examples of docs/redis.md for SDKs and redis-cli run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from sdks.rig import NODE_FOLDER, PYTHON, SOURCE, TIMEOUT_S, RedisRig, node
from simulators import launchdarkly_flags, split_flags, unleash_flags
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.split import SplitSimulator
from simulators.unleash import UnleashSimulator
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.redis_server import Server

PAGE = "docs/redis.md"
FLAG = "new-checkout"
SDKS = {
    "ldclient": "print(client.variation({flag!r}, Context.create('ada'), None))",
    "splitio": "factory.block_until_ready(20)\nprint(client.get_treatment('ada', {flag!r}))",
}


@pytest.fixture
def rigs(redis_server: Server) -> Iterator[dict[str, RedisRig]]:
    """Give a Redis, and providers with the same flag: a source may change its provider."""
    launchdarkly = LaunchDarklySimulator({FLAG: launchdarkly_flags.new_flag(FLAG)}, {})
    split = SplitSimulator({FLAG: split_flags.new_flag(FLAG)}, {}, {})
    unleash = UnleashSimulator({FLAG: unleash_flags.new_flag(FLAG)}, {})
    with launchdarkly, split, unleash:
        yield {
            "ldclient": RedisRig(redis_server, launchdarkly, "launchdarkly"),
            "splitio": RedisRig(redis_server, split, "split"),
            "unleash": RedisRig(redis_server, unleash, "unleash"),
        }


def code(kind: str, holds: str) -> str:
    """Return the only block of the page of a kind that holds a text."""
    (found,) = (b.text for b in blocks(PAGE) if b.kind == kind and holds in b.text)
    return found


def changes(sdk: str, rig: RedisRig) -> dict[str, str]:
    """Return what a test has to write instead: where Redis is, and names for what comes next."""
    if sdk == "ldclient":
        return {'"redis://…"': repr(rig.redis.url()), "import Config,": "import Config, Context,"}
    return {
        '"redisHost": "…"': '"redisHost": "127.0.0.1"',
        '"redisPort": 6379': f'"redisPort": {rig.redis.port}',
        '"redisUsername": "split-sdk"': '"redisUsername": None',
        '"redisPassword": "…"': '"redisPassword": None',
        "client = get_factory(": "factory = get_factory(",
        ").client()": ")\nclient = factory.client()",
    }


@pytest.mark.parametrize(("sdk", "printed"), [("ldclient", "True"), ("splitio", "on")])
def test_python_sdk_examples_run(rigs: dict[str, RedisRig], sdk: str, printed: str) -> None:
    """With the settings of the page, but for the address, the flag is on."""
    if not PYTHON.exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    rig = rigs[sdk]
    assert rig.sync().outcome == "published"
    text = code("python", f"from {sdk}")
    for written, real in changes(sdk, rig).items():
        assert written in text
        text = text.replace(written, real)
    script = (
        f"{text}\n{SDKS[sdk].format(flag=FLAG)}\nimport os, sys\nsys.stdout.flush()\nos._exit(0)"
    )
    done = subprocess.run(
        [PYTHON, "-I", "-c", script],
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{printed}\n", done.stderr


def test_node_sdk_example_runs(rigs: dict[str, RedisRig]) -> None:
    """With the settings of the page, but for the address, the flag is on."""
    command = node("@splitsoftware/splitio")
    rig = rigs["splitio"]
    assert rig.sync().outcome == "published"
    text = code("javascript", "SplitFactory").replace("redis://…", rig.redis.url())
    script = (
        f"{text}\nclient.ready().then(() => client.getTreatment('ada', '{FLAG}'))"
        ".then((treatment) => { console.log(treatment); process.exit(0); });"
    )
    done = subprocess.run(
        [command, "-e", script],
        cwd=NODE_FOLDER,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["on"], done.stdout + done.stderr


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
            done = subprocess.run(
                [client, "-p", str(rig.redis.port), *words],
                capture_output=True,
                encoding="utf-8",
                timeout=TIMEOUT_S,
                check=True,
            )
            responses[line] = responses.get(line, "") + done.stdout.strip()
    assert [line for line in lines if not responses[line]] == []
    assert f"{{{SOURCE}}}" in "".join(lines)
