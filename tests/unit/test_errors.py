"""The errors of both packages are two trees."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import flagstore.errors
import storesync.errors
from flagstore.errors import FlagstoreError
from storesync.errors import StoreSyncError

SOURCES = Path(__file__).resolve().parents[2] / "src"


def test_one_error_tree_per_package() -> None:
    """Catching the root catches all."""
    found = [
        (path.relative_to(SOURCES).as_posix(), node.name)
        for path in sorted(SOURCES.rglob("*.py"))
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
