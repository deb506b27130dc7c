"""Local files that people have for LaunchDarkly's and Split's SDKs say the same here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from flagstore import Client
from flagstore.stores.file import FileReader
from sdks import processes
from simulators.split_flags import matcher, rule

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ["ada", "bob", "5", *(f"user-{number}" for number in range(40))]

DATA_YAML = """
flagValues: {simple: true, text: green, date: "2024-01-01", object: {a: [1]}}
flags:
  ui:
    key: ui
    "on": true
    variations: [false, true]
    fallthrough: {variation: 1}
    targets:
      - {variation: 0, values: [ada]}
  half:
    key: half
    "on": true
    salt: s
    variations: [a, b]
    fallthrough:
      rollout: {variations: [{variation: 0, weight: 50000}, {variation: 1, weight: 50000}]}
  segment:
    key: segment
    "on": true
    variations: [in, out]
    fallthrough: {variation: 1}
    rules:
      - variation: 0
        clauses: [{attribute: "", op: segmentMatch, values: [people]}]
segments:
  people: {key: people, included: [ada]}
"""
SPLIT_YAML = """
- ui:
    treatment: "off"
- ui:
    treatment: "on"
    keys: ["ada", "bob"]
    config: "{\\"color\\": \\"blue\\"}"
- single:
    treatment: "v1"
    keys: ada
- everybody:
    treatment: v2
    config: "{}"
"""
SPLIT_LINES = """# flag treatment
ui on
other   v-2
ui off
  indented on
too many words
"""
ADA = matcher("WHITELIST", whitelistMatcherData={"whitelist": ["ada"]})
SPLIT_FLAGS = [
    {"name": "bare"},
    {"name": "ui", "conditions": [rule(ADA, label="listed", on=100)]},
    {"algo": 2},
]
SPLIT_JSON = {"ff": {"d": SPLIT_FLAGS}, "rbs": {"d": []}}
OLDER_JSON = {"splits": SPLIT_FLAGS, "since": -1, "till": -1}
IN_YAML = ["simple", "text", "date", "object", "ui", "half", "segment"]

FILES = [
    ("launchdarkly", "data.yaml", DATA_YAML, IN_YAML),
    ("launchdarkly", "data.json", json.dumps(yaml.safe_load(DATA_YAML)), IN_YAML),
    ("split", "split.yaml", SPLIT_YAML, ["ui", "single", "everybody"]),
    ("split", "mine.split", SPLIT_LINES, ["ui", "other", "too"]),
    ("split", "split.json", json.dumps(SPLIT_JSON), ["bare", "ui"]),
    ("split", "older.json", json.dumps(OLDER_JSON), ["bare", "ui"]),
]


@pytest.mark.parametrize(("provider", "name", "text", "flags"), FILES)
def test_local_file_evaluates_as_in_the_sdk(
    tmp_path: Path, provider: str, name: str, text: str, flags: list[str]
) -> None:
    """For each key; flags as such files have them, without what only the provider needs."""
    path = tmp_path / name
    path.write_text(text)
    as_context = {"launchdarkly": lambda key: {"kind": "user", "key": key}}
    contexts = [as_context.get(provider, lambda key: {"key": key})(key) for key in KEYS]
    lines = processes.python(provider, file=str(path), flags=flags, contexts=contexts)
    client = Client("prod", store=FileReader(str(path)))
    assert client.info().provider == provider
    for key, line in zip(KEYS, lines, strict=False):  # Split's manager has more lines
        theirs = json.loads(line)["flags"]
        for flag in flags:
            detail = client.detail(flag, {"key": key})
            if provider == "split":
                treatment, config = theirs[flag]
                expected = [None, None] if treatment == "control" else [treatment, config]
                assert [detail.value, detail.config] == expected, (flag, key)
            else:
                assert json.dumps(detail.value) == json.dumps(theirs[flag][0]), (flag, key)
