"""What the AWS command line would say about a command, as far as botocore's models know it.

The command line makes its commands and options from these models: operation and member names in
lower case with hyphens. So a name that the models lack does not exist. Nothing is sent.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.validate import ParamValidator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from botocore.model import OperationModel, ServiceModel, Shape

FLAGS = {
    "--debug", "--no-cli-pager", "--no-paginate", "--no-sign-request", "--no-verify-ssl",
    "--cli-auto-prompt", "--no-cli-auto-prompt",
}  # fmt: skip
"""Options of all commands that take no value."""
VALUED = {
    "--region", "--profile", "--output", "--query", "--endpoint-url", "--color", "--ca-bundle",
    "--cli-binary-format", "--cli-read-timeout", "--cli-connect-timeout", "--cli-input-json",
    "--cli-input-yaml", "--max-items", "--page-size", "--starting-token",
}  # fmt: skip
"""Options of all commands that take one."""
OUTFILE = {("lambda", "invoke"), ("appconfigdata", "get-latest-configuration"),
           ("appconfig", "get-hosted-configuration-version")}  # fmt: skip
"""Commands whose answer is a stream, which goes to the file that is named last."""
CUSTOM: Mapping[tuple[str, str], set[str]] = {
    ("logs", "tail"): {"--since", "--follow", "--format", "--filter-pattern"},
    ("cloudformation", "deploy"): {
        "--template-file", "--stack-name", "--parameter-overrides", "--capabilities", "--role-arn",
        "--s3-bucket", "--no-fail-on-empty-changeset", "--tags",
    },
    ("cloudformation", "package"): {"--template-file", "--s3-bucket", "--output-template-file"},
}  # fmt: skip
"""Commands of the command line's own, and the options of these that the pages may use."""


def problems(words: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with a command, whose words follow ``aws``."""
    rest = [word for word in words if word not in FLAGS]
    if len(rest) < 2 or rest[0].startswith("-"):
        yield "name a service and an operation first, options behind them"
        return
    service, command, *arguments = rest
    if (service, command) in CUSTOM:
        known = CUSTOM[service, command] | VALUED
        yield from (
            f"`aws {service} {command}` has no {word} in the list of tests/docs/aws_cli.py"
            for word in arguments
            if word.startswith("--") and word not in known
        )
        return
    model = _service(service)
    if model is None:
        yield f"no service `{service}`, or none with a model of its own"
    elif command == "wait":
        waiters = _waiters(service)
        if not arguments or arguments[0] not in waiters:
            yield f"`aws {service} wait` knows {', '.join(sorted(waiters))}"
        else:
            operation = waiters[arguments[0]]
            yield from _arguments(service, model.operation_model(operation), arguments[1:])
    else:
        operations = {xform_name(name, "-"): name for name in model.operation_names}
        if command not in operations:
            yield f"`aws {service}` has no `{command}`"
        else:
            yield from _arguments(service, model.operation_model(operations[command]), arguments)


@functools.cache
def _session() -> botocore.session.Session:
    return botocore.session.get_session()


@functools.cache
def _service(name: str) -> ServiceModel | None:
    """Return the model of a service; the command line calls S3's own operations ``s3api``."""
    if name == "s3":
        return None
    try:
        return _session().get_service_model({"s3api": "s3"}.get(name, name))
    except (DataNotFoundError, UnknownServiceError):
        return None


@functools.cache
def _waiters(service: str) -> dict[str, str]:
    """Return the waiters of a service by the command line's names, and what each one calls."""
    try:
        model = _session().get_waiter_model(service)
    except DataNotFoundError:
        return {}
    return {xform_name(name, "-"): model.get_waiter(name).operation for name in model.waiter_names}


def _arguments(service: str, operation: OperationModel, arguments: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the options of an operation, and with their values."""
    command = f"aws {service} {xform_name(operation.name, '-')}"
    members = operation.input_shape.members if operation.input_shape else {}
    names = {f"--{xform_name(name, '-')}": name for name in members}
    given: dict[str, Any] = {}
    loose: list[str] = []
    for option, values in _options(arguments):
        if option in VALUED:
            loose += values[1:]
            continue
        flag = option.replace("--no-", "--", 1)
        if option in names:
            shape = members[names[option]]
            value, more = _value(shape, values)
            given[names[option]] = value
            loose += more
            allowed = getattr(shape, "enum", [])
            if allowed and value not in allowed and not str(value).startswith("PLACEHOLDER_"):
                yield f"`{command}` {option} is one of {', '.join(allowed)}"
        elif flag in names and members[names[flag]].type_name == "boolean":
            given[names[flag]] = False
            loose += values
        elif option:
            yield f"`{command}` has no option {option}"
        else:
            loose += values
    if len(loose) != ((service, xform_name(operation.name, "-")) in OUTFILE):
        yield f"`{command}`: what is {' '.join(loose) or 'the file for the answer'}?"
    if operation.input_shape and "--cli-input-json" not in arguments:
        report = ParamValidator().validate(given, operation.input_shape)
        if report.has_errors():
            yield f"`{command}`: {report.generate_report()}"


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option with the words up to the next one; first what stands before all."""
    option, values = "", []
    for word in arguments:
        if word.startswith("--"):
            yield option, values
            option, _, joined = word.partition("=")
            values = [joined] if joined else []
        else:
            values.append(word)
    yield option, values


def _value(shape: Shape, words: list[str]) -> tuple[Any, list[str]]:
    """Return the value of an option, as the service gets it, and the words that are not its.

    A structure in the command line's short form (``Name=x,Values=y``) is not taken apart.
    """
    kind = shape.type_name
    if kind == "boolean":
        return True, words
    first = words[0] if words else ""
    if kind in {"structure", "map", "list"} and first[:1] in {"{", "["}:
        return json.loads(first), words[1:]
    if kind == "list":
        member: Shape = shape.member
        return [_scalar(member, word) for word in words if not _short(word)], []
    if kind in {"structure", "map"}:
        return {}, []
    return _scalar(shape, first), words[1:]


def _short(word: str) -> bool:
    """Say whether a word is a structure in the short form."""
    return "=" in word


def _scalar(shape: Shape, word: str) -> Any:
    if shape.type_name in {"integer", "long"}:
        return int(word) if word.isdigit() else word
    if shape.type_name == "timestamp" and word.isdigit():
        return int(word)
    return word
