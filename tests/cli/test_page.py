"""docs/cli.md: every example is run in order, and prints what the page shows."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from storesync.cli.__main__ import storesync
from tests.cli.rig import REPOSITORY
from tests.docs.pages import all_pages, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from simulators.launchdarkly import LaunchDarklySimulator
    from tests.cli.rig import Rig

PAGE = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^## (?P<title>.*?)$|^```console\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
(SHELL,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
VERSION = re.compile(r"\b179\d{7}\b")


@dataclass(frozen=True)
class Example:
    """One command of the page, and its output."""

    title: str
    command: str
    shown: str

    @property
    def code(self) -> int:
        """The exit code after ``# exits with``, else 0."""
        found = re.search(r"# exits with (\d+)", self.command)
        return int(found[1]) if found else 0

    def arguments(self, versions: list[int]) -> list[str]:
        """Return the arguments, with real versions in place of those of the page."""
        written = sorted({int(number) for number in VERSION.findall("\n".join(commands()))})
        there = dict(zip(map(str, written), map(str, versions), strict=False))
        words = shlex.split(self.command, comments=True)
        return [there.get(word, word) for word in words[1:]]


def commands() -> list[str]:
    """Return all commands of the page."""
    return re.findall(r"^\$ (storesync .*)$", PAGE, re.MULTILINE)


def examples() -> Iterator[Example]:
    """Yield all examples in order."""
    title = ""
    for found in BLOCK.finditer(PAGE):
        title = found["title"] or title
        for part in re.split(r"^\$ ", found["text"] or "", flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield Example(title, command, shown)


def every_command(group: click.Group, path: str = "storesync") -> Iterator[str]:
    """Yield the names of all commands."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


def plain(text: str) -> str:
    """Return the output without numbers, widths, digests and secrets."""
    text = re.sub(r"(?<![\w-])[\w-]{43}(?=\n)", "SECRET", text)
    text = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b", "DIGEST", text)
    text = re.sub(r"\b\d+ (s|min|h)\b", "SPAN", re.sub(r"─+", "─", text))
    return re.sub(r" +", " ", re.sub(r"\d+", "0", text)).strip()


def prepare(title: str, provider: LaunchDarklySimulator) -> None:
    """Make the change at the provider that an example shows."""
    if title == "diff":
        provider.set_flag("dark-mode", on=True)
        provider.set_flag("new-checkout")
    if title == "allow":
        for key in list(provider.flags())[20:]:
            provider.remove_flag(key)


def test_every_example_shows_what_the_page_says(
    rig: Rig, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other on one deployment; numbers and digests differ."""
    monkeypatch.chdir(rig.folder)
    launchdarkly.set_flag("dark-mode", on=False)
    rig.file("key.txt", launchdarkly.sdk_key)
    local = ("--base-url", launchdarkly.url, "--allow-http")
    titles: set[str] = set()
    wrong = []
    known = {
        "https://webhooks.example/webhooks": (
            "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/webhooks"
        ),
        launchdarkly.url: "https://sdk.launchdarkly.com",
        rig.environ["FLAGSTORE_TABLE"]: "flagstore-Table-1A2B3C4D5E6F7",
        "the environment": "stack flagstore",
    }
    for example in examples():
        if example.title not in titles:
            titles.add(example.title)
            prepare(example.title, launchdarkly)
        versions = [version.token for version in rig.state().versions()]
        more = local if example.command.startswith("storesync source add") else ()
        done = rig.run(*example.arguments(versions), *more)
        shown = done.err + done.out
        for real, written in known.items():
            shown = shown.replace(real, written)
        if (done.code, plain(shown)) != (example.code, plain(example.shown)):
            wrong.append(f"$ {example.command}\n{shown}(exit code {done.code})")
    assert not wrong, "\n".join(wrong)


RECORD = f"""#!{sys.executable}
import json, sys
with open("typed.jsonl", "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
"""
"""A stand-in for the command line that records its arguments."""


def test_commands_on_other_pages_exist(rig: Rig) -> None:
    """With each of their options."""
    program = rig.folder / "storesync"
    program.write_text(RECORD, encoding="utf-8")
    program.chmod(0o755)
    typed = [
        block.text
        for page in all_pages()
        for block in blocks(page)
        if "storesync " in block.text and block.kind in {"bash", "sh"} and page != "docs/cli.md"
    ]
    for text in typed:  # other programs are not found, which is fine
        subprocess.run(
            ["/bin/bash", "-c", text],
            cwd=rig.folder,
            env={"PATH": str(rig.folder)},
            stderr=subprocess.DEVNULL,
            check=False,
        )
    lines = (rig.folder / "typed.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= len(typed) > 0
    for words in map(json.loads, lines):
        done = rig.run(*words, "--help")
        assert done.code == 0, (words, done.err)


def test_alias_works_from_any_folder(tmp_path: Path) -> None:
    """The alias of the page contains an absolute path."""
    ((alias,), (install,)) = (
        re.findall(rf"^{word} .*$", SHELL, re.MULTILINE) for word in ("alias", "make")
    )
    assert install == "make cli"
    script = f"shopt -s expand_aliases\n{alias}\ncd {tmp_path}\nstoresync --help\n"
    done = subprocess.run(
        ["/bin/bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_every_option_has_help(rig: Rig) -> None:
    """``--help`` describes each command and each of its options."""
    for name in every_command(storesync):
        done = rig.run(*name.split()[1:], "--help")
        assert done.code == 0
        assert "--json" in done.out
        command: click.Command = storesync
        for word in name.split()[1:]:
            assert isinstance(command, click.Group)
            command = command.commands[word]
        assert command.help
        options = [each for each in command.params if isinstance(each, click.Option)]
        assert [each.name for each in options if not each.help] == []


def test_help_is_not_truncated(rig: Rig) -> None:
    """The list of commands shows whole sentences."""
    for group in ((), ("source",)):
        assert "..." not in rig.run(*group, "--help").out.partition("Commands:")[2]
