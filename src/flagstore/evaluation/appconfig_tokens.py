"""The tokens of AppConfig's rules: as much of Amazon Ion's text form as the guide shows. Pure."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<punctuation>[()\[\],])
      | "(?P<text>(?:[^"\\\x00-\x1f]|\\.)*)"
      | (?P<name>[a-z_]+)::
      | (?:
            (?P<time>\d{4}(?:T|-[\dT:.+\-Z]+))
          | (?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)
          | \$(?P<key>[A-Za-z_][A-Za-z0-9_$]*)
          | (?P<symbol>[a-z_]+)
        )(?=[\s()\[\],"]|\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "/": "/", "'": "'"}

TIME = object()
"""Stands for every timestamp: no page says what may be compared with one."""


class OpenError(Exception):
    """A rule that uses what no page describes."""


class Tokens:
    """The tokens of a rule: kind and content."""

    __slots__ = ("_at", "_text", "content", "kind")

    def __init__(self, text: str) -> None:
        self._text, self._at = text.rstrip(), 0
        self.kind, self.content = "", ""
        self.next()

    def next(self) -> None:
        """Go to the next token; at the end its kind is empty."""
        if self._at == len(self._text):
            self.kind = self.content = ""
            return
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise OpenError
        self._at = match.end()
        self.kind = match.lastgroup or ""
        self.content = match[self.kind]

    def skip(self, punctuation: str) -> bool:
        """Go on if this is the token."""
        if self.kind == "punctuation" and self.content == punctuation:
            self.next()
            return True
        return False

    def take(self, kind: str) -> str:
        """Return the content of a token that has to be of this kind, and go on."""
        if self.kind != kind:
            raise OpenError
        content = self.content
        self.next()
        return content

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self.kind:
            raise OpenError


def literal(tokens: Tokens) -> Any:  # noqa: ANN401 - any literal
    """Parse a text, a number, true, false, or a timestamp."""
    kind, content = tokens.kind, tokens.content
    tokens.next()
    if kind == "text":
        return _ESCAPE.sub(_unescaped, content)
    if kind == "number":
        return _number(content)
    if kind == "symbol" and content in {"true", "false"}:
        return content == "true"
    if kind == "time":
        return TIME
    raise OpenError


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    if code:
        return chr(int(code, 16))
    if match[3] not in _ESCAPES:
        raise OpenError
    return _ESCAPES[match[3]]


def _number(text: str) -> int | float:
    if text.lstrip("-").isdigit():
        number = int(text) if len(text) <= len(str(-(2**63))) else 2**63
        if not -(2**63) <= number < 2**63:
            raise OpenError
        return number
    real = float(text)
    if real - real != 0:
        raise OpenError
    return real
