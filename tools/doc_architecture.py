"""Draws docs/architecture.md's picture from the real imports: which group of modules needs which.

`make docs` writes it, with the other parts (:mod:`tools.doc_figures`).
An arrow is an import at run time, at the top of a module or within a function; what is imported
for types alone (``TYPE_CHECKING``) is none. An arrow that a chain of others implies is left out.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import grimp

from tools.markdown import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGES = ("flagstore", "storesync")


class Group(NamedTuple):
    """A box of the picture."""

    package: str
    name: str
    says: str
    """What its modules are for."""
    modules: tuple[str, ...]
    """Without their package; ``stores.*`` is all in a package that no other group names, itself
    included; the package's own ``__init__`` is a dot."""

    @property
    def id(self) -> str:
        """What the picture calls it."""
        return f"{self.package}_{self.name.replace(' ', '_')}"


def _group(package: str, name: str, says: str, modules: str) -> Group:
    return Group(package, name, says, tuple(modules.split()))


GROUPS = (
    _group(
        "flagstore",
        "for applications",
        "adapters to OpenFeature and the providers' SDKs, fakes for tests, a metric of age",
        "adapters.* testing pytest_plugin emf",
    ),
    _group(
        "flagstore",
        "client",
        "what people call; from what an engine says to the type they asked for",
        ". reader flags overrides typed",
    ),
    _group("flagstore", "evaluation", "one engine a provider, pure", "evaluation.*"),
    _group(
        "flagstore",
        "loading",
        "one flag set in memory: when to ask, when to give up, what to keep",
        "loading parts published",
    ),
    _group("flagstore", "stores", "reading DynamoDB, Redis or a file, lean", "stores.*"),
    _group(
        "flagstore",
        "format",
        "names of keys, records, the body; pure, and shared with the writer",
        "layout body encoding snapshot documents errors",
    ),
    _group("storesync", "cli", "the command line for operators, in no function", "cli.*"),
    _group(
        "storesync",
        "functions",
        "the two handlers, their INIT and settings, how an outcome is told",
        ". webhook sync initialization reporting settings",
    ),
    _group(
        "storesync",
        "configuration",
        "what the SSM parameters say; what an event rings",
        "sources fields parameters events",
    ),
    _group(
        "storesync",
        "pipeline",
        "when to fetch, whom to believe, what to refuse; rollback and pins",
        "pipeline patience guard rollback",
    ),
    _group(
        "storesync",
        "publishing",
        "every step that changes a store, under its fence; history, rows, pieces that expire",
        "publisher expiry projection readback retention",
    ),
    _group("storesync", "stores", "DynamoDB and Redis: atomic steps, no rules", "stores.*"),
    _group("storesync", "rows", "a flag set as rows, pure", "rows split_rows"),
    _group(
        "storesync",
        "providers",
        "one provider a file: its webhooks, its answers",
        "providers.* signature",
    ),
    _group(
        "storesync",
        "way out",
        "one HTTP request with deadline, caps and refused addresses",
        "http watchdog addresses answers bodies",
    ),
    _group("storesync", "logs", "log, metrics, secrets blotted out", "observability redaction"),
    _group(
        "storesync",
        "terms",
        "the data, protocols and errors that cross borders",
        "model errors budget stores.base providers.base",
    ),
)


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """Return each of our modules and which of ours it imports at run time."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    return {
        module: frozenset(graph.find_modules_directly_imported_by(module))
        for module in sorted(graph.modules)
    }


def holders(module: str) -> list[Group]:
    """Return the groups that a module is in; by its own name before by its package's."""
    package, _, rest = module.partition(".")
    rest = rest or "."
    of_package = [group for group in GROUPS if group.package == package]
    return [group for group in of_package if rest in group.modules] or [
        group
        for group in of_package
        for pattern in group.modules
        if pattern.endswith(".*") and f"{rest}.".startswith(pattern.removesuffix("*"))
    ]


def holder(module: str) -> Group:
    """Return the one group that a module is in.

    Raises:
        LookupError: it is in none, or in several; the message says what to do.
    """
    found = holders(module)
    if len(found) != 1:
        message = (
            f"{module} is in {len(found)} boxes of tools/doc_architecture.py::GROUPS: put it "
            "into one, and into a layer in pyproject.toml"
        )
        raise LookupError(message)
    return found[0]


def arrows() -> dict[Group, set[Group]]:
    """Return which group imports which, as all imports say."""
    found: dict[Group, set[Group]] = {group: set() for group in GROUPS}
    for module, others in imports().items():
        group = holder(module)
        found[group] |= {holder(other) for other in others} - {group}
    return found


def reachable(edges: Mapping[Group, set[Group]], start: Group) -> set[Group]:
    """Return what a group comes to, over any number of arrows."""
    seen: set[Group] = set()
    ahead = [start]
    while ahead:
        new = edges[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


def reduced(edges: Mapping[Group, set[Group]]) -> dict[Group, set[Group]]:
    """Return the arrows that no chain of others implies; there are no circles."""
    return {
        group: {
            other
            for other in others
            if not any(other in reachable(edges, between) for between in others - {other})
        }
        for group, others in edges.items()
    }


def picture() -> str:
    """Return the picture, as Mermaid."""
    mark = "<!-- run by tests/docs/test_architecture.py::test_the_picture_is_drawn_anew -->"
    return "\n".join([mark, "```mermaid", *_lines(), "```"])


def _lines() -> Iterator[str]:
    yield "flowchart TD"
    for package in reversed(PACKAGES):
        yield f"  subgraph {package}"
        for group in GROUPS:
            if group.package == package:
                yield f'    {group.id}["{group.name}"]'
        yield "  end"
    for group, others in reduced(arrows()).items():
        if others:
            ends = " & ".join(sorted(other.id for other in others))
            yield f"  {group.id} --> {ends}"


def boxes() -> str:
    """Return what is in each box."""
    rows = [
        (
            f"`{group.package}` {group.name}",
            group.says,
            " ".join("`__init__`" if name == "." else f"`{name}`" for name in group.modules),
        )
        for group in GROUPS
    ]
    return table(("box", "is for", "modules"), rows)


def parts() -> dict[str, str]:
    """Return the generated parts of the page, by name."""
    return {"imports": picture(), "boxes": boxes()}
