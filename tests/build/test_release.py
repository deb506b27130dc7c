"""`make dist`: one version everywhere, reproducible artefacts."""

from __future__ import annotations

import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import flagstore
from tests.build.tooling import REPOSITORY, copy_sources, run, sam_environment, tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

VERSION = flagstore.__version__
WHEEL, LAYER = f"flagstore-{VERSION}-py3-none-any.whl", f"flagstore-layer-{VERSION}.zip"
SUMS = "SHA256SUMS"


def dist(home: Path, *arguments: str, cwd: Path, umask: int, check: bool = True, **env: str) -> str:
    """Run what `make dist` runs, in a copy; return its output."""
    command = (sys.executable, home / "tools" / "dist.py", *arguments)
    environment = sam_environment(**env)
    return run(*command, cwd=cwd, environment=environment, umask=umask, check=check).stdout


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Path]]:
    """Make two: in other folders, by users with other settings."""
    tool(".venv-sam", "python3.13")
    folders = [tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("another-one")]
    copy_sources(folders[0])
    (folders[0] / "tools").mkdir()
    for name in ("pyproject.toml", "LICENSE", "README.md", "tools/dist.py"):
        shutil.copy(REPOSITORY / name, folders[0] / name)
    shutil.copytree(folders[0], folders[1], dirs_exist_ok=True)
    for home in folders:
        (home / ".venv-sam").symlink_to(REPOSITORY / ".venv-sam")
    settings: list[dict[str, Any]] = [
        {"umask": 0o022, "PYTHONHASHSEED": "1", "TZ": "UTC"},
        {"umask": 0o077, "PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo"},
    ]
    settings[1]["SOURCE_DATE_EPOCH"] = "1700000000"
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda home, its: dist(home, cwd=folders[0], **its), folders, settings))
    yield folders
    for home in folders:
        shutil.rmtree(home / "dist")


def test_version_is_the_same_everywhere(template: Mapping[str, Any]) -> None:
    """In the package, the template and the newest entry of the changelog."""
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((not released|\d{4}-\d{2}-\d{2})\)$", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == VERSION
    metadata = template["Metadata"]["AWS::ServerlessRepo::Application"]
    assert metadata["SemanticVersion"] == VERSION
    assert len(metadata["Description"]) <= 256  # AWS' limit


@pytest.mark.build
@pytest.mark.campaign
def test_dist_is_reproducible(homes: Sequence[Path]) -> None:
    """Folder, time, time zone and umask make no difference; --check names a changed file."""
    first, second = (
        {path.name: path.read_bytes() for path in (home / "dist").iterdir()} for home in homes
    )
    functions = {f"storesync-{VERSION}.zip", f"flagserve-{VERSION}.zip"}
    node_layer = f"flagstore-node-layer-{VERSION}.zip"
    assert set(first) == {WHEEL, LAYER, node_layer, *functions, SUMS}
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert len(first[SUMS].splitlines()) == len(first) - 1
    run("sha256sum", "--check", SUMS, cwd=homes[0] / "dist")
    home = homes[1]
    assert "The same bytes" in dist(home, "--check", cwd=home, umask=0o022)
    with (home / "dist" / LAYER).open("ab") as layer:
        layer.write(b"\0")
    message = dist(home, "--check", cwd=home, umask=0o022, check=False)
    assert message == f"make dist: not what is built from these sources: {LAYER}\n"
