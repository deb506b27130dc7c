"""The bill of materials lists every deployed package with its digests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import REPOSITORY
from tools import sbom

if TYPE_CHECKING:
    from tests.build.tooling import Build

LOCK = (REPOSITORY / "src" / "requirements.txt").read_text(encoding="utf-8")


def test_every_pin_is_listed() -> None:
    """With all its digests."""
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
def test_built_packages_are_listed(build: Build) -> None:
    """Each package in the functions, with its version."""
    named = {
        (each["name"].replace("-", "_"), each["version"]) for each in sbom.bill(LOCK)["components"]
    }
    folders = [
        path.name.removesuffix(".dist-info")
        for path in build.artefact("SyncFunction").glob("*.dist-info")
    ]
    built = {tuple(name.lower().replace("-", "_").rsplit("_", 1)) for name in folders}
    assert built, "no package has a name"
    assert built <= named
    packages = {path.name for path in build.artefact("SyncFunction").iterdir()}
    assert {"boto3", "botocore", "requests"} <= packages
