"""Links resolve, and every page is reachable."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import REPOSITORY, all_pages, anchors, links

PAGES = all_pages()
EXTERNAL = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/\S*)?|mailto:\S+@\S+")


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    """Links lead to existing files and headings; external ones are well-formed addresses."""
    assert [link for link in links(page) if not _resolves(page, link)] == []


def _resolves(page: str, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return EXTERNAL.fullmatch(link) is not None
    target, _, anchor = link.partition("#")
    path = (REPOSITORY / page).parent.joinpath(target).resolve() if target else REPOSITORY / page
    if not path.exists() or not path.is_relative_to(REPOSITORY):
        return False
    if not anchor:
        return True
    return path.suffix == ".md" and anchor in anchors(path.relative_to(REPOSITORY).as_posix())


def test_every_page_is_reachable_from_readme() -> None:
    """By following links."""
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
