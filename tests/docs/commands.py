"""What is wrong with the commands of a page: programs, targets, options, parameters, files.

Each check is of one program. What is checked this way was not run; what no check knows is a
problem, unless the block says what it needs.
"""

from __future__ import annotations

import functools
import json
import re
import tomllib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from simulators.template import read_template
from storesync import events, providers
from storesync.cli.app import load
from storesync.errors import BadRequestError, ConfigurationError
from storesync.sources import parse_hook, parse_source
from tests.docs import aws_cli, sam_cli
from tests.docs.pages import REPOSITORY, Block, blocks
from tests.docs.shell import Command, commands, placeholders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SHELLS = ("bash", "sh", "console")
PLAIN = {
    "alias", "cat", "cd", "cp", "echo", "export", "for", "git", "jq", "ls", "mkdir", "openssl",
    "rm", "sha256sum", "sleep", "true", "unset",
}  # fmt: skip
"""Programs of every machine, of which there is nothing to check."""
SECRET = {"credentials", "webhooks"}
"""Kinds of parameters that are for SecureString."""
ANY_CREDENTIAL = {
    "key": "sample",
    "base_url": "https://flags.example.org/api",
    "store_url": "rediss://reader:sample@redis.example.org:6379/0",
}
"""Stands for the credential of a source, where the page does not show it."""


def shell_problems(block: Block) -> list[str]:
    """Return what is wrong with a block of shell."""
    try:
        typed = commands(block)
    except ValueError as error:
        return [f"no shell understands this: {error}"]
    found = [problem for name in placeholders(block) for problem in _placeholder(name)]
    if not typed:
        found.append("there is no command in it; of a console, those behind `$ ` are commands")
    for command in typed:
        found += _problems(block, command)
    return found


def _placeholder(name: str) -> Iterator[str]:
    """Yield a problem with a name in angle brackets: one word with capitals is of the stack."""
    template = read_template()
    known = {*template["Outputs"], *template["Parameters"]}
    if re.fullmatch(r"[A-Z][A-Za-z]+", name) and name not in known:
        yield f"<{name}> is neither an output nor a parameter of template.yaml"


def _problems(block: Block, command: Command) -> Iterator[str]:
    """Yield what is wrong with one command."""
    program = command.name.removeprefix("./")
    checks: Mapping[str, Callable[[Block, Command], Iterator[str]]] = {
        "make": _make,
        "storesync": _storesync,
        "tools/storesync": _storesync,
        "aws": _aws,
        "sam": _sam,
        ".venv-sam/bin/sam": _sam,
        "pip": _pip,
        "python": _python,
    }
    for name, value in command.variables:
        if name == "PYTHONPATH" and not (REPOSITORY / block.page).parent.joinpath(value).exists():
            yield f"PYTHONPATH={value} is no folder beside the page"
    if command.fed.lstrip().startswith("{"):
        yield from sam_cli.variable_problems(command.fed)
    if program in checks:
        yield from checks[program](block, command)
    elif program and program not in PLAIN and block.mark is None:
        yield (
            f"nothing checks `{program}`: let a test run the block and mark it "
            "<!-- run by tests/…::test_… -->, or say <!-- needs WHAT: why -->"
        )


# -- make and the command line for operators -------------------------------------------------------


@functools.cache
def _makefile() -> str:
    return (REPOSITORY / "Makefile").read_text(encoding="utf-8")


@functools.cache
def targets() -> frozenset[str]:
    """Return the targets of the Makefile that one types."""
    found = set(re.findall(r"^([a-z][a-z0-9-]*):", _makefile(), re.MULTILINE))
    environments = re.findall(r"^ENVIRONMENTS := (.*)", _makefile(), re.MULTILINE)
    return frozenset(found.union(environments[0].split()))


def _make(_block: Block, command: Command) -> Iterator[str]:
    for word in command.words[1:]:
        name, is_variable, _value = word.partition("=")
        if word.startswith("-"):
            continue
        if is_variable and f"$({name})" not in _makefile():
            yield f"the Makefile reads no variable {name}"
        if not is_variable and word not in targets():
            yield f"the Makefile has no target {word}"


def _sam(block: Block, command: Command) -> Iterator[str]:
    yield from sam_cli.problems(command.words[1:], block.page)


def _storesync(_block: Block, command: Command) -> Iterator[str]:
    """Take the words apart with the real command line; what an option's type wants, too."""
    at: click.Command = load()
    words = list(command.words[1:])
    path = "storesync"
    while isinstance(at, click.Group):
        if not words or words[0] not in at.commands:
            if words not in (["--help"], ["-h"]):
                yield f"`{path}` has no command {words[0] if words else '(name one)'}"
            return
        at, path = at.commands[words[0]], f"{path} {words[0]}"
        words = words[1:]
    if "--help" in words:
        return
    context = click.Context(at, info_name=path)
    try:
        given, extra, _order = at.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        yield f"`{path}`: {error.format_message()}"
        return
    if extra:
        yield f"`{path}` takes no {' '.join(extra)}"
    for parameter in at.params:
        yield from _value(path, parameter, given.get(parameter.name or ""), context)


def _value(
    path: str, parameter: click.Parameter, value: Any, context: click.Context
) -> Iterator[str]:
    """Yield what is wrong with the value of an option or argument; files need not exist."""
    missing = value is None or value == () or type(value).__name__ == "Sentinel"
    if missing:
        if parameter.required:
            yield f"`{path}` needs {parameter.make_metavar(context)}"
    elif isinstance(value, str) and not isinstance(parameter.type, click.File | click.Path):
        try:
            parameter.type.convert(value, parameter, context)
        except click.UsageError as error:
            yield f"`{path}`: {error.format_message()}"


# -- AWS -------------------------------------------------------------------------------------------


def _aws(block: Block, command: Command) -> Iterator[str]:
    yield from aws_cli.problems(command.words[1:])
    given = _given(command)
    operation = command.words[1:3]
    if operation == ("ssm", "put-parameter"):
        yield from _parameter(block, given)
    if operation == ("lambda", "invoke") and "SyncFunction" in given.get("--function-name", ""):
        yield from _payload(given.get("--payload", ""))


def _given(command: Command) -> dict[str, str]:
    """Return the options of a command that have a value."""
    words = command.words
    return {
        name: value
        for name, value in pairwise(words)
        if name.startswith("--") and not value.startswith("--")
    }


def _payload(text: str) -> Iterator[str]:
    """Yield a problem if SyncFunction does not understand what it would get."""
    try:
        events.parse(json.loads(re.sub(r"PLACEHOLDER_digest\w*", "0" * 64, text)))
    except (BadRequestError, ValueError) as error:
        yield f"SyncFunction does not understand the payload: {error}"


def _parameter(block: Block, given: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with a parameter of a source: its name, its type, its JSON."""
    path, text = given.get("--name", ""), given.get("--value", "")
    parts = path.split("/")
    if len(parts) < 3 or parts[-2] not in {"sources", *SECRET}:
        yield f"{path} is no parameter of a source: <prefix>/sources|credentials|webhooks/<source>"
        return
    kind = "SecureString" if parts[-2] in SECRET else "String"
    if given.get("--type") != kind:
        yield f"{path} is a {kind}"
    if not text.startswith(("file://", "$", "SUBSTITUTED")):
        yield from parameter_problems(parts[-2], parts[-1], text, _source_of(block.page, parts[-1]))


def _source_of(page: str, name: str) -> str | None:
    """Return what a page puts into the parameter of a source, if it does."""
    for block in blocks(page):
        if block.kind in SHELLS:
            for command in commands(block):
                given = _given(command)
                if given.get("--name", "").endswith(f"/sources/{name}"):
                    return given.get("--value")
    return None


def parameter_problems(kind: str, name: str, text: str, source: str | None = None) -> list[str]:
    """Return what the settings' own parser finds wrong with one parameter of a source.

    *source* is the other parameter of a source whose *kind* is ``credentials``; without it, those
    of some provider are enough.
    """
    if kind == "webhooks":
        return _refused(lambda: parse_hook(name, kind, text))
    if kind == "sources":
        keyless = any(f'"{each}"' in text for each in _keyless())
        credential = None if keyless and "redis" not in text else json.dumps(ANY_CREDENTIAL)
        return _refused(lambda: parse_source(name, kind, text, "credentials", credential))
    sources = [source] if source else [f'{{"provider": "{each}"}}' for each in providers.names()]
    problems = [
        _refused(lambda each=each: parse_source(name, "sources", each, kind, text))
        for each in sources
    ]
    return [] if [] in problems else problems[0]


def _keyless() -> list[str]:
    return [name for name in providers.names() if not providers.get(name).needs_key]


def _refused(parse: Callable[[], object]) -> list[str]:
    try:
        parse()
    except ConfigurationError as error:
        return [str(error)]
    return []


# -- pip, python -------------------------------------------------------------------------------


def _pip(_block: Block, command: Command) -> Iterator[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    if command.words[1:2] != ("install",):
        yield "of pip, only `pip install` is checked"
    for word in command.words[2:]:
        if found := re.fullmatch(r"flagstore\[([\w,]+)\].*", word):
            for extra in found[1].split(","):
                if extra not in project["optional-dependencies"]:
                    yield f"the wheel has no extra {extra}"


def _python(block: Block, command: Command) -> Iterator[str]:
    """Check the module, or the script, and the paths that a test run is given."""
    words = command.words[1:]
    if words[:1] == ("-m",) and len(words) > 1:
        module, rest = words[1], words[2:]
        place = REPOSITORY.joinpath(*module.split("."))
        ours = place.with_suffix(".py").exists() or (place / "__main__.py").exists()
        if module not in {"pytest", "venv", "pip", "json.tool"} and not ours:
            yield f"there is no module {module}"
    else:
        rest = words[:1]
    for word in rest:
        beside = (REPOSITORY / block.page).parent / word
        if not word.startswith("-") and not beside.exists() and not (REPOSITORY / word).exists():
            yield f"{word} is neither beside the page nor in the repository"
