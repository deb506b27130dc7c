"""docs/architecture.md names what exists, and import-linter's contracts can be broken.

The picture is drawn from the real imports; each module has its box.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import flagstore.errors
import storesync.errors
from flagstore.errors import FlagstoreError
from storesync.errors import StoreSyncError
from tools.doc_architecture import (
    GROUPS,
    arrows,
    holder,
    holders,
    imports,
    parts,
    reachable,
    reduced,
)
from tools.markdown import replaced

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w./-]+)::([\w.-]+)`")
PATH = re.compile(r"`([\w./-]+(?:\.(?:py|yaml|toml|md|json)|/))`")
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = [each["id"] for each in PYPROJECT["tool"]["importlinter"]["contracts"]]

PLANTED = [
    ("reader-alone", "flagstore.layout", "import storesync.errors"),
    ("pure", "flagstore.evaluation.split_matchers", "import os"),
    ("pure", "flagstore.encoding", "from flagstore.stores.dynamodb import IDLE_S"),
    ("pure", "storesync.guard", "def late():\n    import boto3"),
    ("pure", "storesync.retention", "import time"),
    ("handed-in", "storesync.pipeline", "from storesync.stores import dynamodb"),
    ("handed-in", "storesync.publisher", "import storesync.observability"),
    ("layers-flagstore", "flagstore.layout", "import flagstore.reader"),
    ("layers-flagstore", "flagstore.loading", "import flagstore.testing"),
    ("layers-flagstore", "flagstore.somewhere", "the module is in no layer"),
    ("layers-storesync", "storesync.sync", "import storesync.cli.screen"),
    ("layers-storesync", "storesync.publisher", "import storesync.pipeline"),
    ("layers-storesync", "storesync.somewhere", "the module is in no layer"),
    ("engines", "flagstore.evaluation.unleash_flags", "import flagstore.evaluation.split"),
    ("engines", "flagstore.evaluation.base", "import flagstore.evaluation.split"),
    ("providers", "storesync.providers.unleash", "import storesync.providers.split_api"),
    ("providers", "storesync.providers.common", "import storesync.providers.split"),
    ("adapters", "flagstore.adapters.split", "import flagstore.adapters.unleash"),
    ("reader-stores", "flagstore.stores.redis_layout", "import flagstore.stores.sigv4"),
    ("writer-stores", "storesync.stores.redis_rows", "import storesync.stores.dynamodb"),
    ("third-parties", "flagstore.reader", "def late():\n    import boto3"),
    ("third-parties", "storesync.pipeline", "import numpy"),
    ("third-parties", "storesync.answers", "import socket"),
]


def file_of(name: str) -> Path:
    """Return the file that a page names: from the repository's root, or a module's from src."""
    found = [path for path in (REPOSITORY / name, REPOSITORY / "src" / name) if path.exists()]
    assert found, f"{name} does not exist"
    return found[0]


@cache
def symbols(path: Path) -> frozenset[str]:
    """Return what can be named in a file: what Python defines, targets, resources, contracts."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return frozenset(defined(ast.parse(text).body, ""))
    if path.name == "pyproject.toml":
        return frozenset(CONTRACTS)
    return frozenset(re.findall(r"^ {0,2}([\w-]+):", text, re.MULTILINE))


def defined(body: list[ast.stmt], prefix: str) -> set[str]:
    """Return names of functions, classes, their members, and constants."""
    names: set[str] = set()
    for node in body:
        match node:
            case ast.ClassDef(name=name):
                names |= {prefix + name} | defined(node.body, f"{prefix}{name}.")
            case ast.If(body=within):  # TYPE_CHECKING
                names |= defined(within, prefix)
            case ast.FunctionDef(name=name):
                names.add(prefix + name)
            case ast.Assign(targets=targets):
                names |= {prefix + each.id for each in targets if isinstance(each, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(prefix + name)
    return names


@pytest.mark.parametrize(("file", "symbol"), sorted(set(NAMED.findall(PAGE))))
def test_every_place_that_is_named_exists(file: str, symbol: str) -> None:
    """Whoever moves or renames something is led to the page."""
    assert symbol in symbols(file_of(file))


@pytest.mark.parametrize("file", sorted(set(PATH.findall(PAGE))))
def test_every_file_that_is_named_exists(file: str) -> None:
    """The same for files and folders without a symbol."""
    assert file_of(file)


def test_the_page_names_places() -> None:
    """The two tests above see what they are to check."""
    assert len(NAMED.findall(PAGE)) > 100
    assert len(PATH.findall(PAGE)) > 20


def guards() -> list[str]:
    """Return what the page promises to guard or show something, as pytest would be given it."""
    columns: list[str] = []
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        head, _, *rows = [line.strip("|\n ").split(" | ") for line in table.splitlines()]
        for name in {"guarded by", "shown by"} & set(head):
            columns += [row[head.index(name)] for row in rows]
    columns += re.findall(r"Guarded by ((?:.|\n)*?);", PAGE)
    return [each for column in columns for each in re.findall(r"`(tests/[^`]+)`", column)]


@pytest.mark.parametrize("guard", sorted(set(guards())))
def test_what_is_promised_to_guard_is_run(guard: str) -> None:
    """A guard is a file that pytest collects, a folder of such, or a contract that others keep."""
    file, _, symbol = guard.partition("::")
    contract = file.endswith("_contract.py") and re.match(r"\w+Contract\b", symbol)
    assert contract or file.endswith("/") or Path(file).match("test_*.py"), guard
    assert re.fullmatch(r"(\w+Contract(\.|$))?(test_\w+)?", symbol), guard


def test_the_page_names_guards() -> None:
    """The test above sees those of both tables, and of the box between them."""
    found = guards()
    assert len(found) > 50
    assert "tests/build/test_release.py::test_the_newest_entry_names_the_layout" in found
    assert "tests/torture/test_storm.py" in found


def test_a_module_without_a_box_is_named() -> None:
    """Whoever adds a module is told its name, and the two places that want it."""
    with pytest.raises(LookupError, match=r"^storesync.somewhere is in 0 boxes .*pyproject.toml$"):
        holder("storesync.somewhere")


def test_every_module_is_in_one_box() -> None:
    """A new module needs a place in the picture, and what went leaves it."""
    for module in imports():
        holder(module)  # raises an error that names the module and what to do
    ours = {(group.package, name.removesuffix(".*")) for group in GROUPS for name in group.modules}
    named = {f"{package}.{name}".rstrip(".") for package, name in ours}
    assert named <= set(imports())


def test_the_arrows_say_what_imports_say() -> None:
    """No circles; and the arrows that are left out are those that others imply."""
    every, shown = arrows(), reduced(arrows())
    assert not [group for group in GROUPS if group in reachable(every, group)]
    assert {group: reachable(shown, group) for group in GROUPS} == {
        group: reachable(every, group) for group in GROUPS
    }


@pytest.mark.parametrize("name", ["imports", "boxes"])
def test_the_picture_is_drawn_anew(name: str) -> None:
    """Whoever changes imports runs `make docs`."""
    assert replaced(PAGE, name, parts()[name]) == PAGE


def test_arrows_are_drawn_from_each_import() -> None:
    """An arrow stands for an import of a module in one box by a module in the other."""
    for group, others in arrows().items():
        own = [module for module in imports() if holders(module) == [group]]
        needed = {holders(each)[0] for module in own for each in imports()[module]}
        assert needed - {group} == others


def test_errors_are_one_tree_a_package() -> None:
    """Who catches the root has caught them all.

    What is private or an engine's never gets out, and the command line has problems for a person.
    """
    found = [
        (path.relative_to(REPOSITORY / "src").as_posix(), node.name)
        for path in sorted((REPOSITORY / "src").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(re.search("(Exception|Error)$", ast.unparse(base)) for base in node.bases)
    ]
    elsewhere = [
        (name, kind)
        for name, kind in found
        if not name.endswith("/errors.py")
        and not name.startswith(("flagstore/evaluation/", "storesync/cli/"))
        and not kind.startswith("_")
    ]
    assert elsewhere == []
    for module, root in ((flagstore.errors, FlagstoreError), (storesync.errors, StoreSyncError)):
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type)]
        ours = [kind for kind in kinds if kind.__module__ == module.__name__]
        assert len(ours) > 5
        assert [kind for kind in ours if not issubclass(kind, root)] == []


def lint(source: Path, contract: str) -> subprocess.CompletedProcess[str]:
    """Let import-linter check one contract over a folder of packages."""
    tool = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [tool, "--no-logo", "--no-cache", "--contract", contract],
        cwd=REPOSITORY,
        env={"PATH": os.defpath, "PYTHONPATH": str(source), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of both packages."""
    source = tmp_path_factory.mktemp("planted") / "src"
    shutil.copytree(REPOSITORY / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    return source


@pytest.mark.parametrize(("contract", "module", "code"), PLANTED)
def test_a_planted_import_is_found(copy: Path, contract: str, module: str, code: str) -> None:
    """Each contract names the module that breaks it, and is kept without."""
    path = copy.joinpath(*module.split(".")).with_suffix(".py")
    before = path.read_text(encoding="utf-8") if path.exists() else None
    try:
        path.write_text(f"{before or ''}\n{code if before else f'# {code}'}\n", encoding="utf-8")
        done = lint(copy, contract)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    _, _, broken = done.stdout.partition("Broken contracts")
    assert module in broken, done.stdout + done.stderr


def test_every_contract_was_broken_once() -> None:
    """A new contract needs an import that breaks it, in the list above."""
    assert {contract for contract, _, _ in PLANTED} == set(CONTRACTS)


def test_without_a_planted_import_all_are_kept(copy: Path) -> None:
    """What the test above finds is what it planted."""
    for contract in CONTRACTS:
        assert lint(copy, contract).returncode == 0


def test_an_entry_that_nobody_needs_is_found(copy: Path) -> None:
    """The list of what may be imported from elsewhere does not outlive its reasons."""
    path = copy / "flagstore" / "pytest_plugin.py"
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text("", encoding="utf-8")
        done = lint(copy, "third-parties")
    finally:
        path.write_text(before, encoding="utf-8")
    assert done.returncode == 1
    assert "flagstore.pytest_plugin may import pytest, but does not" in done.stdout
