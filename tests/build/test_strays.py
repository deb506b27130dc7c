"""Artefacts contain only files of the repository, pinned packages and their compiled files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import REPOSITORY, Build, copy_sources, run, sam_environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.build

FUNCTIONS = ("WebhookFunction", "SyncFunction")
OURS = ("flagstore", "storesync")
SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    rb"|\bsdk-[0-9a-f]{8}-[0-9a-f-]{27}\b|\bgh[pousr]_\w{36}|canary-"
)
DROPPED = {
    ".env": "API_KEY=canary-of-a-stray-file",
    "notes.txt": "canary-of-a-stray-file",
    "flagstore/.env": "canary-of-a-stray-file",
    "storesync/notes.pem": "-----BEGIN PRIVATE KEY-----",
    "storesync/providers/old.orig": "canary-of-a-stray-file",
}
"""Stray files, by their path below src."""


def sources() -> set[str]:
    """Return what is in the repository, below src."""
    done = run("git", "-C", REPOSITORY, "ls-files", "src", environment={"PATH": "/usr/bin:/bin"})
    return {line.removeprefix("src/") for line in done.stdout.splitlines()}


def packed(folder: Path) -> set[str]:
    """Return the files of an artefact by their relative names."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def source_of(name: str) -> str:
    """Return which file a compiled one comes from; another file is its own."""
    return re.sub(r"__pycache__/(\w+)\.cpython-\d+\.pyc$", r"\1.py", name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_packed_files_are_in_the_repository(build: Build, name: str) -> None:
    """No editor's copy, test or key."""
    ours = {each for each in packed(build.artefact(name)) if each.startswith(OURS)}
    assert ours
    assert {source_of(each) for each in ours} <= sources()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_secret_is_packed(build: Build, name: str) -> None:
    """No private key, access key, SDK key or token, in source or compiled."""
    folder = build.artefact(name)
    found = [
        each
        for each in packed(folder)
        if each.startswith(OURS) and SECRETS.search((folder / each).read_bytes())
    ]
    assert not found


@pytest.mark.parametrize("target", ["WebhookFunction", "FlagstoreLayer"])
def test_stray_files_are_not_packed(tmp_path: Path, target: str) -> None:
    """Except the authorities of Redis in functions (docs/redis.md)."""
    copy_sources(tmp_path)
    (tmp_path / "src/redis-ca.pem").write_text("authorities", encoding="utf-8")
    for name, text in DROPPED.items():
        (tmp_path / "src" / name).write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    run(
        *("make", "-C", tmp_path / "src", f"ARTIFACTS_DIR={out}", f"build-{target}"),
        environment=sam_environment(),
    )
    found = {source_of(name).removeprefix("python/") for name in packed(out)}
    assert found
    assert not found & set(DROPPED)
    assert ("redis-ca.pem" in found) == (target == "WebhookFunction")
    assert not [name for name in packed(out) if b"stray-file" in (out / name).read_bytes()]
