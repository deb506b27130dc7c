"""Options of a shape that several commands have: a secret from a file, names with values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    type Decorator = Callable[[Callable[..., int | None]], Callable[..., int | None]]


def secret_option(option: str, name: str, text: str) -> Decorator:
    """Return an option that names a file with a secret, and gives the secret.

    A command line can be seen by everybody on the machine, so no secret is on it.
    """
    return click.option(
        option, name, type=click.File("r"), callback=_secret, metavar="FILE", help=text
    )


def pairs_option(option: str, name: str, text: str) -> Decorator:
    """Return an option that can be given several times, and gives names with their values."""
    return click.option(
        option, name, multiple=True, callback=_pairs, metavar="NAME=VALUE", help=text
    )


def _secret(_context: click.Context, _option: click.Parameter, file: IO[str] | None) -> str:
    """Read the file; empty where the option is left out.

    Raises:
        click.BadParameter: the file holds none, as where two options name the same stdin.
    """
    if file is None:
        return ""
    try:
        with file:
            text = file.read().strip()
    except UnicodeDecodeError:
        text = ""
    if not text:
        message = f"{file.name} is empty, or holds no text"
        raise click.BadParameter(message)
    return text


def _pairs(
    _context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if any(not (name and equals) for name, equals, _ in pairs):
        message = f"write it as {option.opts[0]} name=value"
        raise click.BadParameter(message)
    return {name: value for name, _, value in pairs}
