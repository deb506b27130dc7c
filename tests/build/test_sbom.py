"""The bill of materials names what is deployed: every package, with its digests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import REPOSITORY
from tools import sbom

if TYPE_CHECKING:
    from pathlib import Path

    from tests.build.tooling import Build

LOCK = (REPOSITORY / "src" / "requirements.txt").read_text(encoding="utf-8")


def test_every_pin_is_a_component_with_all_its_digests() -> None:
    """Counted by the simplest means: lines of the lock, and digests in it."""
    components = sbom.bill(LOCK)["components"]
    named = {f"{each['name']}=={each['version']}" for each in components}
    assert named == set(re.findall(r"^(\S+==\S+)", LOCK, re.MULTILINE))
    digests = [
        digest["content"]
        for each in components
        for reference in each["externalReferences"]
        for digest in reference["hashes"]
    ]
    assert sorted(digests) == sorted(re.findall(r"sha256:(\w+)", LOCK))
    assert all(each["externalReferences"][0]["hashes"] for each in components)


@pytest.mark.build
def test_what_is_built_is_in_the_bill(build: Build) -> None:
    """Each package that the functions contain is named with its version."""
    named = {
        (each["name"].replace("-", "_"), each["version"]) for each in sbom.bill(LOCK)["components"]
    }
    folders = [
        path.name.removesuffix(".dist-info")
        for path in build.artefact("SyncFunction").glob("*.dist-info")
    ]
    built = {tuple(name.lower().replace("-", "_").rsplit("_", 1)) for name in folders}
    assert built, "no package tells its name"
    assert built <= named
    packages = {path.name for path in build.artefact("SyncFunction").iterdir()}
    assert {"boto3", "botocore", "requests"} <= packages


def test_the_same_lock_gives_the_same_bytes(tmp_path: Path) -> None:
    """`make sbom` twice: nothing of the time and of the machine is in it."""
    for name in ("one.json", "two.json"):
        command = [sys.executable, "-m", "tools.sbom", str(tmp_path / name)]
        subprocess.run(command, cwd=REPOSITORY, check=True, timeout=60)
    one = (tmp_path / "one.json").read_bytes()
    assert one == (tmp_path / "two.json").read_bytes()
    document = json.loads(one)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert str(REPOSITORY) not in one.decode()
