"""The ``storesync`` command: its groups, and what all commands share."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import click

from storesync.cli.context import Operator
from storesync.cli.problems import Exit, judge
from storesync.cli.screen import Screen
from storesync.observability import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    type Body = Callable[..., int | None]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def storesync() -> None:
    """Look after a flagstore deployment: its sources, what is published, and its history.

    The deployment is the stack of --stack (FLAGSTORE_STACK); without it, what FLAGSTORE_TABLE,
    FLAGSTORE_PARAMETER_PREFIX and so on say; without these, the stack "flagstore". Options stand
    behind the command; docs/cli.md has examples, exit codes, and the AWS rights of each.

    Begin with `storesync source add NAME`, then `storesync status`. Where something is wrong,
    `storesync doctor` says what to do.
    """


@storesync.group()
def source() -> None:
    """Add, list and remove sources."""


def command(group: click.Group, name: str) -> Callable[[Body], click.Command]:
    """Make a command of a function: it gets an operator, and returns an exit code or None."""

    def make(body: Body) -> click.Command:
        @functools.wraps(body)
        def run(
            *,
            as_json: bool,
            stack: str | None,
            profile: str | None,
            region: str | None,
            **given: Any,  # noqa: ANN401 - options of the command
        ) -> None:
            screen = Screen(as_json=as_json)
            operator = Operator(screen, stack, profile, region)
            source = str(given.get("name", "SOURCE"))
            sys.exit(_guarded(screen, source, lambda: body(operator, **given)))

        shared = (
            click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
            click.option(
                "--stack",
                envvar="FLAGSTORE_STACK",
                metavar="NAME",
                help="Stack of the deployment, if it is not called flagstore.",
            ),
            click.option("--profile", metavar="NAME", help="Profile of your AWS credentials."),
            click.option("--region", metavar="NAME", help="AWS region of the deployment."),
        )
        for option in reversed(shared):
            run = option(run)
        return group.command(name)(run)

    return make


def _guarded(screen: Screen, source: str, work: Callable[[], int | None]) -> int:
    """Run a command and return its exit code; what is a fault of ours ends with its traceback.

    *source* is the one that it is about, for what it says that a person should do.
    """
    try:
        code = work() or Exit.OK
    except (click.Abort, KeyboardInterrupt):
        screen.say("interrupted")
        return Exit.INTERRUPTED
    except Exception as error:
        problem = judge(error)
        screen.done()
        if problem is None:
            raise
        screen.problem(problem.about(source))
        return problem.code
    screen.done()
    return code


def main() -> None:
    """Run the command line; logs of the library go to stderr, from errors on."""
    log = logger()
    log.registered_handler.setStream(sys.stderr)  # type: ignore[attr-defined] # a StreamHandler
    log.setLevel("ERROR")
    load()
    storesync(prog_name="storesync")


def load() -> click.Group:
    """Import the commands, which register themselves, and return the whole."""
    from storesync.cli import change, doctor, inspect, pin, sources, status  # noqa: F401, PLC0415

    return storesync
