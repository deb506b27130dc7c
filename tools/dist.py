"""Build the artefacts of a release into ``dist/``, reproducibly.

::

    python tools/dist.py            # builds, and prints the sizes
    python tools/dist.py --check    # builds elsewhere, and compares with dist/SHA256SUMS

- ``flagstore-<version>-py3-none-any.whl``: the reader, for ``pip install``.
- ``flagstore-layer-<version>.zip``: the reader as a layer of AWS Lambda.
- ``flagstore-node-layer-<version>.zip``: the reader for Node.js as a layer.
- ``storesync-<version>.zip``: all functions of storesync, for deployments without sam.
- ``flagserve-<version>.zip``: ServeFunction.
- ``SHA256SUMS``: for ``sha256sum --check``.

Layer and functions are built by the targets of ``src/Makefile``, as with ``sam build``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = ROOT / "src" / "flagstore" / "__init__.py"
BUILD_PYTHON = ROOT / ".venv-sam" / "bin" / "python3.13"
SUMS = "SHA256SUMS"
BUILT = ("*.whl", "*.zip", SUMS)

# The earliest time in a zip file, so that archives do not depend on the time.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
ZIP_TIME_EPOCH = "315532800"
ZIP_LEVEL = 9
ZIP_MADE_ON_UNIX = 3
FILE_MODE = 0o100644
KIB = 1024

READER = "flagstore/"
"""The reader in the wheel and the functions; in the layer it is below ``python/``."""


class DistError(RuntimeError):
    """A tool is missing or failed, or an artefact is wrong; the message names the fix."""


def version() -> str:
    """Return flagstore's version."""
    found = re.search(r'^__version__ = "(.+)"$', VERSION_FILE.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise DistError(f"there is no __version__ in {VERSION_FILE.name}")
    return found[1]


def build(folder: Path) -> list[Path]:
    """Build all artefacts into *folder*, replacing earlier ones; return their paths.

    Raises:
        DistError: a tool is missing or failed, or the reader differs between artefacts.

    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in BUILT:
        for old in folder.glob(pattern):
            old.unlink()
    with tempfile.TemporaryDirectory(prefix="flagstore-dist-") as scratch:
        layer = _make("build-FlagstoreLayer", Path(scratch, "layer"))
        functions = _make("build-SyncFunction", Path(scratch, "functions"))
        serve = _make("build-ServeFunction", Path(scratch, "serve"))
        node = _make("build-FlagstoreNodeLayer", Path(scratch, "node"))
        artefacts = [
            _wheel(folder),
            _zip(layer, folder / f"flagstore-layer-{version()}.zip"),
            _zip(functions, folder / f"storesync-{version()}.zip"),
            _zip(serve, folder / f"flagserve-{version()}.zip"),
        ]
        for archive, prefix in zip(artefacts, ("", "python/", "", ""), strict=True):
            _check_reader(archive, prefix)
        artefacts.append(_zip(node, folder / f"flagstore-node-layer-{version()}.zip"))
    lines = [f"{_sum(each)}  {each.name}\n" for each in sorted(artefacts)]
    (folder / SUMS).write_text("".join(lines), encoding="ascii")
    return artefacts


def check(folder: Path) -> None:
    """Build again, and compare with the sums and the files of *folder*.

    Raises:
        DistError: names the files that differ.

    """
    sums = folder / SUMS
    if not sums.exists():
        raise DistError(f"there is no {sums}: run `make dist` first")
    listed = dict(line.split()[::-1] for line in sums.read_text("ascii").splitlines())
    with tempfile.TemporaryDirectory(prefix="flagstore-dist-") as scratch:
        again = {each.name: _sum(each) for each in build(Path(scratch))}
    there = {name: _sum(folder / name) for name in listed if (folder / name).exists()}
    names = sorted(listed.keys() | again.keys())
    wrong = [n for n in names if not listed.get(n) == again.get(n) == there.get(n)]
    if wrong:
        raise DistError(f"not what is built from these sources: {', '.join(wrong)}")


def _make(target: str, folder: Path) -> Path:
    """Run a target of ``src/Makefile``."""
    if not BUILD_PYTHON.exists():
        raise DistError(f"{BUILD_PYTHON.name} is missing: run `make .venv-sam`")
    folder.mkdir()
    _run(
        *("make", "--silent", "-C", ROOT / "src", target),
        *(f"ARTIFACTS_DIR={folder}", f"PYTHON={BUILD_PYTHON}"),
    )
    return folder


def _wheel(folder: Path) -> Path:
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _run(*command: str | Path) -> None:
    """Run a command in the repository, and show its output only if it fails.

    Raises:
        DistError: it failed.

    """
    done = subprocess.run(  # noqa: S603 - no shell
        command,
        cwd=ROOT,
        # Variables of an outer make would affect this one.
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
            "SOURCE_DATE_EPOCH": ZIP_TIME_EPOCH,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DistError(f"`{Path(command[0]).name}` failed: {done.returncode}\n{done.stdout}")


def _zip(source: Path, archive: Path) -> Path:
    """Zip a folder with sorted names, and the same time, mode and owner for all files."""
    paths = {str(each.relative_to(source)): each for each in source.rglob("*") if each.is_file()}
    with zipfile.ZipFile(archive, "w") as packed:
        for name, path in sorted(paths.items()):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.create_system = ZIP_MADE_ON_UNIX
            entry.external_attr = FILE_MODE << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes(), compresslevel=ZIP_LEVEL)
    return archive


def _check_reader(archive: Path, prefix: str) -> None:
    """Compare the reader in an artefact with its source: all must agree on the store's layout.

    Raises:
        DistError: it differs.

    """
    source = {
        str(path.relative_to(ROOT / "src")): path.read_bytes()
        for path in (ROOT / "src" / READER).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(archive) as packed:
        found = {
            name.removeprefix(prefix): packed.read(name)
            for name in packed.namelist()
            if name.startswith(prefix + READER) and not name.endswith((".pyc", "/"))
        }
    if found != source:
        raise DistError(f"the reader in {archive.name} is not the one in src")


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _show(artefacts: list[Path]) -> None:
    for each in artefacts:
        with zipfile.ZipFile(each) as packed:
            unpacked = sum(entry.file_size for entry in packed.infolist())
        size = each.stat().st_size
        print(f"  {each.name:40} {size / KIB:9,.1f} KiB, unpacked {unpacked / KIB:9,.1f} KiB")


def main() -> int:
    """Build or check; return 1 if that fails."""
    parser = argparse.ArgumentParser(
        prog="make dist", description="build the artefacts of a release"
    )
    parser.add_argument("--to", type=Path, default=ROOT / "dist", help="the folder")
    parser.add_argument("--check", action="store_true", help="build again and compare")
    arguments = parser.parse_args()
    try:
        if arguments.check:
            check(arguments.to)
            print(f"The same bytes as in {arguments.to.name}/{SUMS}.")
        else:
            _show(build(arguments.to))
    except DistError as error:
        sys.stderr.write(f"make dist: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
