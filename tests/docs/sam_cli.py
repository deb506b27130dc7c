"""What the sam command would say about a command: its own help knows the options."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

from simulators.template import read_template
from tests.docs.pages import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GROUPS = {"list", "local", "pipeline", "remote"}
"""Commands that have commands."""
HELP_OF_SAM = """
import json, re, sys
from click.testing import CliRunner
from samcli.cli.main import cli
found = {}
for name in json.loads(sys.argv[1]):
    done = CliRunner().invoke(cli, [*name.split(), "--help"])
    known = re.findall(r"(?<![\\w-])--?[a-zA-Z][\\w-]*", done.output)
    found[name] = None if done.exit_code else known
print(json.dumps(found))
"""
COMMON = (
    "build", "delete", "deploy", "list stack-outputs", "local invoke", "package", "publish",
    "validate",
)  # fmt: skip
"""Asked for at once: each start of sam takes a second or two."""


@functools.cache
def _options(*names: str) -> dict[str, list[str] | None]:
    """Return the options of sam commands, from their own help; None of what is no command."""
    done = subprocess.run(
        [REPOSITORY / ".venv-sam" / "bin" / "python", "-c", HELP_OF_SAM, json.dumps(names)],
        env={"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-west-1", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str] | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def options_of(name: str) -> list[str] | None:
    """Return the options of a sam command; None if there is no such command."""
    return _options(*(COMMON if name in COMMON else (name,)))[name]


def problems(words: Sequence[str], page: str) -> Iterator[str]:
    """Yield what is wrong with a command, whose words follow ``sam``, on a page."""
    length = 2 if words[:1] and words[0] in GROUPS else 1
    name = " ".join(words[:length])
    options = options_of(name)
    if options is None:
        yield f"there is no `sam {name}`"
        return
    overrides = False
    for word in words[length:]:
        option = word.partition("=")[0]
        if word.startswith("-"):
            overrides = option == "--parameter-overrides"
            if option not in options:
                yield f"`sam {name}` has no option {option}"
        elif overrides and "=" in word:
            yield from _override(page, option, word.partition("=")[2])


def _override(page: str, name: str, value: str) -> Iterator[str]:
    """Yield what is wrong with one of ``--parameter-overrides``."""
    if name not in _template_parameters(page):
        yield f"no template has a parameter {name}"
    parameter = read_template()["Parameters"].get(name)
    if parameter is None or value.startswith(("PLACEHOLDER_", "SUBSTITUTED", "$")):
        return
    if not _fits(parameter, value):
        yield f"the parameter {name} does not take {value}"


def _fits(parameter: Mapping[str, Any], value: str) -> bool:
    """Say whether CloudFormation takes a value for a parameter."""
    if "AllowedValues" in parameter:
        return value in [str(each) for each in parameter["AllowedValues"]]
    if parameter["Type"] == "Number":
        within = range(parameter["MinValue"], parameter["MaxValue"] + 1)
        return value.isdigit() and int(value) in within
    parts = [value] if parameter["Type"] == "String" else value.split(",")
    return all(re.fullmatch(parameter["AllowedPattern"], each) for each in parts)


def variable_problems(text: str) -> Iterator[str]:
    """Yield what is wrong with a file for ``--env-vars``: functions, and variables of each."""
    try:
        given = json.loads(text)
    except ValueError as error:
        yield f"the here-document is no JSON: {error}"
        return
    for name, variables in given.items():
        resource = read_template()["Resources"].get(name)
        if resource is None:
            yield f"template.yaml has no function {name}"
            continue
        known = resource["Properties"]["Environment"]["Variables"]
        yield from (f"{name} has no variable {each}" for each in variables if each not in known)


def _template_parameters(page: str) -> set[str]:
    """Return the parameters of the template beside the page, or of the repository's."""
    beside = (REPOSITORY / page).parent / "template.yaml"
    text = beside.read_text("utf-8") if beside.exists() else ""
    return {*re.findall(r"^  (\w+):$", text, re.MULTILINE), *read_template()["Parameters"]}
