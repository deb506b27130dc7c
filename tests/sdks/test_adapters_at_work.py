"""What the adapters do besides evaluating: changes, faults, and what callers may not break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdks.rig import MODULES, Scripts

SCRIPT = "adapters_python.py"
PATH = [*MODULES, str(Path(__file__).parents[1])]
DOWN = "StoreUnavailableError: the store is down"


def play(scene: str) -> dict[str, Any]:
    """Return what happened."""
    (line,) = Scripts().python(SCRIPT, scene=scene, path=PATH)
    said: dict[str, Any] = json.loads(line)
    return said


def test_launchdarklys_store() -> None:
    """Defaults while there is nothing, changes when they are due, one decoding, no thread."""
    said = play("launchdarkly")
    failed = {"kind": "ERROR", "errorKind": "EXCEPTION"}
    assert said["down"] == ["default", failed, False, False]
    assert said["all down"] is False
    assert said["up"] == [True, True]
    value = {"limits": [1, {"deep": 2}]}
    assert said["values"] == [[value] * 3] * 2, "a caller has changed a flag"
    assert said["kept"] == [True, True, True]
    assert said["all kept"] == [["json"], ["s"]]
    assert said["written"] == value
    assert said["changed"] == [value]
    assert said["missing"] == [None, None]
    assert said["malformed"] == ["default", failed]
    assert said["all but malformed"] == [True, ["json"]]
    assert said["other"] == (
        "ConfigurationError: source 'prod' holds flags of 'unleash', not LaunchDarkly's"
    )
    assert said["threads"] == ["MainThread"]


def test_unleashs_client_and_cache() -> None:
    """The same, and a large segment is read once, however often the features change."""
    said = play("unleash")
    assert said["down"] == [False, True, "disabled", {}, DOWN]
    assert said["up"] == [True, False, True]
    assert said["changed"] == [True, False, False]
    assert said["changed again"] == [True, ["a", "b"]]
    assert said["stale"] is True
    assert said["parts"] == 1
    assert said["cache"] == [True, "x", 5, [True, True, False]]
    assert said["destroyed"] == [None, True]
    assert (
        said["other"] == "ConfigurationError: source 'prod' holds flags of 'split', not Unleash's"
    )
    assert said["threads"] == ["MainThread"]
