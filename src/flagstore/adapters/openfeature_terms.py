"""OpenFeature's terms and ours: contexts, defaults, reasons, error codes, flag metadata. Pure.

Source: OpenFeature's specification, "Types and Data Structures" and "Evaluation Context".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from flagstore.evaluation import base

if TYPE_CHECKING:
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import FlagMetadata

    from flagstore.flags import Detail

REASONS = {
    base.OFF: Reason.DISABLED,
    base.FALLTHROUGH: Reason.DEFAULT,
    base.NO_MATCH: Reason.DEFAULT,
    base.PREREQUISITE_FAILED: Reason.DEFAULT,
    base.TARGET_MATCH: Reason.TARGETING_MATCH,
    base.RULE_MATCH: Reason.TARGETING_MATCH,
    base.NOT_IN_ROLLOUT: Reason.SPLIT,
    base.OVERRIDE: Reason.STATIC,
    base.ERROR: Reason.ERROR,
}
"""Our word → OpenFeature's; a word that is not here stays as it is. Two more rules come first: see
:func:`reason_of`."""

ERRORS = {
    base.FLAG_NOT_FOUND: (ErrorCode.FLAG_NOT_FOUND, "there is no such flag"),
    base.MALFORMED_FLAG: (ErrorCode.PARSE_ERROR, "the flag is malformed"),
    base.WRONG_TYPE: (ErrorCode.TYPE_MISMATCH, "the flag's value is of another type"),
    base.NO_VALUE: (ErrorCode.TYPE_MISMATCH, "the flag is on, and has no value beside that"),
    base.KEY_MISSING: (ErrorCode.TARGETING_KEY_MISSING, "the context has no targeting key"),
    base.CONTEXT_INVALID: (ErrorCode.INVALID_CONTEXT, "the context is not what the flags need"),
    base.NOT_LOADED: (ErrorCode.PROVIDER_NOT_READY, "no flags have been loaded yet"),
    base.TOO_OLD: (ErrorCode.GENERAL, "the flags are older than max_age_s"),
    base.UNSUPPORTED: (ErrorCode.GENERAL, "the flag uses what cannot be evaluated here"),
    base.SEGMENT_UNAVAILABLE: (ErrorCode.GENERAL, "a large segment cannot be read now"),
    base.EXCEPTION: (ErrorCode.GENERAL, "a fault of flagstore's; its log has it"),
}
"""Our word → OpenFeature's code, and what the error message says. Other words are GENERAL."""


def reason_of(detail: Detail) -> str:
    """Return why a flag has its value, in OpenFeature's terms.

    Stale flags are STALE whatever the reason, but for overrides, which no store can make stale.
    An experiment is SPLIT whatever led to it; another percentage rollout is not told apart from
    a fixed value of the same rule.
    """
    if detail.stale and detail.reason != base.OVERRIDE:
        return Reason.STALE
    return Reason.SPLIT if detail.in_experiment else REASONS.get(detail.reason, detail.reason)


def error_of(word: str) -> tuple[ErrorCode, str]:
    """Return OpenFeature's code and a message."""
    return ERRORS.get(word, (ErrorCode.GENERAL, word))


def metadata_of(detail: Detail) -> FlagMetadata:
    """Return what else is known of an evaluation, as far as it is."""
    config = detail.config
    found = {
        "reason": detail.reason,
        "rule": detail.rule or None,
        "rule_index": detail.rule_index,
        "version": detail.version,
        "config": config if config is None or isinstance(config, str) else json.dumps(config),
        "in_experiment": detail.in_experiment,
        "age_s": detail.age_s,
        "stale": detail.stale,
    }
    return {name: value for name, value in found.items() if value is not None}


def probe_of(default: Any, kind: type) -> Any:  # noqa: ANN401 - any JSON
    """Return the default as flagstore takes it, whose own class says what is asked for.

    Args:
        default: the caller's; also a subclass such as an enum of texts.
        kind: what is asked for; ``dict`` for objects and lists.

    Raises:
        TypeError: the default is of another type.
        OverflowError: a whole number is beyond what a float holds.
    """
    if kind is dict:
        if isinstance(default, Mapping):
            return dict(default)
        if isinstance(default, Sequence) and not isinstance(default, (str, bytes)):
            return list(default)
    elif isinstance(default, bool) is (kind is bool) and isinstance(
        default, (int, float) if kind is float else kind
    ):
        return kind(default)
    message = f"the default is a {type(default).__name__} where a {kind.__name__} is asked for"
    raise TypeError(message)


def context_of(given: EvaluationContext | None) -> dict[str, Any]:
    """Return the attributes, with the targeting key as ``key``, which wins over one of that name.

    A context of several kinds (LaunchDarkly: ``kind`` is ``multi``) has no key of its own: each of
    its attributes is a context of the kind that it is named for, with a ``targetingKey`` or a
    ``key``, as in LaunchDarkly's own provider. Times become ISO 8601 texts; those without a time
    zone are in UTC ("Types and Data Structures", Datetime).
    """
    if given is None:
        return {}
    context = {name: _json(value) for name, value in given.attributes.items()}
    if context.get("kind") == "multi":
        return {name: _part(value) for name, value in context.items()}
    if given.targeting_key is not None:
        context["key"] = given.targeting_key
    return context


def _part(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict) and value.get("targetingKey") is not None:
        key = value.pop("targetingKey")
        return {**value, "key": key}
    return value


def _json(value: Any) -> Any:  # noqa: ANN401 - what OpenFeature allows, as JSON
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, datetime):
        known = value if value.tzinfo else value.replace(tzinfo=UTC)
        return known.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {name: _json(member) for name, member in value.items()}
    return [_json(member) for member in value] if isinstance(value, Sequence) else value
