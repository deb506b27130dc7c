"""docs/migrate.md: pairs of handlers return the same, and the comparisons find differences."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from rigs import SOURCE, DynamoRig, RedisRig
from sdks import processes
from sdks.processes import PYTHON, TIMEOUT_S
from simulators import appconfig_flags, launchdarkly_flags, split_flags, unleash_flags
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.server import ProviderServer, Request
from simulators.split import SplitSimulator
from simulators.unleash import UnleashSimulator
from tests.docs.pages import REPOSITORY, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.stand_in import StandIn
    from simulators.aws import Table
    from simulators.redis_server import Server

BLOCKS = [block for block in blocks("docs/migrate.md") if block.kind == "python" and block.mark]
TITLES = ("LaunchDarkly", "Split", "Unleash", "AppConfig")
HANDLERS = [block.text for block in BLOCKS if block.text.count("def handler(")]
PAIRS = dict(zip(TITLES, zip(HANDLERS[::2], HANDLERS[1::2], strict=True), strict=True))
COMPARISONS = {
    block.mark["test"].rpartition("::")[2]: textwrap.dedent(block.text)
    for block in BLOCKS
    if block.mark and block.text not in HANDLERS
}
EVENTS = [{"user": "ada", "plan": "pro"}, {"user": "bob", "plan": "free"}]
EXIT = "\nimport os as _os; _os._exit(0)\n"
"""An SDK's own threads would wait for their server."""
RUN = f"""
import json as _json
print(_json.dumps([handler(event, None) for event in {EVENTS!r}]), flush=True)
"""
VALUES = {"new-checkout": (True, False), "button-color": ("green", "red")}
"""The value of each flag for users of the plan pro, and for all others."""
FLAG = "new-checkout"


def run(python: str, code: str, environment: dict[str, str]) -> list[str]:
    path = f"import sys; sys.path.append({str(REPOSITORY / 'src')!r})\n"
    done = subprocess.run(
        [python, "-I", "-c", path + code + EXIT],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def launchdarkly() -> dict[str, Any]:
    clause = {"contextKind": "user", "attribute": "plan", "op": "in", "values": ["pro"]}
    rules = {"fallthrough": {"variation": 1}, "rules": [{"variation": 0, "clauses": [clause]}]}
    flags = {
        key: {**launchdarkly_flags.new_flag(key), "variations": list(values), **rules}
        for key, values in VALUES.items()
    }
    return {"flags": flags, "segments": {}}


def split() -> dict[str, Any]:
    """Return the flags as Split's API gives them, and its localhost mode reads them."""
    pro = split_flags.matcher("WHITELIST", "plan", whitelistMatcherData={"whitelist": ["pro"]})
    flags = []
    for name, hit, miss in (("new-checkout", "on", "off"), ("button-color", "green", "red")):
        conditions = [
            split_flags.rule(pro, label="pro", **{hit: 100}),
            split_flags.rollout(**{miss: 100}),
        ]
        more = {"conditions": conditions, "configurations": {"green": '{"size": 3}'}}
        flags.append({**split_flags.new_flag(name), **more})
    empty = {"d": [], "s": -1, "t": split_flags.START}
    return {"ff": {**empty, "d": flags}, "rbs": empty, "segments": {}}


def unleash() -> dict[str, Any]:
    """Return features as an Unleash server has them: by name."""

    def strategy(operator: str, *variants: str) -> dict[str, Any]:
        constraint = unleash_flags._constraint("plan", operator, ["pro"])
        payloads = [{"type": "string", "value": name} for name in variants]
        chosen = map(unleash_flags._variant, variants, [1000] * len(variants), payloads)
        rollout = unleash_flags._rollout("shop", 100)
        return {**rollout, "constraints": [constraint], "variants": [*chosen]}

    strategies = {
        "new-checkout": [strategy("IN")],
        "button-color": [strategy("IN", "green"), strategy("NOT_IN", "red")],
    }
    return {
        name: {**unleash_flags.new_flag(name), "strategies": each}
        for name, each in strategies.items()
    }


def appconfig(**more: Any) -> dict[str, Any]:
    pro = {"name": "pro", "enabled": True, "rule": '(eq $plan "pro")'}
    others = {"name": "others", "enabled": True}
    colors = [
        {**each, "attributeValues": {"color": color}}
        for each, color in ((pro, "green"), (others, "red"))
    ]
    values = {
        "new-checkout": {"_variants": [pro, {**others, "enabled": False}]},
        "button-color": {"_variants": colors},
        **more,
    }
    return appconfig_flags.document(values, {key: {"name": key} for key in values})


class Agent(ProviderServer):
    """AppConfig's agent (user guide: retrieving a flag with variants)."""

    limit = 3

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        """Return the variants for the plan in the header ``Context``."""
        pro = "plan=pro" in request.headers["context"].split(",")
        name = "pro" if pro else "others"
        flags = {
            "new-checkout": {"_variant": name, "enabled": pro},
            "button-color": {"_variant": name, "enabled": True, "color": "green" if pro else "red"},
            "limits": {"enabled": True, "limit": self.limit},
        }
        return 200, json.dumps(flags).encode(), {}


@contextlib.contextmanager
def provider(title: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Write the flags to a file; yield code and variables with which the SDK finds them.

    LaunchDarkly's SDK reads the file, Split's uses its localhost mode, Unleash's asks the
    simulator, and AppConfig's agent is simulated.
    """
    file = folder / "flags.json"
    if title == "LaunchDarkly":
        file.write_text(json.dumps(launchdarkly()))
        patch = (
            "import functools, ldclient\nfrom ldclient.integrations import Files\n"
            f"source = Files.new_data_source(paths=[{str(file)!r}])\n"
            "ldclient.Config = functools.partial(\n"
            "    ldclient.Config, update_processor_class=source, send_events=False)\n"
        )
        yield patch, {"LAUNCHDARKLY_SDK_KEY": "sdk-key"}
    elif title == "Split":
        file.write_text(json.dumps(split()))
        config = {"splitFile": str(file)}
        patch = (
            "import functools, splitio\n"
            f"splitio.get_factory = functools.partial(splitio.get_factory, config={config!r})\n"
        )
        yield patch, {"SPLIT_SDK_KEY": "localhost"}
    elif title == "Unleash":
        with UnleashSimulator(unleash(), {}) as server:
            file.write_bytes(server.document())
            yield "", {"UNLEASH_URL": f"{server.url}/api", "UNLEASH_TOKEN": server.sdk_key}
    else:
        file.write_text(json.dumps(appconfig()))
        with Agent() as server:
            yield "", {"AWS_APPCONFIG_EXTENSION_HTTP_PORT": server.url.rpartition(":")[2]}


@pytest.mark.parametrize("title", TITLES)
def test_handlers_agree(title: str, tmp_path: Path) -> None:
    processes.needs_python()
    before, after = PAIRS[title]
    home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    with provider(title, tmp_path) as (patch, variables):
        expected = json.loads(run(str(PYTHON), patch + before + RUN, {**home, **variables})[-1])
    assert [(each["new"], each["color"]) for each in expected] == [(True, "green"), (False, "red")]
    ours = {"FLAGSTORE_FILE": str(tmp_path / "flags.json"), "FLAGSTORE_SOURCE": "prod"}
    assert json.loads(run(sys.executable, after + RUN, ours)[-1]) == expected


def compared(name: str, environment: dict[str, str], *, sdks: bool = False) -> list[str]:
    """Run the comparison that names a test; return the differences it prints."""
    if sdks:
        processes.needs_python()
    flush = "import functools; print = functools.partial(print, flush=True)\n"
    python = str(PYTHON) if sdks else sys.executable
    *differences, last = run(python, flush + COMPARISONS[name], environment)
    assert last == "compared"
    return differences


def test_ld_relay_comparison(aws: StandIn, dynamodb_table: Table) -> None:
    """Nothing is printed until a change reaches only one of the two."""
    name = "test_ld_relay_comparison"
    flags = {FLAG: launchdarkly_flags.new_flag(FLAG), "gone": launchdarkly_flags.new_flag("gone")}
    with LaunchDarklySimulator(flags, {}) as server:
        rig = DynamoRig(aws, dynamodb_table, server, name="launchdarkly")
        place = {"table": dynamodb_table.name, "prefix": "relay", "write": True}
        document = json.loads(server.document())
        processes.python("launchdarkly", rig.environment(), document=document, **place)
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
        # The relay is stopped, and its rows are taken over: its readers see the change.
        assert rig.sync(rows_prefix="relay", adopt=True).rows_error == ""
        assert compared(name, environment, sdks=True) == [
            "ada new-checkout False None",
            "bob new-checkout False None",
        ]


def test_synchronizer_comparison(redis_server: Server) -> None:
    name = "test_synchronizer_comparison"
    with SplitSimulator({FLAG: split_flags.new_flag(FLAG)}, {}, {}) as server:
        rig = RedisRig(redis_server, server, name="split")
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
        assert rig.sync(rows_prefix="old", adopt=True).rows_error == ""
        assert compared(name, environment, sdks=True) == [
            f"{key} {FLAG} ('off', None) ('control', None)" for key in ("ada", "bob")
        ]


def test_edge_comparison(tmp_path: Path) -> None:
    name = "test_edge_comparison"
    file = tmp_path / "flags.json"
    with UnleashSimulator(
        {FLAG: unleash_flags.new_flag(FLAG)}, {"1": unleash_flags.new_segment(1)}
    ) as edge:
        file.write_bytes(edge.document())
        environment = {"FLAGSTORE_FILE": str(file), "EDGE_URL": edge.url}
        environment["EDGE_TOKEN"] = edge.sdk_key
        assert compared(name, environment) == []
        edge.set_flag(FLAG, enabled=False)
        edge.set_flag("another")
        edge.set_segment(1, constraints=[])
        assert compared(name, environment) == [
            "features another is missing in one",
            f"features {FLAG} differs",
            "segments 1 differs",
        ]


def test_agent_comparison(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    file.write_text(json.dumps(appconfig(limits={"enabled": True, "limit": 3})))
    with Agent() as agent:
        port = agent.url.rpartition(":")[2]
        environment = {"FLAGSTORE_FILE": str(file), "AWS_APPCONFIG_EXTENSION_HTTP_PORT": port}
        assert compared("test_agent_comparison", environment) == []
        agent.limit = 4
        differences = compared("test_agent_comparison", environment)
    assert [line.count("limits") for line in differences] == [1, 1]
