"""What becomes of every fenced block of the pages: what runs it, what checks it, what is wrong.

``make docs-blocks`` prints it.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from local.stand_in import REPOSITORY
from tests.docs.commands import SHELLS, parameter_problems, shell_problems
from tests.docs.pages import Block, Needs, RunBy, all_pages, blocks
from tests.docs.shell import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = "run"
BY_TEST = "run by a test"
PARSED = "parsed"
CHECKED = "checked, not run"
SHOWN = "shown"
NEEDS = "needs"
MARKED_ONLY = {
    "hcl",
    "typescript",
    "javascript",
    "js",
    "ts",
    "diff",
    "dockerfile",
    "ini",
    "mermaid",
}
"""Kinds that nothing here can judge by itself: a test of the page's own has to."""
KINDS = {"python", "json", "yaml", "toml", "text", *SHELLS, *MARKED_ONLY}
COMMAND = re.compile(
    r"^(?:\$ )?(?:make [a-z]|sam [a-z]|aws [a-z]|storesync [a-z]|pip install|git clone|redis-cli "
    r"|import \w+$|from \w[\w.]* import )",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a block, by what, and what is wrong with it; no problems: all is well."""

    block: Block
    fate: str
    detail: str
    problems: tuple[str, ...]


class TemplateLoader(yaml.SafeLoader):
    """Reads CloudFormation's short forms, such as !Sub, as their text."""


TemplateLoader.add_multi_constructor("!", lambda _loader, _suffix, node: node.value)


def all_verdicts() -> list[Verdict]:
    """Judge every block of every page."""
    return [judge(block) for page in all_pages() for block in blocks(page)]


def judge(block: Block) -> Verdict:
    """Say what becomes of a block."""
    problems = [block.trouble] if block.trouble else []
    if block.kind not in KINDS:
        what = f"of the kind {block.kind!r}" if block.kind else "without a kind"
        problems.append(
            f"a block {what}: say ```text for a picture or an output, or one of "
            f"{', '.join(sorted(KINDS - {'text'}))}"
        )
        return Verdict(block, SHOWN, "", tuple(problems))
    problems += content_problems(block)
    if isinstance(block.mark, RunBy):
        problems += mark_problems(block.page, block.mark)
        return Verdict(block, BY_TEST, f"{block.mark.file}::{block.mark.test}", tuple(problems))
    if isinstance(block.mark, Needs):
        detail = f"{block.mark.what}: {block.mark.why}"
        return Verdict(block, NEEDS, detail, tuple(problems))
    if block.kind in MARKED_ONLY:
        problems.append(
            f"nothing runs a block of {block.kind}: let a test take it from the page, and mark it "
            "<!-- run by tests/…::test_… -->, or say <!-- needs WHAT: why -->"
        )
    fates = dict.fromkeys(SHELLS, CHECKED) | {"python": RUN, "text": SHOWN}
    fate = fates.get(block.kind, PARSED)
    detail = _programs(block) if fate == CHECKED and not problems else ""
    return Verdict(block, fate, detail, tuple(problems))


def _programs(block: Block) -> str:
    """Return the programs that a block of shell calls."""
    return ", ".join(dict.fromkeys(each.name for each in commands(block) if each.name))


def content_problems(block: Block) -> list[str]:
    """Return what is wrong with what a block holds, without running it; also of marked ones."""
    if block.kind in SHELLS:
        return shell_problems(block)
    try:
        if block.kind == "python":
            ast.parse(block.text)
        elif block.kind == "json":
            return json_problems(json.loads(block.text))
        elif block.kind == "yaml":
            list(yaml.load_all(block.text, TemplateLoader))
        elif block.kind == "toml":
            tomllib.loads(block.text)
    except (SyntaxError, ValueError, yaml.YAMLError) as error:
        return [f"this is no {block.kind}: {error}"]
    if block.kind == "text" and (found := COMMAND.search(block.text)):
        return [f"`{found[0].strip()} …` looks like code to type: say ```console or ```python"]
    return []


def json_problems(value: Any) -> list[str]:
    """Return what the settings' own parser finds wrong, where the JSON is parameters of sources.

    They are in the shape of a file for ``storesync invoke``, or one parameter alone.
    """
    if not isinstance(value, dict):
        return []
    if "provider" in value:
        kind = "webhooks" if "secrets" in value else "sources"
        return parameter_problems(kind, "sample", json.dumps(value))
    if value and set(value) <= {"sources", "credentials", "webhooks"}:
        return [
            problem
            for kind, named in value.items()
            for name, parameter in named.items()
            for problem in parameter_problems(
                kind, name, json.dumps(parameter), _source(value, name)
            )
        ]
    return []


def _source(value: dict[str, Any], name: str) -> str | None:
    found = value.get("sources", {}).get(name)
    return json.dumps(found) if found else None


def mark_problems(page: str, mark: RunBy) -> list[str]:
    """Return what is wrong with a mark: the test has to exist, and its file to open the page."""
    path = REPOSITORY / mark.file
    if not path.exists():
        return [f"the mark names {mark.file}, which does not exist"]
    names, constants = _names_and_constants(mark.file)
    if mark.test not in names or not mark.test.startswith("test_"):
        return [f"the mark names {mark.test}, which is not in {mark.file}"]
    folder, _, name = page.rpartition("/")
    wanted = [name, folder.rpartition("/")[2]] if name == "README.md" else [name]
    reads = all(any(part in text for text in constants) for part in wanted)
    if not reads and "all_pages" not in names:
        remedy = "the test has to take the block from the page"
        return [f"the mark names {mark.file}, which does not read {page}: {remedy}"]
    return []


@functools.cache
def _names_and_constants(file: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names in a test file, and its texts that are no docstrings."""
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    loose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    names = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in loose
    }
    return frozenset(names), frozenset(texts)


def report(verdicts: list[Verdict]) -> Iterator[str]:
    """Yield the lines of a report: how many of each fate, and each block that did not run."""
    for fate, number in Counter(verdict.fate for verdict in verdicts).most_common():
        yield f"{number:4} {fate}"
    for fate in (CHECKED, NEEDS):
        yield f"\n{fate}:"
        for verdict in verdicts:
            if verdict.fate == fate:
                yield f"  {verdict.block.place} {verdict.detail}"


if __name__ == "__main__":
    print("\n".join(report(all_verdicts())))
