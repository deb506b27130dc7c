"""docs/from-your-sdk.md: every handler of the page is run over one set of flags, and says the same.

Theirs run with the official SDKs: LaunchDarkly's reads a file, Split's is in its localhost mode,
Unleash's asks our simulator. AppConfig's agent is played, in the form that AWS documents.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sdks.rig import PYTHON, TIMEOUT_S
from simulators import split_flags, unleash_flags
from simulators.server import ProviderServer, Request
from simulators.unleash import UnleashSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "from-your-sdk.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAIRS = {title: PYTHON_BLOCK.findall(text) for title, text in SECTION.findall(PAGE)}
EVENTS = [{"user": "ada", "plan": "pro"}, {"user": "bob", "plan": "free"}]
RUN = f"""
import json as _json, os as _os
print(_json.dumps([handler(event, None) for event in {EVENTS!r}]), flush=True)
_os._exit(0)  # an SDK's own threads would wait for their server
"""
VALUES = {"new-checkout": (True, False), "button-color": ("green", "red")}
"""What each flag is for those of the plan pro, and for all others."""


def launchdarkly() -> dict[str, Any]:
    """Return the flags as LaunchDarkly's data files have them."""
    clause = {"contextKind": "user", "attribute": "plan", "op": "in", "values": ["pro"]}
    flags = {
        key: {
            "key": key,
            "version": 1,
            "on": True,
            "salt": "salt",
            "variations": list(values),
            "offVariation": 1,
            "fallthrough": {"variation": 1},
            "rules": [{"id": "pro", "variation": 0, "clauses": [clause]}],
        }
        for key, values in VALUES.items()
    }
    return {"flags": flags, "segments": {}}


def split() -> dict[str, Any]:
    """Return the flags as Split's API gives them, and its localhost mode reads them."""
    only = split_flags.matcher("WHITELIST", "plan", whitelistMatcherData={"whitelist": ["pro"]})
    flags = []
    for name, (hit, miss) in {
        "new-checkout": ("on", "off"),
        "button-color": ("green", "red"),
    }.items():
        others = split_flags.rollout(on=100)
        others["partitions"] = [{"treatment": miss, "size": 100}]
        conditions = [split_flags.rule(only, label="pro", **{hit: 100}), others]
        configurations = {"green": '{"size": 3}'}
        flags.append(
            {
                **split_flags.new_flag(name),
                "conditions": conditions,
                "configurations": configurations,
            }
        )
    newest = split_flags.START
    return {
        "ff": {"d": flags, "s": -1, "t": newest},
        "rbs": {"d": [], "s": -1, "t": newest},
        "segments": {},
    }


def unleash() -> dict[str, Any]:
    """Return features as an Unleash server has them: by name."""

    def strategy(values: list[str], operator: str, variant: str) -> dict[str, Any]:
        return {
            "name": "flexibleRollout",
            "constraints": [
                {
                    "contextName": "plan",
                    "operator": operator,
                    "values": values,
                    "inverted": False,
                    "caseInsensitive": False,
                }
            ],
            "parameters": {"rollout": "100", "stickiness": "default", "groupId": "shop"},
            "variants": [
                {
                    "name": variant,
                    "weight": 1000,
                    "weightType": "variable",
                    "stickiness": "default",
                    "payload": {"type": "string", "value": variant},
                }
            ],
        }

    hit, miss = strategy(["pro"], "IN", "green"), strategy(["pro"], "NOT_IN", "red")
    return {
        "new-checkout": {
            **unleash_flags.new_flag("new-checkout"),
            "strategies": [{**hit, "variants": []}],
        },
        "button-color": {**unleash_flags.new_flag("button-color"), "strategies": [hit, miss]},
    }


def appconfig() -> dict[str, Any]:
    """Return the flags as AppConfig's document has them."""
    rule = '(eq $plan "pro")'
    values = {
        "new-checkout": [
            {"name": "pro", "enabled": True, "rule": rule},
            {"name": "others", "enabled": False},
        ],
        "button-color": [
            {"name": "pro", "enabled": True, "rule": rule, "attributeValues": {"color": "green"}},
            {"name": "others", "enabled": True, "attributeValues": {"color": "red"}},
        ],
    }
    return {
        "version": "1",
        "flags": {key: {"name": key} for key in values},
        "values": {key: {"_variants": variants} for key, variants in values.items()},
    }


class Agent(ProviderServer):
    """AppConfig's agent, for the document above (user guide: retrieving a flag with variants)."""

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        """Response with the variants for what the header ``Context`` says."""
        given = dict(each.split("=") for each in request.headers["context"].split(","))
        pro = given["plan"] == "pro"
        name = "pro" if pro else "others"
        flags = {
            "new-checkout": {"_variant": name, "enabled": pro},
            "button-color": {"_variant": name, "enabled": True, "color": "green" if pro else "red"},
        }
        path = "/applications/shop/environments/prod/configurations/flags"
        return (200 if request.path == path else 404), json.dumps(flags).encode(), {}


@contextlib.contextmanager
def played(title: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Write the flags to a file; give what lets their SDK find them: Python, and variables."""
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
    elif title.startswith("Split"):
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
            yield "", {"UNLEASH_URL": f"{server.url}/api", "UNLEASH_TOKEN": server.token}
            assert any(request.path == "/api/client/features" for request in server.requests)
    else:
        file.write_text(json.dumps(appconfig()))
        with Agent() as server:
            yield "", {"AWS_APPCONFIG_EXTENSION_HTTP_PORT": server.url.rpartition(":")[2]}
            assert len(server.requests) == len(EVENTS)


def said(python: str, code: str, environment: dict[str, str]) -> list[Any]:
    """Run a handler for each event in a fresh process; return what it says."""
    done = subprocess.run(
        [python, "-I", "-c", code + RUN],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("title", [title for title, blocks in PAIRS.items() if blocks])
def test_every_version_of_a_handler_says_the_same(title: str, tmp_path: Path) -> None:
    """Theirs, ours, and theirs on our adapter, for a user of the plan pro and for another."""
    if not PYTHON.exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    before, after, *kept = PAIRS[title]
    modules = f"import sys; sys.path.append({str(REPOSITORY / 'src')!r})\n"
    ours = {"FLAGSTORE_FILE": str(tmp_path / "flags.json"), "FLAGSTORE_SOURCE": "prod"}
    home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    with played(title, tmp_path) as (patch, theirs):
        expected = said(str(PYTHON), patch + before, {**home, **theirs})
    assert [(each["new"], each["color"]) for each in expected] == [(True, "green"), (False, "red")]
    assert said(sys.executable, modules + after, ours) == expected
    for block in kept:
        assert said(str(PYTHON), modules + block, {**home, **ours}) == expected


def test_each_provider_has_a_pair_and_the_sdks_an_adapter() -> None:
    """Before, after, and where there is an SDK, the SDK kept."""
    counts = {title: len(blocks) for title, blocks in PAIRS.items() if blocks}
    assert counts == {"LaunchDarkly": 3, "Split (Harness FME)": 3, "Unleash": 3, "AWS AppConfig": 2}
