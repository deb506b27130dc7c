"""The pages of this repository: fenced blocks with their marks, anchors and links.

A mark is a comment above a block, or below the page's title for all of its blocks:

``<!-- run by tests/docs/test_x.py::test_y -->``  that test runs the block
``<!-- needs AWS: why -->``                       it is not run, for that reason
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = re.compile(r"<!-- (run by (?P<test>tests/[\w/]+\.py::\w+)|needs [A-Z]\w*( \w+)*: \S.*) -->")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    kind: str
    text: str
    mark: re.Match[str] | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def all_pages() -> list[str]:
    """Return the paths of all pages, relative to the repository's root."""
    patterns = ("*.md", "docs/*.md", "events/*.md", "examples/**/*.md")
    found = {path for pattern in patterns for path in REPOSITORY.glob(pattern)}
    return sorted(
        path.relative_to(REPOSITORY).as_posix()
        for path in found
        if not {"node_modules", ".aws-sam"} & set(path.parts)
    )


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


@cache
def tokens(page: str) -> Sequence[Token]:
    return MarkdownIt("commonmark").enable("table").parse(read(page))


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    of_page = _mark_of_page(page)
    for before, token in pairwise(tokens(page)):
        if token.type == "fence":
            line = (token.map or [0])[0] + 1
            kind = token.info.strip()
            found.append(Block(page, line, kind, token.content, _mark(before) or of_page))
    return found


def _mark_of_page(page: str) -> re.Match[str] | None:
    """Return the mark below the title, unless it belongs to the first block."""
    _open, _title, _close, first, second, *_ = tokens(page)
    return None if second.type == "fence" else _mark(first)


def _mark(token: Token) -> re.Match[str] | None:
    return MARK.fullmatch(token.content.strip()) if token.type == "html_block" else None


def anchors(page: str) -> set[str]:
    """Return the anchors of a page: GitHub's slugs of its headings."""
    seen: Counter[str] = Counter()
    found = set()
    for opening, token in pairwise(tokens(page)):
        if opening.type == "heading_open":
            kinds = {"text", "code_inline"}
            text = "".join(each.content for each in token.children or () if each.type in kinds)
            # Lower case, no punctuation, a hyphen for each space; a number if there are several.
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def links(page: str) -> list[str]:
    inline = [child for token in tokens(page) for child in token.children or ()]
    targets = [
        each.attrs.get({"link_open": "href", "image": "src"}.get(each.type, "")) for each in inline
    ]
    return [unquote(str(target)) for target in targets if target]
