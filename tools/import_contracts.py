"""Two kinds of contract that import-linter has not: families of modules, and third parties by name.

`[tool.importlinter]` in pyproject.toml says what they hold for; `make lint` checks them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from importlinter import Contract, ContractCheck, fields, output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grimp import ImportGraph


class _ImportContract(Contract):
    """A contract that judges each import by itself."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - as the others
        """Look at every import, and at what is configured for nothing."""
        problems = sorted(self.problems(graph))
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def problems(self, graph: ImportGraph) -> Iterator[str]:
        """Yield what is wrong, a line each."""
        raise NotImplementedError

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Say it."""
        for problem in check.metadata["problems"]:
            output.print_error(f"- {problem}")


class FamiliesContract(_ImportContract):
    """Modules of a package whose names begin alike are a family; families do not import others.

    ``split_api`` is of the family ``split``. Options: ``packages``; ``shared``: modules that all
    may import and that import no family; ``openers``: modules that may import all;
    ``families``: names that belong together though they begin differently, as one text.
    """

    packages = fields.SetField(subfield=fields.StringField())
    shared = fields.SetField(subfield=fields.StringField(), required=False, default=set())
    openers = fields.SetField(subfield=fields.StringField(), required=False, default=set())
    families = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def problems(self, graph: ImportGraph) -> Iterator[str]:
        """Yield imports from one family into another, and from what is shared into any."""
        for package in self._set("packages"):
            for module in graph.find_children(package):
                own = self._family(module)
                for imported in graph.find_modules_directly_imported_by(module):
                    if imported.rpartition(".")[0] == package and not self._may(
                        own, self._family(imported)
                    ):
                        yield _shown(graph, module, imported)

    def _may(self, own: str, other: str) -> bool:
        return own == other or other in self._set("shared") or own in self._set("openers")

    def _family(self, module: str) -> str:
        name = module.rpartition(".")[2]
        prefix = name if name in self._set("shared") else name.partition("_")[0]
        joined: Any = self.families
        return next((names for names in joined if prefix in names.split()), prefix)

    def _set(self, name: str) -> set[str]:
        values: set[str] = getattr(self, name)
        return values


class ThirdPartiesContract(_ImportContract):
    """Packages from elsewhere are imported where the list says so, and nowhere else.

    Options: ``allowed``: texts such as ``"flagstore.stores.aws: boto3 botocore"``, a module or
    all in a package (``storesync.cli.*``); ``counted``: modules of the standard library that are
    judged as well, because they reach out. An entry that nobody needs is a problem, too.
    """

    allowed = fields.ListField(subfield=fields.StringField())
    counted = fields.SetField(subfield=fields.StringField(), required=False, default=set())

    def problems(self, graph: ImportGraph) -> Iterator[str]:
        """Yield imports that no entry allows, and entries that allow what is not imported."""
        entries = {
            (module.strip(), package)
            for module, _, packages in (str(line).partition(":") for line in self._allowed())
            for package in packages.split()
        }
        used = set()
        roots = self.session_options["root_packages"]
        for importer in graph.modules:
            if importer.partition(".")[0] not in roots:
                continue
            for imported in graph.find_modules_directly_imported_by(importer):
                if not self._judged(imported, roots):
                    continue
                found = {(name, imported) for name in _covering(importer)} & entries
                used |= found
                if not found:
                    yield _shown(graph, importer, imported)
        for module, package in entries - used:
            yield f"{module} may import {package}, but does not: take it out of the list"

    def _judged(self, module: str, roots: list[str]) -> bool:
        root = module.partition(".")[0]
        if root in roots:
            return False
        counted: Any = self.counted
        return root in counted or root not in sys.stdlib_module_names

    def _allowed(self) -> list[str]:
        lines: Any = self.allowed
        return list(lines)


def _covering(module: str) -> Iterator[str]:
    yield module
    package = module
    while "." in package:
        package = package.rpartition(".")[0]
        yield f"{package}.*"


def _shown(graph: ImportGraph, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    lines = sorted({detail["line_number"] for detail in details})
    return f"{importer} -> {imported} (line {', '.join(map(str, lines))})"
