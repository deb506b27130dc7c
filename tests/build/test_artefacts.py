"""The output of `sam build`, the wheel and the bill of materials: complete, without local files."""

from __future__ import annotations

import io
import marshal
import re
import shutil
import stat
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local import nodejs
from tests.build.tooling import REPOSITORY, copy_sources, run, sam_environment
from tools import sbom

if TYPE_CHECKING:
    from types import CodeType

pytestmark = pytest.mark.build

FUNCTIONS = ("WebhookFunction", "SyncFunction")
PYTHON = (*FUNCTIONS, "ServeFunction", "FlagstoreLayer")
ARTEFACTS = (*PYTHON, "FlagstoreNodeLayer")
MIB = 1024 * 1024
MOST_ZIPPED = 10 * MIB
MOST_UNZIPPED = 35 * MIB

PYC_HEADER = 16
UNCHECKED_HASH = 0b01
COMPILED = re.compile(r"__pycache__/(\w+)\.cpython-313\.pyc$")

LOCK = (REPOSITORY / "src" / "requirements.txt").read_text(encoding="utf-8")
STRAYS = {
    ".env": "API_KEY=stray-file",
    "notes.txt": "stray-file",
    "flagstore/.env": "stray-file",
    "flagserve/.env": "stray-file",
    "node/.env": "stray-file",
    "node/lib/notes.txt": "stray-file",
    "storesync/notes.pem": "-----BEGIN PRIVATE KEY----- stray-file",
    "storesync/providers/old.orig": "stray-file",
}
"""Files of a developer, by their path below src."""

CLIENTS = """
import sys

sys.path.insert(0, sys.argv[1])
import boto3, botocore

keys = dict(region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
for name, method, parameters in (
    ("dynamodb", "get_item", {"TableName": "t", "Key": {"key": {"S": "a"}}}),
    ("dynamodb", "describe_table", {"TableName": "t"}),
    ("sqs", "send_message", {"QueueUrl": "https://q", "MessageBody": "y"}),
    ("ssm", "get_parameters_by_path", {"Path": "/f"}),
    ("sts", "get_caller_identity", {}),
):
    client = boto3.client(name, **keys)
    host = "https://%s.eu-west-1.amazonaws.com" % name
    assert client.meta.endpoint_url == host
    assert client.generate_presigned_url(method, parameters).startswith(host)
assert boto3.client("ssm", **keys).can_paginate("get_parameters_by_path")
print(boto3.__file__, botocore.__file__)
"""

LOADED = """
const { basename } = require("node:path");
const loaded = () => Object.keys(require.cache).map((file) => basename(file));
const flagstore = require("flagstore");
flagstore.client("prod", { table: "any", region: "eu-west-1" }).start({ loads: true });
require("assert").deepStrictEqual(loaded(), ["index.js"]);
for (const name of ["launchdarkly", "split", "unleash"]) require(`flagstore/${name}`);
console.log(loaded().sort().join(" "));
process.exit();
"""


def files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, except compiled ones."""
    return {
        name: path.read_bytes() for name, path in files(folder).items() if path.suffix != ".pyc"
    }


def python(code: str, *arguments: str | Path) -> str:
    """Run code in a bare interpreter: standard library only, no settings of this machine."""
    command = (sys.executable, "-I", "-S", "-B", "-c", code, *arguments)
    return run(*command, environment={}).stdout


def build_target(home: Path, target: str, *, check: bool = True) -> str:
    """Build one target of a copy of the sources into its ``out``; return the output."""
    (home / "out").mkdir()
    return run(
        *("make", "-C", home / "src", f"ARTIFACTS_DIR={home / 'out'}", f"build-{target}"),
        environment=sam_environment(),
        check=check,
    ).stdout


def test_reader_is_identical_everywhere(build: Path) -> None:
    """Writer and readers agree on the layout; the layer brings no other package."""
    layer = build / "out" / "FlagstoreLayer"
    assert [path.name for path in layer.iterdir()] == ["python"]
    assert [path.name for path in (layer / "python").iterdir()] == ["flagstore"]
    source = contents(build / "src" / "flagstore")
    served = build / "out" / "ServeFunction"
    assert sorted(path.name for path in served.iterdir()) == ["flagserve", "flagstore"]
    assert contents(served / "flagserve") == contents(build / "src" / "flagserve")
    for folder in (*(build / "out" / name for name in FUNCTIONS), served, layer / "python"):
        assert contents(folder / "flagstore") == source


def test_files_of_functions_are_in_the_repository(build: Path) -> None:
    """No editor's copy, test or key; nor the command line and its dependencies."""
    done = run("git", "-C", REPOSITORY, "ls-files", "src", environment={"PATH": "/usr/bin:/bin"})
    sources = {line.removeprefix("src/") for line in done.stdout.splitlines()}
    for function in FUNCTIONS:
        packed = files(build / "out" / function)
        ours = {name for name in packed if name.startswith(("flagstore/", "storesync/"))}
        assert "storesync/sync.py" in ours
        assert {COMPILED.sub(r"\1.py", name) for name in ours} <= sources
        assert not [name for name in packed if name.startswith(("storesync/cli/", "click/"))]


@pytest.mark.parametrize("target", ["WebhookFunction", *ARTEFACTS[2:]])
def test_stray_files_are_not_packed(tmp_path: Path, target: str) -> None:
    """Except the authorities of Redis in functions (docs/redis.md)."""
    copy_sources(tmp_path)
    (tmp_path / "src/redis-ca.pem").write_text("authorities", encoding="utf-8")
    for name, text in STRAYS.items():
        (tmp_path / "src" / name).write_text(text, encoding="utf-8")
    build_target(tmp_path, target)
    found = files(tmp_path / "out")
    assert found
    assert ("redis-ca.pem" in found) == target.endswith("Function")
    assert not [name for name, path in found.items() if b"stray-file" in path.read_bytes()]


def test_node_layer(build: Path) -> None:
    """Its package has all modules and types and nothing else; a cold start loads one file."""
    layer = build / "out" / "FlagstoreNodeLayer"
    package = layer / "nodejs" / "node_modules" / "flagstore"
    assert [path.name for path in package.parent.iterdir()] == ["flagstore"]
    assert files(package).keys() == files(build / "src" / "node").keys()
    node = nodejs.command()
    if not node:
        pytest.skip("Node.js is missing: `make setup-e2e` needs it, too")
    printed = run(node, "-e", LOADED, environment={"NODE_PATH": str(package.parent)}).stdout
    assert printed.split() == [
        "index.js",
        "latest.js",
        "launchdarkly.js",
        "log.js",
        "split.js",
        "unleash.js",
    ]


@pytest.mark.parametrize("name", PYTHON)
def test_modules_are_compiled(build: Path, name: str) -> None:
    """Each .py has a .pyc that Python 3.13 uses without checking the source."""
    folder = build / "out" / name
    modules = [path for path in folder.rglob("*.py") if path.stat().st_size]
    assert modules
    root, on_aws = folder, "/var/task/"
    if name == "FlagstoreLayer":
        root, on_aws = folder / "python", "/opt/python/"
    for module in modules:
        compiled = module.parent / "__pycache__" / f"{module.stem}.cpython-313.pyc"
        content = compiled.read_bytes()
        assert int.from_bytes(content[4:8], "little") == UNCHECKED_HASH, compiled
        if "flagstore" in module.parts:  # reading all 700 takes seconds for nothing
            code: CodeType = marshal.loads(content[PYC_HEADER:])  # noqa: S302 - our build's
            assert code.co_filename == f"{on_aws}{module.relative_to(root)}"


@pytest.mark.parametrize("name", ARTEFACTS)
def test_nothing_of_this_machine_is_packed(build: Path, name: str) -> None:
    """No file names a local folder, runs on one architecture only or is unreadable on Lambda."""
    folder = build / "out" / name
    found = files(folder)
    paths = [str(build), str(REPOSITORY), sys.base_prefix]
    machine = re.compile(b"|".join(re.escape(path.encode()) for path in paths if path != "/usr"))
    assert [each for each, path in found.items() if machine.search(path.read_bytes())] == []
    assert [each for each in found if re.search(r"\.(so|pyd|dylib)$|(^|/)(bin|tests)/", each)] == []
    assert [each for each in found if re.search(r"(^|/)\.|RECORD$|direct_url", each)] == []
    assert not {"Makefile", "requirements.txt", "requirements.in"} & set(found)
    for path in folder.rglob("*"):  # whatever the builder's umask
        assert path.stat().st_mode & stat.S_IROTH, path


def test_functions_contain_their_imports(build: Path) -> None:
    """The handlers' modules import with the artefact and the standard library alone."""
    folder = build / "out" / "SyncFunction"
    modules = ("storesync.sync", "storesync.webhook", "redis", "requests")
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]);"
        "print(*(importlib.import_module(name).__file__ for name in sys.argv[2:]))"
    )
    printed = python(code, folder, *modules).split()
    assert len(printed) == len(modules)
    assert all(Path(path).is_relative_to(folder) for path in printed)


def test_trimmed_botocore_works(build: Path) -> None:
    folder = build / "out" / "SyncFunction"
    assert all(Path(path).is_relative_to(folder) for path in python(CLIENTS, folder).split())


@pytest.mark.parametrize("name", ARTEFACTS)
def test_artefact_sizes(build: Path, name: str) -> None:
    """Dead weight of an updated dependency is noticed."""
    packed = io.BytesIO()
    found = files(build / "out" / name)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, path in found.items():
            archive.write(path, each)
    assert packed.tell() < MOST_ZIPPED
    assert sum(path.stat().st_size for path in found.values()) < MOST_UNZIPPED


def test_wrong_hash_stops_the_build(tmp_path: Path) -> None:
    """A package that was replaced in a registry is not installed."""
    copy_sources(tmp_path)
    swapped = re.sub(r"sha256:\w{8}", "sha256:00000000", LOCK)
    (tmp_path / "src" / "requirements.txt").write_text(swapped, encoding="utf-8")
    output = build_target(tmp_path, "SyncFunction", check=False)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in output
    assert not list((tmp_path / "out").iterdir())


def test_wheel_contains_only_the_reader(tmp_path: Path) -> None:
    """With its type marker, and dependencies only as extras."""
    copy_sources(tmp_path)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "README.md").write_text("# flagstore\n", encoding="utf-8")
    run(
        *(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"),
        cwd=tmp_path,
    )
    (wheel,) = (tmp_path / "dist").glob("*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
    (info,) = (tmp_path / "wheel").glob("*.dist-info")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    shutil.rmtree(info)
    packed = contents(tmp_path / "wheel")
    source = contents(tmp_path / "src" / "flagstore")
    assert packed == {f"flagstore/{name}": content for name, content in source.items()}
    assert "flagstore/py.typed" in packed
    needed = re.findall(r"^Requires-Dist: .*?(?:; extra == '(\w+)')?$", metadata, re.MULTILINE)
    adapters = (tmp_path / "src" / "flagstore" / "adapters").glob("[!_]*.py")
    assert sorted(needed) == sorted(path.stem for path in adapters)
    assert "Requires-Python: >=3.11" in metadata


def test_bill_of_materials_lists_every_pin() -> None:
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
