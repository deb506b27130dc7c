"""Reading the JSON object of one SSM parameter: everything wrong with it is said at once.

Pure. Most of these parameters hold secrets, so messages quote no value but the name of a provider.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flagstore import errors as reader_errors
from flagstore.keys import check_source
from storesync import providers
from storesync.errors import ConfigurationError
from storesync.model import Secret

if TYPE_CHECKING:
    from storesync.providers.base import Provider

OPTIONAL = {"store_url"}
"""Fields that the example of a missing parameter leaves out."""
MIN_SECRET = 16
"""Characters; a webhook secret is the only thing between the internet and the queue."""


class Fields:
    """One parameter's JSON object; what is wrong with it goes to *problems*."""

    def __init__(
        self, where: str, text: str | None, known: tuple[str, ...], problems: list[str]
    ) -> None:
        self._where = where
        self._known = known
        self._problems = problems
        values = self._parse(text)
        self._broken = values is None
        self._values: dict[str, Any] = values or {}
        for field in sorted(self._values.keys() - set(known)):
            shown = _shown(field, "a field")
            self.problem(f"{shown} is not known here, only {', '.join(known)}")

    def _parse(self, text: str | None) -> dict[str, Any] | None:
        if text is None:
            needed = [field for field in self._known if field not in OPTIONAL]
            example = json.dumps(dict.fromkeys(needed, "…"), ensure_ascii=False)
            self.problem(f"is missing: create it as a SecureString with {example}")
            return None
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            self.problem("is not JSON")
            return None
        if not isinstance(values, dict):
            self.problem("must be a JSON object")
            return None
        try:
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            self.problem("holds a lone surrogate, which is not a character: write the secret again")
            return None
        return values

    def problem(self, text: str) -> None:
        """Add one problem."""
        self._problems.append(f"{self._where}: {text}")

    def check_name(self, name: str) -> None:
        """Check the name of the source, which is the last part of the parameter's name."""
        try:
            check_source(name)
        except reader_errors.ConfigurationError as error:
            self.problem(str(error))

    def provider(self) -> Provider | None:
        """Return the provider; None where it is missing or unknown."""
        if self._broken:
            return None
        try:
            return providers.get(self.text("provider"))
        except ConfigurationError as error:
            self.problem(f'"provider": {error}')
            return None

    def text(self, field: str) -> str:
        """Return a text, without white space at its ends; empty where it is missing."""
        value = self._values.get(field, "")
        if isinstance(value, str):
            return value.strip()
        self.problem(f'"{field}" must be a text')
        return ""

    def needed(self, field: str, what: str) -> str:
        """Return a text that must not be missing; *what* says what it is."""
        text = self.text(field)
        wrong = self._broken or not isinstance(self._values.get(field, ""), str)
        if not (text or wrong):  # what is wrong with it has been said
            self.problem(f'"{field}" is missing: {what}')
        return text

    def one_of(self, field: str, known: tuple[str, ...]) -> str:
        """Return one of the known words, the first where it is missing."""
        value = self.text(field) or known[0]
        if value not in known:
            self.problem(f'"{field}" must be one of {", ".join(known)}')
        return value

    def flag(self, field: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._values.get(field, default)
        if isinstance(value, bool):
            return value
        self.problem(f'"{field}" must be true or false')
        return default

    def texts(self, field: str, known: tuple[str, ...] | None) -> dict[str, str]:
        """Return an object of texts; None knows no names, since nobody can say which there are.

        A misspelt name must not be ignored: without its filter a source is another flag set.
        """
        value = self._values.get(field, {})
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            self.problem(f'"{field}" must be an object of texts')
            return {}
        for name in sorted(value.keys() - set(value if known is None else known)):
            there = f"only {', '.join(known)}" if known else "there are none"
            self.problem(f'"{field}": {_shown(name, "a name")} is not known here, {there}')
        return value

    def secrets(self) -> tuple[Secret, ...]:
        """Return the webhook's secrets: the current one and, while rotating, the previous."""
        if self._broken:
            return ()
        value = self._values.get("secrets")
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.problem(
                '"secrets" must be a list: the current secret and, while you rotate, the previous'
            )
            return ()
        if not value or any(len(text.strip()) < MIN_SECRET for text in value):
            self.problem(
                f'"secrets" must name at least one, each of {MIN_SECRET} characters or more'
            )
        if any(text != text.strip() for text in value):
            self.problem('"secrets" must not begin or end with white space')
        return tuple(Secret(text) for text in value)


def _shown(name: str, otherwise: str) -> str:
    """Return a name for a message, unless it may be a secret that was put in the wrong place."""
    return f'"{name}"' if name.isidentifier() and len(name) < MIN_SECRET else otherwise
