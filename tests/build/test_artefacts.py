"""The output of `sam build`: complete, and without local files."""

from __future__ import annotations

import io
import marshal
import os
import re
import shutil
import stat
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import REPOSITORY, Build, copy_sources, run, sam_environment

if TYPE_CHECKING:
    from types import CodeType

pytestmark = pytest.mark.build

FUNCTIONS = ("WebhookFunction", "SyncFunction")
ARTEFACTS = (*FUNCTIONS, "FlagstoreLayer")
ON_AWS = {
    "WebhookFunction": "/var/task/",
    "SyncFunction": "/var/task/",
    "FlagstoreLayer": "/opt/python/",
}

PYC_HEADER = 16
UNCHECKED_HASH = 0b01

MIB = 1024 * 1024
MOST_ZIPPED = 10 * MIB
MOST_UNZIPPED = 35 * MIB

# The functions' calls of botocore, to a local server in place of AWS.
CLIENTS = """
import sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

sys.path.insert(0, sys.argv[1])
import boto3, botocore

RESPONSES = {
    "DynamoDB_20120810.GetItem": b'{"Item": {"key": {"S": "state"}}}',
    "DynamoDB_20120810.TransactWriteItems": b"{}",
    "AmazonSQS.SendMessage": b'{"MessageId": "1", "MD5OfMessageBody": "%s"}',
    "AmazonSSM.GetParametersByPath": b'{"Parameters": [{"Name": "/f/prod", "Value": "v"}]}',
}
RESPONSES["AmazonSQS.SendMessage"] %= b"415290769594460e2e485922904f345d"


class Aws(BaseHTTPRequestHandler):
    def do_POST(self):
        body = RESPONSES[self.headers["X-Amz-Target"]]
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Aws)
threading.Thread(target=server.serve_forever, daemon=True).start()
keys = dict(region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
url = "http://127.0.0.1:%d" % server.server_port

dynamodb = boto3.client("dynamodb", endpoint_url=url, **keys)
key = {"namespace": {"S": "prod:$state"}, "key": {"S": "state"}}
assert dynamodb.get_item(TableName="t", Key=key)["Item"] == {"key": {"S": "state"}}
dynamodb.transact_write_items(TransactItems=[{"Delete": {"TableName": "t", "Key": key}}])
sqs = boto3.client("sqs", endpoint_url=url, **keys)
assert sqs.send_message(QueueUrl=url + "/1/q", MessageBody="y")["MessageId"] == "1"
ssm = boto3.client("ssm", endpoint_url=url, **keys)
pages = list(ssm.get_paginator("get_parameters_by_path").paginate(Path="/f"))
assert pages[0]["Parameters"][0]["Value"] == "v"

for name in ("dynamodb", "sqs", "ssm", "sts"):
    found = boto3.client(name, **keys).meta.endpoint_url
    assert found == "https://%s.eu-west-1.amazonaws.com" % name, found
print(boto3.__file__, botocore.__file__)
"""


def files(folder: Path) -> dict[str, Path]:
    """Return all files below a folder by their relative names."""
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def python(code: str, *arguments: str | Path) -> str:
    """Run code in a bare interpreter: standard library only, no settings of this machine."""
    return run(sys.executable, "-I", "-S", "-B", "-c", code, *arguments, environment={}).stdout


def code_of(compiled: Path) -> CodeType:
    """Return the code object of a .pyc file."""
    code: CodeType = marshal.loads(compiled.read_bytes()[PYC_HEADER:])  # noqa: S302 - our build's
    return code


def test_functions_have_the_same_content(build: Build) -> None:
    """Only the handler differs."""
    webhook, sync = (files(build.artefact(name)) for name in FUNCTIONS)
    assert {name: path.read_bytes() for name, path in webhook.items()} == {
        name: path.read_bytes() for name, path in sync.items()
    }


def test_command_line_is_not_packed(build: Build) -> None:
    """Neither it nor its dependencies."""
    for name in ARTEFACTS:
        assert [each for each in files(build.artefact(name)) if "storesync/cli/" in each] == []
        assert not list(build.artefact(name).rglob("click"))
    shipped = {each for each in files(build.source / "storesync") if each.endswith(".py")}
    assert any(each.startswith("cli/") for each in shipped)


def test_reader_is_identical_everywhere(build: Build) -> None:
    """All copies of flagstore are its source, so writer and readers agree on the layout."""
    source = {
        name: path.read_bytes()
        for name, path in files(build.source / "flagstore").items()
        if not name.endswith(".pyc")
    }
    copies = [build.artefact(name) / "flagstore" for name in FUNCTIONS]
    copies.append(build.artefact("FlagstoreLayer") / "python" / "flagstore")
    for copy in copies:
        found = {n: p.read_bytes() for n, p in files(copy).items() if not n.endswith(".pyc")}
        assert found == source


def test_layer_contains_only_the_reader(build: Build) -> None:
    """It brings no other package into a function."""
    layer = build.artefact("FlagstoreLayer")
    assert [path.name for path in layer.iterdir()] == ["python"]
    assert [path.name for path in (layer / "python").iterdir()] == ["flagstore"]


@pytest.mark.parametrize("name", ARTEFACTS)
def test_modules_are_compiled(build: Build, name: str) -> None:
    """Each .py has a .pyc that Python 3.13 uses without checking the source."""
    folder = build.artefact(name)
    modules = [path for path in folder.rglob("*.py") if path.stat().st_size]
    assert modules
    for module in modules:
        compiled = module.parent / "__pycache__" / f"{module.stem}.cpython-313.pyc"
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == UNCHECKED_HASH, compiled
    # Where something below may differ, a source: reading all 700 takes seconds for nothing.
    for module in folder.rglob("flagstore/**/*.py"):
        compiled = module.parent / "__pycache__" / f"{module.stem}.cpython-313.pyc"
        within = module.relative_to(folder / "python" if name == "FlagstoreLayer" else folder)
        assert code_of(compiled).co_filename == f"{ON_AWS[name]}{within}"


@pytest.mark.parametrize("name", ARTEFACTS)
def test_nothing_of_this_machine_is_packed(build: Build, name: str) -> None:
    """No file names a local folder or runs on one architecture only."""
    folder = build.artefact(name)
    found = files(folder)
    paths = [str(build.home), str(REPOSITORY), sys.base_prefix]
    machine = re.compile(b"|".join(re.escape(path.encode()) for path in paths if path != "/usr"))
    assert [each for each, path in found.items() if machine.search(path.read_bytes())] == []
    assert [each for each in found if re.search(r"\.(so|pyd|dylib)$|(^|/)(bin|tests)/", each)] == []
    assert [each for each in found if re.search(r"(^|/)\.|RECORD$|direct_url", each)] == []
    assert not {"Makefile", "requirements.txt", "requirements.in"} & set(found)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_files_are_readable_on_lambda(build: Build, name: str) -> None:
    """A private umask of the builder makes no difference."""
    for path in build.artefact(name).rglob("*"):
        assert path.stat().st_mode & stat.S_IROTH, path


@pytest.mark.parametrize(
    ("name", "module"),
    [("SyncFunction", "storesync.sync"), ("WebhookFunction", "storesync.webhook")],
)
def test_functions_contain_their_imports(build: Build, name: str, module: str) -> None:
    """The handler's module imports with the artefact and the standard library alone."""
    folder = build.artefact(name)
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]);"
        "print(importlib.import_module(sys.argv[2]).__file__);"
        "import redis, requests; print(redis.__file__, requests.__file__)"
    )
    printed = python(code, folder, module).split()
    assert all(Path(path).is_relative_to(folder) for path in printed)
    assert len(printed) == 3


def test_trimmed_botocore_works(build: Build) -> None:
    """DynamoDB, SQS, SSM and STS need none of the removed files."""
    folder = build.artefact("SyncFunction")
    printed = python(CLIENTS, folder).split()
    assert all(Path(path).is_relative_to(folder) for path in printed)


def test_layer_needs_only_python(build: Build) -> None:
    """The reader imports with the standard library alone."""
    folder = build.artefact("FlagstoreLayer") / "python"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import flagstore; print(flagstore.__file__)"
    )
    assert Path(python(code, folder).strip()).is_relative_to(folder)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_artefact_sizes(build: Build, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Dead weight of an updated dependency is noticed."""
    packed = io.BytesIO()
    unzipped = 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, path in sorted(files(build.artefact(name)).items()):
            archive.write(path, each)
            unzipped += path.stat().st_size
    zipped = len(packed.getvalue())
    with capsys.disabled():
        print(f"\n  {name}: {unzipped / MIB:.1f} MiB, zipped {zipped / MIB:.1f} MiB ", end="")
    assert zipped < MOST_ZIPPED
    assert unzipped < MOST_UNZIPPED


def test_wrong_hash_stops_the_build(tmp_path: Path) -> None:
    """A package that was replaced in a registry is not installed."""
    copy_sources(tmp_path)
    requirements = tmp_path / "src" / "requirements.txt"
    pinned = requirements.read_text(encoding="utf-8")
    start = pinned.index("six==")
    end = pinned.index("==", start + len("six=="))
    swapped = re.sub(r"sha256:\w{8}", "sha256:00000000", pinned[start:end])
    requirements.write_text(pinned[:start] + swapped + pinned[end:], encoding="utf-8")
    done = run(
        *("make", "-C", tmp_path / "src", f"ARTIFACTS_DIR={tmp_path / 'out'}"),
        "build-SyncFunction",
        environment=sam_environment(),
        check=False,
    )
    assert done.returncode
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stdout


def test_compiled_files_ignore_time_stamps(build: Build, tmp_path: Path) -> None:
    """They are used whatever the sources' times on AWS."""
    folder = tmp_path / "task"
    shutil.copytree(build.artefact("FlagstoreLayer") / "python", folder)
    for path in folder.rglob("*.py"):
        os.utime(path, (time.time(), 315532800))  # 1980, where zip files begin
    code = "import sys; sys.path.insert(0, sys.argv[1]); import flagstore; print(flagstore.client)"
    output = run(sys.executable, "-I", "-S", "-B", "-v", "-c", code, folder, environment={}).stdout
    assert f"matches {folder}" in output
    assert "code object from" in output
    assert not re.search(rf"# code object from '{folder}/\S+\.py'", output)


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
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA")))
        source = {
            f"flagstore/{name}": path.read_bytes()
            for name, path in files(tmp_path / "src" / "flagstore").items()
        }
        packed = {name: archive.read(name) for name in names if ".dist-info/" not in name}
    assert packed == source
    assert "flagstore/py.typed" in packed
    assert wheel.name.endswith("-py3-none-any.whl")
    needed = re.findall(rb"^Requires-Dist: .*?(?:; extra == '(\w+)')?$", metadata, re.MULTILINE)
    adapters = {path.stem for path in (tmp_path / "src" / "flagstore" / "adapters").glob("*.py")}
    extras = adapters - {"__init__"}
    assert sorted(name.decode() for name in needed) == sorted(extras)
    assert b"Requires-Python: >=3.11" in metadata
