"""docs/cli.md: every example is run in order, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from tests.cli.rig import REPOSITORY
from tests.docs.pages import all_pages, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Rig

PAGE = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^## (?P<title>.*?)$|^```console\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
VERSION = re.compile(r"\b179\d{7}\b")


class Example(NamedTuple):
    title: str
    command: str
    shown: str


def examples() -> Iterator[Example]:
    title = ""
    for found in BLOCK.finditer(PAGE):
        title = found["title"] or title
        for part in re.split(r"^\$ ", found["text"] or "", flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield Example(title, command, shown)


def plain(text: str) -> str:
    """Return the output without numbers, widths, digests and secrets."""
    text = re.sub(r"(?<![\w-])[\w-]{43}(?=\n)", "SECRET", text)
    text = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b", "DIGEST", text)
    text = re.sub(r"\b\d+ (s|min|h)\b", "SPAN", re.sub(r"─+", "─", text))
    return re.sub(r" +", " ", re.sub(r"\d+", "0", text)).strip()


def prepare(title: str, rig: Rig, provider: LaunchDarklySimulator, other: UnleashSimulator) -> None:
    """Make the change at the provider that an example shows; clients need a source of Unleash."""
    if title == "diff":
        provider.set_flag("dark-mode", on=True)
        provider.set_flag("new-checkout")
    if title == "allow":
        for key in list(provider.flags())[20:]:
            provider.remove_flag(key)
    if title.startswith("client"):
        assert rig.add("prod", other).code == 0


def test_every_example_shows_what_the_page_says(
    rig: Rig,
    launchdarkly: LaunchDarklySimulator,
    unleash: UnleashSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after the other on one deployment; numbers and digests differ."""
    monkeypatch.chdir(rig.folder)
    launchdarkly.set_flag("dark-mode", on=False)
    rig.file("key.txt", launchdarkly.sdk_key)
    rig.file("token.txt", "default:production.0123456789abcdef")
    local = ("--base-url", launchdarkly.url, "--allow-http")
    known = {
        "https://webhooks.example/webhooks": (
            "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/webhooks"
        ),
        "https://serve.example": "https://f6g7h8i9j0.execute-api.eu-west-1.amazonaws.com",
        launchdarkly.url: "https://sdk.launchdarkly.com",
        rig.environ["FLAGSTORE_TABLE"]: "flagstore-Table-1A2B3C4D5E6F7",
        "the environment": "stack flagstore",
    }
    typed = "\n".join(each.command for each in examples())
    written = sorted(set(VERSION.findall(typed)))
    title, wrong = "", []
    for example in examples():
        if example.title != title:
            title = example.title
            prepare(title, rig, launchdarkly, unleash)
        tokens = [str(version.token) for version in rig.state().versions()]
        there = dict(zip(written, tokens, strict=False))  # the page's versions are others
        words = [there.get(word, word) for word in shlex.split(example.command, comments=True)]
        more = local if words[1:3] == ["source", "add"] else ()
        done = rig.run(*words[1:], *more)
        shown = done.err + done.out
        for real, said in known.items():
            shown = shown.replace(real, said)
        code = int(example.command.partition("# exits with ")[2] or 0)
        if (done.code, plain(shown)) != (code, plain(example.shown)):
            wrong.append(f"$ {example.command}\n{shown}(exit code {done.code})")
    assert not wrong, "\n".join(wrong)


def test_commands_on_other_pages_exist(rig: Rig) -> None:
    texts = [
        block.text.replace("\\\n", " ")
        for page in all_pages()
        for block in blocks(page)
        if block.kind in {"bash", "sh"} and page != "docs/cli.md"
    ]
    commands = [
        shlex.split(line, comments=True)
        for text in texts
        for line in text.splitlines()
        if re.match(r"(tools/)?storesync ", line)
    ]
    assert commands
    for words in commands:
        done = rig.run(*words[1:], "--help")
        assert done.code == 0, (words, done.err)
