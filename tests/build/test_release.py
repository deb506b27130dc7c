"""`make dist`: one version everywhere, reproducible artefacts."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import flagstore
from tests.build.tooling import REPOSITORY, copy_sources, run, sam_environment, tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SIZES = {"flagstore-": 200, "flagstore-layer-": 512, "storesync-": 10 * 1024}
"""In KiB, the most that each artefact may have: a quarter more than four engines take."""

# AWS' reference of the repository's CreateApplication, and what sam takes of it.
SAR_TEXTS = {
    "Name": r"[a-zA-Z0-9\-]{1,140}",
    "Description": r".{1,256}",
    "Author": r"(?=.{1,127}$)[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?",
    "SpdxLicenseId": r"[A-Za-z0-9.+-]+",
    "SemanticVersion": r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?",
    "LicenseUrl": r"LICENSE",
    "ReadmeUrl": r"README\.md",
}
SAR_LABEL = r"[a-zA-Z0-9+\-_:/@]{1,127}"
SAR_MOST_LABELS = 10


@dataclass(frozen=True)
class Dist:
    """A copy of the sources, and what `make dist` made of it."""

    home: Path
    output: str

    @property
    def files(self) -> dict[str, bytes]:
        """All of ``dist``, by name."""
        return {path.name: path.read_bytes() for path in (self.home / "dist").iterdir()}

    def artefact(self, start: str) -> Path:
        """Return the artefact whose name is so and then the version."""
        (found,) = (self.home / "dist").glob(f"{start}[0-9]*")
        return found


def dist(home: Path, *arguments: str, cwd: Path | None = None, **settings: Any) -> str:
    """Run what `make dist` runs, in a copy; return its output."""
    umask, check = settings.pop("umask", -1), settings.pop("check", True)
    command = (sys.executable, home / "tools" / "dist.py", *arguments)
    environment = sam_environment(**settings)
    return run(*command, cwd=cwd or home, environment=environment, umask=umask, check=check).stdout


@pytest.fixture(scope="module")
def dists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Dist]]:
    """Make two: in other folders, by users with other settings."""
    tool(".venv-sam", "python3.13")
    homes = [tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("another-one")]
    copy_sources(homes[0])
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(REPOSITORY / name, homes[0])
    (homes[0] / "tools").mkdir()
    shutil.copy(REPOSITORY / "tools" / "dist.py", homes[0] / "tools")
    shutil.copytree(homes[0], homes[1], dirs_exist_ok=True)
    for home in homes:
        (home / ".venv-sam").symlink_to(REPOSITORY / ".venv-sam")
    settings: list[dict[str, Any]] = [
        {"umask": 0o022, "PYTHONHASHSEED": "1", "TZ": "UTC"},
        {"umask": 0o077, "PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "cwd": homes[0]},
    ]
    settings[1]["SOURCE_DATE_EPOCH"] = "1700000000"
    with ThreadPoolExecutor() as pool:
        outputs = pool.map(lambda home, its: dist(home, **its), homes, settings)
        yield [Dist(home, output) for home, output in zip(homes, outputs, strict=True)]
    for home in homes:
        shutil.rmtree(home / "dist")


def test_version_is_the_same_everywhere(template: Mapping[str, Any]) -> None:
    """In the package, the template and the newest entry of the changelog."""
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(
        r"^## (\S+)(?: \((not released|\d{4}-\d{2}-\d{2})\))$", changes, re.MULTILINE
    )
    assert newest is not None
    assert newest[1] == flagstore.__version__
    assert _metadata(template)["SemanticVersion"] == flagstore.__version__


def test_repository_metadata(
    template: Mapping[str, Any],
) -> None:
    """Every field is known to AWS and in its format, and the files exist."""
    metadata = dict(_metadata(template))
    labels = metadata.pop("Labels")
    assert 0 < len(labels) <= SAR_MOST_LABELS
    assert all(re.fullmatch(SAR_LABEL, label) for label in labels)
    assert set(metadata) == set(SAR_TEXTS)
    assert [n for n, form in SAR_TEXTS.items() if not re.fullmatch(form, metadata[n])] == []
    for name in ("LicenseUrl", "ReadmeUrl"):
        assert 0 < (REPOSITORY / metadata[name]).stat().st_size < 5 * 1024 * 1024


def _metadata(template: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = template["Metadata"]["AWS::ServerlessRepo::Application"]
    return metadata


@pytest.mark.build
@pytest.mark.campaign
def test_dist_is_reproducible(dists: Sequence[Dist]) -> None:
    """Folder, time, time zone and umask make no difference."""
    first, second = (each.files for each in dists)
    version = flagstore.__version__
    assert set(first) == {
        f"flagstore-{version}-py3-none-any.whl",
        f"flagstore-layer-{version}.zip",
        f"storesync-{version}.zip",
        "SHA256SUMS",
    }
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.build
@pytest.mark.campaign
@pytest.mark.parametrize("start", ["flagstore-", "flagstore-layer-"])
def test_artefacts_import(dists: Sequence[Dist], start: str, tmp_path: Path) -> None:
    """Installed without a network, or unpacked as on Lambda."""
    artefact = dists[0].artefact(start)
    if artefact.suffix == ".whl":
        run(
            *(tool(".venv-sam", "python3.13"), "-m", "pip", "install", "--quiet", "--no-index"),
            *("--root-user-action=ignore", "--target", tmp_path / "python", artefact),
        )
    else:
        with zipfile.ZipFile(artefact) as layer:
            layer.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import flagstore as f; print(f.__version__)"
    )
    command = (sys.executable, "-I", "-S", "-B", "-c", code, tmp_path / "python")
    assert run(*command, environment={}).stdout.strip() == flagstore.__version__


@pytest.mark.build
@pytest.mark.campaign
def test_dist_sizes(dists: Sequence[Dist], capsys: pytest.CaptureFixture[str]) -> None:
    """`make dist` prints them, and none has grown."""
    with capsys.disabled():
        print(f"\n{dists[0].output}", end="")
    sizes = dict(
        re.findall(
            r"^  (\S+) +([\d,.]+) KiB, unpacked +[\d,.]+ KiB$", dists[0].output, re.MULTILINE
        )
    )
    assert len(sizes) == len(SIZES)
    for start, most in SIZES.items():
        artefact = dists[0].artefact(start)
        assert sizes[artefact.name] == f"{artefact.stat().st_size / 1024:,.1f}"
        assert artefact.stat().st_size < most * 1024


@pytest.mark.build
@pytest.mark.campaign
def test_sums_match_the_files(dists: Sequence[Dist]) -> None:
    """`sha256sum --check` accepts the file."""
    files = dists[0].files
    lines = files.pop("SHA256SUMS").decode().splitlines()
    assert lines == [f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in sorted(files)]
    folder = dists[0].home / "dist"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)  # noqa: S607 - the system's


@pytest.mark.build
@pytest.mark.campaign
def test_check_names_a_changed_file(dists: Sequence[Dist]) -> None:
    """It passes on the same sources."""
    home = dists[1].home
    assert "The same bytes" in dist(home, "--check")
    layer = dists[1].artefact("flagstore-layer-")
    before = layer.read_bytes()
    layer.write_bytes(before + b"\0")
    message = dist(home, "--check", check=False)
    layer.write_bytes(before)
    assert message == f"make dist: not what is built from these sources: {layer.name}\n"
