"""Fields of LaunchDarkly's flags and segments, and attributes of contexts, as they may be. Pure.

What a field may be, and what follows where it is something else, is launchdarkly-server-sdk 9.18
for Python: both take and refuse the same.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import MALFORMED_FLAG

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate, ParamSpec, TypeVar

    Attributes = dict[str, Any]
    Context = dict[str, Attributes]
    """Kind → attributes."""
    Reference = tuple[str, ...]
    """An attribute's name and, where it is an object, the names that lead on in it."""
    Path = tuple[str, ...]
    """The flags, or the segments, that led to this one: each depends on the next."""
    Matcher = Callable[[Context, Path], bool]

    Known = TypeVar("Known")
    Asked = ParamSpec("Asked")
    Returned = TypeVar("Returned")

    def bind(
        function: Callable[Concatenate[Known, Asked], Returned], known: Known
    ) -> Callable[Asked, Returned]:
        """Return a function that knows its first argument.

        A bound method, not a closure: with four names in a tuple it takes 136 bytes and not 392,
        is as fast, and a set of 10,000 flags holds some 30,000 of them.
        """

else:
    bind = MethodType


class MalformedError(Exception):
    """A flag or segment that the provider's SDK refuses to take."""


class StopError(Exception):
    """Ends an evaluation, of the flags that asked for this one as well."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


def optional(data: dict[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401 - provider JSON
    """Return a field or None; null is the same as none.

    Raises:
        MalformedError: it is of another type.
    """
    value = data.get(name)
    if value is not None and not isinstance(value, kind):
        raise MalformedError(name)
    return value


def required(data: dict[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401 - provider JSON
    """Return a field that must be there.

    Raises:
        MalformedError: it is not, or is of another type.
    """
    value = data.get(name)
    if not isinstance(value, kind):
        raise MalformedError(name)
    return value


def all_of(values: list[Any] | None, kind: type) -> list[Any]:
    """Return a list that may be missing, and must hold only one type.

    Raises:
        MalformedError: it holds another.
    """
    if not values:
        return []
    # Types are few where values are many.
    if not all(issubclass(found, kind) for found in set(map(type, values))):
        raise MalformedError
    return values


def reference(text: str, kind: str | None) -> Reference:
    """Return the names that lead to an attribute; none if the reference is invalid.

    Only beside a kind is ``/a/b`` one of several names, with ``~1`` for a slash and ``~0`` for a
    tilde (``AttributeRef`` in the SDK): older data, without kinds, has names of users' attributes.
    """
    if not kind or not text.startswith("/"):
        return (text,) if text else ()
    names = text[1:].split("/")
    for name in names:
        rest = name.replace("~0", "").replace("~1", "")
        if not name or "~" in rest:
            return ()
    return tuple(name.replace("~1", "/").replace("~0", "~") for name in names)


def read(attributes: Attributes, names: Reference) -> Any:  # noqa: ANN401 - the caller's own
    """Return what a reference leads to, or None.

    Raises:
        StopError: the reference was invalid.
    """
    if not names:
        raise StopError(MALFORMED_FLAG)
    value: Any = attributes
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
