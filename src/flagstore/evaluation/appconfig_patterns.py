r"""The regular expressions that mean the same in every dialect. Pure.

No page of AWS' says which dialect ``matches`` has. So only what RE2, Rust, Java, JavaScript and
Python agree on, about texts of ASCII in one line, is taken: literals, ``.``, sets, groups,
alternatives, greedy and lazy repetition, ``^``, ``$``, ``\d``, ``\w``, ``\s`` and their
opposites, and escaped punctuation. No look-around, back-references, flags, or classes by name.

Python's ``re`` looks for them, and takes as long as it takes: ``(a+)+`` can be slow.
"""

from __future__ import annotations

import re

_ATOM = r"(?:[^\\\[\](){}*+?|^$&~\n\r-]|[-&~]|\\[dDwWsS]|\\[\\.\[\](){}*+?|^$/-])"
_MEMBER = r"(?:[^\\\[\]&~^|\n\r-]|\\[dwsDWS]|\\[\\.\[\](){}*+?|^$/-])"
_SET = rf"\[\^?{_MEMBER}(?:-?{_MEMBER})*\]"
_REPEAT = r"(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})\??"
_PORTABLE = re.compile(rf"(?:(?:{_SET}|{_ATOM}|\))(?:{_REPEAT})?(?![*+?{{])|[|^$]|\((?:\?:)?)*")


def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return the compiled expression, or None where dialects may differ, or it is none."""
    if not pattern.isascii() or not _PORTABLE.fullmatch(pattern):
        return None
    try:
        return re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError):
        return None
