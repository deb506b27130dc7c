"""Secrets are blotted out of what is printed and responded, wherever they come from.

No message of ours quotes one. This is for the others: the text of an exception of a library, or
of a bug, may hold a URL, a header or a whole request.
"""

from __future__ import annotations

import json
from threading import Lock
from typing import Final
from urllib.parse import quote, unquote, urlsplit

REDACTED: Final = "***"
MIN_CHARS: Final = 8
"""Shorter texts would blot out words, and are no secrets."""
MAX_KNOWN: Final = 4_000
"""Texts that are kept: several of each source and each rotation, in a process of some hours."""

_lock = Lock()
"""Sources are synced in threads, each of which conceals and logs."""
_known: dict[str, None] = {}
"""In the order in which they were last concealed, since a ``set`` has none: the oldest go first."""


def register_secret(secret: str) -> None:
    """Let no line and no response hold this text, nor the password in it if it is a URL."""
    texts = [text for text in (secret, _password(secret)) if len(text) >= MIN_CHARS]
    forms = [form for text in texts for form in _forms(text)]
    with _lock:
        for form in forms:
            _known.pop(form, None)
            _known[form] = None
        while len(_known) > MAX_KNOWN:
            _known.pop(next(iter(_known)))


def redact(text: str) -> str:
    """Return a text without the secrets that were concealed."""
    with _lock:
        found = [secret for secret in _known if secret in text]
    for secret in sorted(found, key=len, reverse=True):  # one may begin with another
        text = text.replace(secret, REDACTED)
    return text


def _forms(text: str) -> tuple[str, ...]:
    """Return a text as it may stand in a line: as it is, in JSON, and in a URL."""
    return text, _as_json(text), quote(text), quote(text, safe="")


def _as_json(text: str) -> str:
    """Return a text as it stands within a line of the log."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _password(text: str) -> str:
    try:
        return unquote(urlsplit(text).password or "")
    except ValueError:
        return ""
