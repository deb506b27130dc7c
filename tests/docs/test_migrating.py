"""The comparisons of docs/migrating.md: silent where both agree, and not where they do not.

Each old one is played: ld-relay's table is written by LaunchDarkly's own SDK, as the relay does it;
the Synchronizer's keys are ours under another prefix, since the layout is the same; Unleash Edge is
our Unleash; AppConfig's agent responds as AWS documents.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sdks.rig import PYTHON, SOURCE, TIMEOUT_S, RedisRig, Rig
from simulators import launchdarkly_flags, split_flags, unleash_flags
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.server import ProviderServer, Request
from simulators.split import SplitSimulator
from simulators.unleash import UnleashSimulator

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table
    from simulators.redis_server import Server

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "migrating.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^ *<!-- run by tests/docs/test_migrating.py::(\w+) -->\n *```python\n(.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
COMPARISONS = {name: textwrap.dedent(code) for name, code in BLOCK.findall(PAGE)}
FLAG = "new-checkout"


def compared(name: str, environment: dict[str, str], *, sdks: bool = False) -> list[str]:
    """Run the comparison that names a test; return the differences that it prints."""
    if sdks and not PYTHON.exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    end = "\nimport os\nos._exit(0)\n"  # an SDK's own threads would wait for their server
    path = f"import sys; sys.path.append({str(REPOSITORY / 'src')!r}); "
    flush = "import functools; print = functools.partial(print, flush=True)\n"
    done = subprocess.run(
        [
            str(PYTHON) if sdks else sys.executable,
            "-I",
            "-c",
            path + flush + COMPARISONS[name] + end,
        ],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *differences, last = done.stdout.splitlines()
    assert last == "compared", done.stderr
    return differences


def test_ld_relays_table_is_compared(aws: StandIn, dynamodb_table: Table) -> None:
    """Nothing is printed until a flag is changed that only one of them has heard of."""
    name = "test_ld_relays_table_is_compared"
    flags = {FLAG: launchdarkly_flags.new_flag(FLAG), "gone": launchdarkly_flags.new_flag("gone")}
    with LaunchDarklySimulator(flags, {}) as server:
        rig = Rig(aws, dynamodb_table, server, "launchdarkly")
        relay = {"table": dynamodb_table.name, "prefix": "relay"}
        document = json.loads(server.document())
        rig.python("launchdarkly_python.py", document=document, write=True, **relay)
        assert rig.sync().outcome == "published"
        environment = {
            **rig.environment(),
            "RELAY_TABLE": dynamodb_table.name,
            "RELAY_PREFIX": "relay",
        }
        assert compared(name, environment, sdks=True) == []
        server.set_flag(FLAG, fallthrough={"variation": 1})
        server.remove_flag("gone")
        assert rig.sync().outcome == "published"
        assert compared(name, environment, sdks=True) == [
            "ada gone True None",
            "ada new-checkout True False",
            "bob gone True None",
            "bob new-checkout True False",
        ]


def test_the_synchronizers_keys_are_compared(redis_server: Server) -> None:
    """Nothing is printed until a flag is changed that only one of them has heard of."""
    name = "test_the_synchronizers_keys_are_compared"
    with SplitSimulator({FLAG: split_flags.new_flag(FLAG)}, {}, {}) as server:
        rig = RedisRig(redis_server, server, "split")
        assert rig.sync().outcome == "published"
        admin: Any = redis_server.admin
        for key in map(bytes.decode, admin.keys(f"{{{SOURCE}}}.SPLITIO.*")):
            admin.copy(key, key.replace(f"{{{SOURCE}}}", "old"))
        environment = {
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(redis_server.port),
            "OLD_PREFIX": "old",
        }
        assert compared(name, environment, sdks=True) == []
        server.set_flag(FLAG, killed=True)
        assert rig.sync().outcome == "published"
        assert compared(name, environment, sdks=True) == [
            f"{key} {FLAG} ('on', None) ('off', None)" for key in ("ada", "bob")
        ]


def test_edges_response_is_compared(tmp_path: Path) -> None:
    """Nothing is printed until a feature is changed that only one of them has heard of."""
    name = "test_edges_response_is_compared"
    file = tmp_path / "flags.json"
    with UnleashSimulator(
        {FLAG: unleash_flags.new_flag(FLAG)}, {"1": unleash_flags.new_segment(1)}
    ) as edge:
        file.write_bytes(edge.document())
        environment = {"FLAGSTORE_FILE": str(file), "EDGE_URL": edge.url, "EDGE_TOKEN": edge.token}
        assert compared(name, environment) == []
        edge.set_flag(FLAG, enabled=False)
        edge.set_flag("another")
        edge.set_segment(1, constraints=[])
        assert compared(name, environment) == [
            "features another is missing in one",
            f"features {FLAG} differs",
            "segments 1 differs",
        ]


class Agent(ProviderServer):
    """AppConfig's agent: one flag with a variant, one without."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 3

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        """Response for the plan that the header ``Context`` names."""
        pro = "plan=pro" in request.headers["context"].split(",")
        flags = {
            FLAG: {"_variant": "pro" if pro else "others", "enabled": pro},
            "limits": {"enabled": True, "limit": self.limit},
        }
        return 200, json.dumps(flags).encode(), {}


def test_the_agents_response_is_compared(tmp_path: Path) -> None:
    """Nothing is printed until an attribute differs."""
    name = "test_the_agents_response_is_compared"
    variants = [
        {"name": "pro", "enabled": True, "rule": '(eq $plan "pro")'},
        {"name": "others", "enabled": False},
    ]
    values = {FLAG: {"_variants": variants}, "limits": {"enabled": True, "limit": 3}}
    file = tmp_path / "flags.json"
    definitions = {key: {"name": key} for key in values}
    file.write_text(json.dumps({"version": "1", "flags": definitions, "values": values}))
    with Agent() as agent:
        port = agent.url.rpartition(":")[2]
        environment = {"FLAGSTORE_FILE": str(file), "AWS_APPCONFIG_EXTENSION_HTTP_PORT": port}
        assert compared(name, environment) == []
        agent.limit = 4
        assert [line.count("limits") for line in compared(name, environment)] == [1, 1]


def test_every_comparison_is_run() -> None:
    """Each Python block of the page names its test, and there is one of that name."""
    assert len(COMPARISONS) == PAGE.count("```python") == 4
    assert set(COMPARISONS) <= set(globals())
