"""A context as Split's flags look at it, and the bucket that it is in. Pure.

Input rules are those of splitio_client 10.7.0. So are the hashes, except that the legacy one of a
key beyond the basic multilingual plane is that of Split's published files: over UTF-16 code units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import CONTEXT_INVALID, KEY_MISSING, ContextError
from flagstore.evaluation.murmur3 import mixed, murmur3_32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_KEY = 250
"""Characters that a key may have."""

_MASK = 0xFFFFFFFF
_NO_SEED = -1 << 33
"""Nothing is ever kept under it."""


class DamagedError(Exception):
    """A flag cannot be evaluated because of what it, or one that it leads to, is made of."""


class Context:
    """A key with its attributes, and what was made of them already."""

    __slots__ = (
        "bucketing_key",
        "buckets",
        "encoded",
        "key",
        "legacy_hash",
        "mixed",
        "path",
        "values",
    )

    def __init__(self, key: str, bucketing_key: str, values: dict[Any, Any]) -> None:
        self.key = key
        """The matching key."""
        self.bucketing_key = bucketing_key
        """What is hashed; the matching key where none was given."""
        values[None] = key
        self.values = values
        """The attributes by name; under None the key, for matchers that select no attribute."""
        self.buckets: dict[int, int] = {}
        """By seed, the legacy hash's by a number below zero."""
        self.encoded: bytes | None
        """The bucketing key in UTF-8; None where half of a surrogate pair is in it: the SDK fails
        if it has to hash that."""
        try:
            self.encoded = bucketing_key.encode()
        except UnicodeEncodeError:
            self.encoded = None
        self.mixed: tuple[tuple[int, ...], int, int] | None = None
        self.legacy_hash = -1
        """Of the bucketing key, before a seed is mixed in; -1 where it was not needed yet."""
        self.path: frozenset[tuple[str, str]] = frozenset()
        """What is being evaluated, where flags lead back to themselves."""

    def within(self, token: tuple[str, str]) -> Context:
        """Return one that remembers what is being evaluated.

        Raises:
            DamagedError: that is being evaluated already, and so would be forever.
        """
        if token in self.path:
            raise DamagedError(f"{token[1]} depends on itself")
        inner = Context(self.key, self.bucketing_key, self.values)
        inner.buckets = self.buckets
        inner.path = self.path | {token}
        return inner


class Hash:
    """How a flag puts contexts into buckets from 1 to 100, by one of its seeds.

    ``context.buckets.get(hash.seed) or hash.bucket(context, hash.seed)`` is the bucket.
    """

    __slots__ = ("bucket", "murmur", "seed")

    def __init__(self, seed: object, algorithm: object) -> None:
        self.murmur = algorithm == 2  # noqa: PLR2004 - any other is the legacy one
        self.bucket: Callable[[Context, int], int] = no_bucket
        self.seed = _NO_SEED
        if isinstance(seed, int):
            self.bucket = murmur_bucket if self.murmur else legacy_bucket
            self.seed = seed & _MASK if self.murmur else -1 - (seed & _MASK)


def no_bucket(_context: Context, _seed: int) -> int:
    """Fail, as the SDK does over a seed that is no integer."""
    raise DamagedError("a seed is no integer")


def murmur_bucket(context: Context, seed: int) -> int:
    """Return the bucket by murmur3, and keep it."""
    prepared = context.mixed
    if prepared is None:
        if context.encoded is None:
            raise UnicodeError("the key has half a character")
        prepared = context.mixed = mixed(context.encoded)
    found = context.buckets[seed] = murmur3_32(prepared, seed) % 100 + 1
    return found


def legacy_bucket(context: Context, seed: int) -> int:
    """Return the bucket by the older hash, and keep it; the seed counts down from -1."""
    value = context.legacy_hash
    if value < 0:
        value = 0
        units = context.bucketing_key.encode("utf-16-le", "surrogatepass")
        for low, high in zip(units[::2], units[1::2], strict=True):
            value = 31 * value + (high << 8 | low) & _MASK
        context.legacy_hash = value
    value ^= -1 - seed
    magnitude = 0x1_0000_0000 - value if value >> 31 else value
    found = context.buckets[seed] = magnitude % 100 + 1
    return found


def context_of(given: Mapping[str, Any]) -> Context:
    """Take the keys out of what a caller gives; the rest are attributes.

    The matching key is ``key``, ``targetingKey`` or ``targeting_key``, the first that is not None;
    the bucketing key ``bucketingKey`` or ``bucketing_key``. None of these is an attribute.

    Raises:
        ContextError: there is no key, or none that the SDK takes.
    """
    try:
        values: dict[Any, Any] = dict(given)
    except (TypeError, ValueError) as error:
        raise ContextError(CONTEXT_INVALID, "the context must be a mapping") from error
    take = values.pop
    key, second, third = take("key", None), take("targetingKey", None), take("targeting_key", None)
    bucketing, other = take("bucketingKey", None), take("bucketing_key", None)
    if key is None:
        key = third if second is None else second
        if key is None:
            raise ContextError(KEY_MISSING, "the context has no key")
    key = _checked(key, "key")
    if bucketing is None:
        bucketing = other
    return Context(key, key if bucketing is None else _checked(bucketing, "bucketingKey"), values)


def _checked(key: object, name: str) -> str:
    text = key if isinstance(key, str) else _as_key(key)
    if text is None:
        raise ContextError(CONTEXT_INVALID, f"the {name} must be a text or a finite number")
    if not text or text.isspace():
        raise ContextError(KEY_MISSING, f"the {name} is empty")
    if len(text) > MAX_KEY:
        raise ContextError(CONTEXT_INVALID, f"the {name} is longer than {MAX_KEY} characters")
    return text


def _as_key(value: object) -> str | None:
    import math  # noqa: PLC0415 - keys are texts nearly always
    from numbers import Number  # noqa: PLC0415

    if isinstance(value, bool) or not isinstance(value, Number):
        return None
    try:
        finite = math.isfinite(value)  # type: ignore[arg-type] # a number without an order fails
    except (TypeError, ValueError, OverflowError):
        return None
    return str(value) if finite else None
