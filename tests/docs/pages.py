"""The pages of this repository: their fenced blocks with their marks, their headings, their links.

A mark is a line of its own right before a block, or right under the page's title for all of its
blocks:

``<!-- run by tests/docs/test_x.py::test_y -->``  that test takes the block from the page
``<!-- needs AWS: why -->``                       it cannot run here; whatever word, and a reason
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([^`]*?)\s*$")
RUN_BY = re.compile(r"<!-- run by (tests/[\w/]+\.py)::(\w+) -->")
NEEDS = re.compile(r"<!-- needs ([A-Z]\w*(?: \w+)*): (\S.*?) -->")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?\s*$", re.MULTILINE)
PICTURE = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\"([^\"]+)\"")


@dataclass(frozen=True)
class RunBy:
    """A test that takes a block from its page and runs it."""

    file: str
    test: str


@dataclass(frozen=True)
class Needs:
    """What a block would need to run, and why it is not to be had here."""

    what: str
    why: str


type Mark = RunBy | Needs


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its info string, and what it holds."""

    page: str
    line: int
    kind: str
    text: str
    mark: Mark | None
    trouble: str = ""
    """Why what should be a mark is none."""

    @property
    def place(self) -> str:
        """Where it is, as editors and terminals understand it."""
        return f"{self.page}:{self.line}"


def all_pages() -> list[str]:
    """Return the paths of all pages, as from the repository's root."""
    patterns = ("*.md", "docs/*.md", "events/*.md", "examples/**/*.md")
    found = {path for pattern in patterns for path in REPOSITORY.glob(pattern)}
    return sorted(
        path.relative_to(REPOSITORY).as_posix()
        for path in found
        if not {"node_modules", ".aws-sam"} & set(path.parts)
    )


def read(page: str) -> str:
    """Return a page's text."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, in its order."""
    lines = (read(page) if text is None else text).splitlines()
    found: list[Block] = []
    whole_page = _page_mark(lines)
    position = 0
    while position < len(lines):
        opened = FENCE.match(lines[position])
        if not opened:
            position += 1
            continue
        end = _end_of_fence(lines, position, opened[1])
        if end is None:
            problem = "the block is never closed"
            found.append(Block(page, position + 1, opened[2], "", None, problem))
            break
        mark, trouble = _mark(_line_before(lines, position))
        # In a list, a block is as far in as its fence.
        margin = " " * (len(lines[position]) - len(lines[position].lstrip()))
        content = "".join(f"{each.removeprefix(margin)}\n" for each in lines[position + 1 : end])
        kind = opened[2].split()[0] if opened[2] else ""
        found.append(Block(page, position + 1, kind, content, mark or whole_page, trouble))
        position = end + 1
    return found


def _end_of_fence(lines: list[str], start: int, fence: str) -> int | None:
    closing = re.compile(rf"^\s*{re.escape(fence[0])}{{{len(fence)},}}\s*$")
    return next((n for n in range(start + 1, len(lines)) if closing.match(lines[n])), None)


def _line_before(lines: list[str], position: int) -> str:
    """Return what stands before a block, an empty line between them or not."""
    above = lines[max(position - 2, 0) : position]
    return next((line for line in reversed(above) if line.strip()), "")


def _mark(line: str) -> tuple[Mark | None, str]:
    """Return the mark on a line, or why a comment that looks like one is none."""
    line = line.strip()
    if found := RUN_BY.fullmatch(line):
        return RunBy(found[1], found[2]), ""
    if found := NEEDS.fullmatch(line):
        return Needs(found[1], found[2]), ""
    if re.match(r"<!--\s*(run|needs)\b", line, re.IGNORECASE):
        return None, f"no such mark: {line}"
    return None, ""


def _page_mark(lines: list[str]) -> Mark | None:
    """Return the mark right under the title, unless it is the first block's."""
    title = next((n for n, line in enumerate(lines) if line.startswith("# ")), None)
    if title is None:
        return None
    rest = [line for line in lines[title + 1 :] if line.strip()]
    if not rest:
        return None
    follows = rest[1] if len(rest) > 1 else ""
    return None if FENCE.match(follows) else _mark(rest[0])[0]


def marks(page: str) -> int:
    """Return how many lines of a page look like marks."""
    return len(
        re.findall(r"^\s*<!--\s*(?:run by|needs)\b.*$", read(page), re.MULTILINE | re.IGNORECASE)
    )


def without_blocks(page: str) -> list[str]:
    """Return the lines of a page that are in no fenced block."""
    kept: list[str] = []
    lines = read(page).splitlines()
    position = 0
    while position < len(lines):
        opened = FENCE.match(lines[position])
        end = _end_of_fence(lines, position, opened[1]) if opened else None
        if end is None:
            kept.append(lines[position])
        position = position + 1 if end is None else end + 1
    return kept


def prose(page: str) -> str:
    """Return a page without its fenced blocks and without code within its lines."""
    # Code spans with one or two backticks; what is left of them keeps a link's text non-empty.
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "code", "\n".join(without_blocks(page)))


def anchors(page: str) -> set[str]:
    """Return the anchors of a page: GitHub's slugs of its headings, and names that HTML gives."""
    seen: dict[str, int] = {}
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", read(page)))
    for heading in headings(page):
        made = slug(heading)
        number = seen.get(made, 0)
        seen[made] = number + 1
        found.add(f"{made}-{number}" if number else made)
    return found


def headings(page: str) -> list[str]:
    """Return the headings of a page, as they are written."""
    return [found[1] for line in without_blocks(page) if (found := HEADING.match(line))]


def slug(heading: str) -> str:
    """Return GitHub's anchor of a heading: its text in lower case, without punctuation.

    Underscores stay, spaces become hyphens, one each; of links only the text counts.
    """
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"<[^>]+>|[*`]", "", text)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def links(page: str) -> list[str]:
    """Return the targets of all links and pictures of a page."""
    text = prose(page)
    return [*LINK.findall(text), *REFERENCE.findall(text), *PICTURE.findall(text)]
