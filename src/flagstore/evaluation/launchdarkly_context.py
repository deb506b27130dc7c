"""The contexts that LaunchDarkly's flags are evaluated for: kind → attributes. Pure.

The rules are those of ``Context.from_dict`` in LaunchDarkly's Python SDK 9.18, with four more
ways to say the same: a key may be an integer, ``kind`` may be missing and is ``user`` then,
``targetingKey`` or ``targeting_key`` may say the key, and where the kind is missing, what the
mapping ``custom`` holds (LaunchDarkly's users before there were contexts) counts as if it stood
beside it.

An integer is a key as in the SDK's ``Context.builder(42)``: it is hashed by its digits, and stays a
number for everything else, so that no list of texts has it. The builder also takes what it then
cannot hash, as a ``UUID``, a ``Decimal`` or a ``float``, and puts everybody with such a key into
the first bucket of each rollout: ``from_dict`` refuses those, and so does this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import CONTEXT_INVALID, KEY_MISSING, ContextError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.evaluation.launchdarkly_fields import Context

USER = "user"
_KIND_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"


def make_context(given: Mapping[str, Any]) -> Context:
    """Return the attributes of each kind in a context; ``given`` is neither changed nor kept.

    Attributes have ``key``, ``kind`` and ``anonymous`` in any case. Values are those that were
    given, not copies.

    Raises:
        ContextError: there is no key, a kind cannot be one, or a field has the wrong type.
    """
    try:
        attributes = dict(given)
    except (TypeError, ValueError):
        raise ContextError(CONTEXT_INVALID, "a context is a mapping") from None
    kind = attributes.get("kind")
    if kind == "multi":
        return _multi(attributes)
    if kind is None:
        kind = USER
        custom = attributes.get("custom")
        if isinstance(custom, dict):
            attributes = {**custom, **attributes}
    return {kind: _single(attributes, kind)}


def _multi(given: Mapping[str, Any]) -> Context:
    """Return the attributes of each kind of a context of several."""
    context: Context = {}
    for name, part in given.items():
        if name == "kind":
            continue
        if not isinstance(part, dict):
            raise ContextError(
                CONTEXT_INVALID, f"what is given for the kind {name!r} is no mapping"
            )
        kind = part.get("kind", name)
        attributes = _single(dict(part), kind)
        if kind in context:
            raise ContextError(CONTEXT_INVALID, f"the kind {kind!r} is given twice")
        context[kind] = attributes
    if not context:
        raise ContextError(CONTEXT_INVALID, "a context of several kinds has none")
    return context


def _single(attributes: dict[str, Any], kind: Any) -> dict[str, Any]:  # noqa: ANN401 - unchecked
    """Check the attributes of a context of one kind, and complete them."""
    key = attributes.get("key")
    if key is None:
        key = attributes.get("targetingKey")
        if key is None:
            key = attributes.get("targeting_key")
        attributes["key"] = key
    if key is None or key == "":
        raise ContextError(KEY_MISSING, "a context needs a key that is not empty")
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        raise ContextError(CONTEXT_INVALID, "the key of a context is a text or an integer")
    if kind != USER:
        _check_kind(kind)
    attributes["kind"] = kind
    if not isinstance(attributes.setdefault("anonymous", False), bool):
        raise ContextError(CONTEXT_INVALID, "anonymous is true or false")
    name = attributes.get("name")
    if name is not None and not isinstance(name, str):
        raise ContextError(CONTEXT_INVALID, "the name of a context is a text")
    if "" in attributes:
        raise ContextError(CONTEXT_INVALID, "an attribute has no name")
    if "_meta" in attributes:
        _check_meta(attributes.pop("_meta"))
    return attributes


def _check_kind(kind: Any) -> None:  # noqa: ANN401 - unchecked
    """Raise if this cannot be a kind: letters, digits, ``.``, ``-``, ``_``, and two reserved."""
    if not isinstance(kind, str):
        raise ContextError(CONTEXT_INVALID, "the kind of a context is a text")
    if kind in {"", "kind", "multi"} or kind.strip(_KIND_CHARACTERS):
        raise ContextError(CONTEXT_INVALID, f"{kind!r} cannot be the kind of a context")


def _check_meta(meta: Any) -> None:  # noqa: ANN401 - unchecked
    """Raise if ``_meta`` is not as it must be; it is of no use here."""
    private = meta.get("privateAttributes") if isinstance(meta, dict) else None
    known = private is None or isinstance(private, list)
    if not (meta is None or isinstance(meta, dict)) or not known:
        raise ContextError(CONTEXT_INVALID, "_meta of a context is malformed")
    if not all(isinstance(name, str) for name in private or ()):
        raise ContextError(CONTEXT_INVALID, "privateAttributes of a context are not all texts")
