"""Links, targets, tests and variables that the pages name exist, and every page can be reached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from local.providers import PROVIDERS
from local.stores import STORES
from storesync import providers, sources
from tests.docs.pages import REPOSITORY, all_pages, anchors, links, read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PAGES = all_pages()
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
EXTERNAL = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/\S*)?|mailto:\S+@\S+")
MAKE = re.compile(r"\bmake ([a-z.][a-z0-9.-]*)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w.]+)`")
VARIABLE = re.compile(r"\bFLAGSTORE_[A-Z0-9_]+")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """To a file, and to a heading where it names one; others' addresses at least look like some."""
    wrong = [link for link in links(page) if not _leads_somewhere(page, link)]
    assert not wrong, f"{page} has links that lead nowhere: {wrong}"


def _leads_somewhere(page: str, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return EXTERNAL.fullmatch(link) is not None
    target, _, anchor = link.partition("#")
    path = (REPOSITORY / page).parent.joinpath(target).resolve() if target else REPOSITORY / page
    if not path.exists() or not path.is_relative_to(REPOSITORY):
        return False
    if not anchor:
        return True
    return path.suffix == ".md" and anchor in anchors(path.relative_to(REPOSITORY).as_posix())


def test_every_page_can_be_reached() -> None:
    """Whoever begins with README comes to each from link to link."""
    reached, waiting = {"README.md"}, ["README.md"]
    while waiting:
        here = waiting.pop()
        for link in links(here):
            path = (REPOSITORY / here).parent.joinpath(link.partition("#")[0]).resolve()
            found = path.relative_to(REPOSITORY).as_posix() if path.suffix == ".md" else here
            if found not in reached and path.exists():
                reached.add(found)
                waiting.append(found)
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    """What a page says to type, `make` knows."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    environments = re.findall(r"^ENVIRONMENTS := (.*)", makefile, re.MULTILINE)
    known = {*re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE), *environments[0].split()}
    assert {name for code in CODE.findall(read(page)) for name in MAKE.findall(code)} <= known


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """By file and function: what shows a claim is still there."""
    for file, name in TEST.findall(read(page)):
        path = REPOSITORY / file
        assert path.exists(), file
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", path.read_text("utf-8")), name


def test_every_threat_has_its_tests() -> None:
    """Each row of the threat model names what is done, and what shows it."""
    text = read("SECURITY.md").partition("## Threats")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 20
    assert [row[0] for row in rows if not (len(row) == 3 and row[1] and TEST.search(row[2]))] == []


def test_every_variable_is_documented_and_none_is_made_up() -> None:
    """What the sources read, a page or the template names; what those name, the sources read."""
    read_by_code = variables((REPOSITORY / "src").rglob("*.py"))
    assert "FLAGSTORE_TABLE" in read_by_code
    named = variables(REPOSITORY / page for page in [*PAGES, "template.yaml"])
    assert named == read_by_code


def variables(paths: Iterable[Path]) -> set[str]:
    """Return the variables that files name."""
    return {name for path in paths for name in VARIABLE.findall(path.read_text("utf-8"))}


def test_everything_can_be_shown() -> None:
    """`make run` knows every provider and every store."""
    titles = {name: providers.get(name).title for name in providers.names()}
    assert {name: make().title for name, make in PROVIDERS.items()} == titles
    assert set(STORES) == set(sources.STORES)
