"""The commands of a block of shell, and what can be said about them without running them.

A line is split as a shell splits it: at pipes, ``&&``, ``;`` and redirections. Names in angle
brackets, such as ``<TableName>``, stand for something of the reader's.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docs.pages import Block

PLACEHOLDER = re.compile(r"<([A-Za-z][\w -]*)>")
HERE_DOCUMENT = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
BETWEEN = {"|", "||", "&&", ";", "&", "(", ")"}
INTO_FILES = {">", ">>", "<", ">&"}
KEYWORDS = {"do", "done", "else", "fi", "if", "sudo", "then", "time", "until", "while", "!"}


@dataclass(frozen=True)
class Command:
    """One command: its words, variables that are set for it, and what is fed to it."""

    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    fed: str = ""
    """The here-document, if there is one."""

    @property
    def name(self) -> str:
        """The program; empty where only variables are set."""
        return self.words[0] if self.words else ""


def commands(block: Block) -> list[Command]:
    """Return the commands of a block.

    Raises:
        ValueError: if it is not what a shell understands.
    """
    return [command for line, fed in _lines(block) for command in _commands(line, fed)]


def placeholders(block: Block) -> set[str]:
    """Return the names in angle brackets."""
    return {name for line, fed in _lines(block) for name in PLACEHOLDER.findall(line + fed)}


def _lines(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each line that is typed, with its continuations, and its here-document."""
    lines = iter(_typed(block))
    for first in lines:
        line = first
        while line.endswith("\\"):
            line = line[:-1] + " " + next(lines, "")
        # A quote may go on over several lines.
        while _is_open(line):
            more = next(lines, None)
            if more is None:
                raise ValueError(f"a quote is never closed: {line.splitlines()[0]}")
            line += f"\n{more}"
        fed = ""
        if here := HERE_DOCUMENT.search(line):
            line = line.replace(here[0], "")
            while (more := next(lines, here[1])).strip() != here[1]:
                fed += f"{more}\n"
        yield line, fed


def _typed(block: Block) -> list[str]:
    """Return the lines that are typed: all, or of a console those behind the prompt."""
    lines = block.text.splitlines()
    if block.kind != "console":
        return lines
    found: list[str] = []
    goes_on = False
    for line in lines:
        if goes_on or line.startswith("$ "):
            found.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return found


def _is_open(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def _commands(line: str, fed: str) -> Iterator[Command]:
    """Yield the commands of one line; also those within ``$(…)``, whose place a word takes."""
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        yield from _commands(inner, "")
    line = PLACEHOLDER.sub(lambda found: f"PLACEHOLDER_{found[1].replace(' ', '_')}", line)
    line = re.sub(r"\$\([^()]*\)", "SUBSTITUTED", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += "{}$:@%,+[]!^…"
    words: list[str] = []
    parts: list[list[str]] = []
    skipped = False
    for word in lexer:
        if word in BETWEEN:
            parts.append(words)
            words = []
        elif skipped:
            skipped = False
        elif word in INTO_FILES:
            skipped = True
            if words and words[-1] in {"1", "2"}:  # of 2>&1
                words.pop()
        else:
            words.append(word)
    for part in [*parts, words]:
        if part:
            yield _command(part, fed)


def _command(words: list[str], fed: str) -> Command:
    """Take variables, and what a shell has around commands, off the front of one."""
    variables: list[tuple[str, str]] = []
    while words and words[0] in KEYWORDS:
        words = words[1:]
    while words and ASSIGNMENT.match(words[0]):
        name, _, value = words[0].partition("=")
        variables.append((name, value))
        words = words[1:]
    return Command(tuple(words), tuple(variables), fed)
