"""From what an engine says to the type that a caller asked for. Pure.

Engines differ in what a flag's value is: any JSON (LaunchDarkly), a treatment (Split), a toggle
with a variant (Unleash), attributes (AppConfig). So there is one :class:`Conversion` for each.
Each function returns the response and the error's word, which is empty if all is well; where there
is an error, or no value, the response is the caller's default.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flagstore.evaluation.base import ABSENT, MALFORMED_FLAG, NO_VALUE, WRONG_TYPE, Evaluation

Converted = tuple[Any, str]
Truth = tuple[bool, str]

SPLIT_TRUTHS = {"on": True, "true": True, "off": False, "false": False}


class Conversion(NamedTuple):
    """How the outcomes of one provider's engine are turned into responses."""

    value: Callable[[Evaluation, Any], Converted]
    """Of an outcome and the caller's default, whose type is the type of the response."""
    on: Callable[[Evaluation, bool], Truth]
    """Of an outcome and the caller's default: whether the flag is on."""


def deep_copy(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON that shares nothing with the flag set that can be changed."""
    kind = value.__class__
    if kind is dict:
        return {key: deep_copy(member) for key, member in value.items()}
    if kind is list:
        return [deep_copy(member) for member in value]
    return value


def coerce(value: Any, default: Any, error: str = "") -> Converted:  # noqa: ANN401 - any JSON
    """Return a value if it is of the default's type; an int passes for a float."""
    kind = value.__class__
    if (
        default is None
        or kind is default.__class__
        or (kind is int and default.__class__ is float)
        # Also for people's own kinds of text and dictionary: an enum of texts, a Counter.
        or (kind in {str, dict, list} and isinstance(default, kind))
    ):
        return (deep_copy(value) if kind is dict or kind is list else value), error
    return default, WRONG_TYPE


def plain_value(outcome: Evaluation, default: Any) -> Converted:  # noqa: ANN401 - any JSON
    """Return any JSON as it is: LaunchDarkly's variations, and overrides."""
    value = outcome.value
    return (default, outcome.error) if value is ABSENT else coerce(value, default, outcome.error)


def plain_on(outcome: Evaluation, default: bool) -> Truth:  # noqa: FBT001 - as of Conversion
    """Take true and false, and nothing else."""
    value = outcome.value
    if value is True or value is False:
        return value, outcome.error
    return default, outcome.error if value is ABSENT else WRONG_TYPE


def split_value(outcome: Evaluation, default: Any) -> Converted:  # noqa: ANN401 - any JSON
    """Read a treatment: as text, as truth, as number; for an object or list its configuration.

    A treatment that is itself JSON does for an object where there is no configuration, as in
    Split's own OpenFeature provider.
    """
    treatment = outcome.value
    if treatment is ABSENT:
        return default, outcome.error
    if default is None or isinstance(default, str):
        return treatment, outcome.error
    if default.__class__ is bool:
        return split_on(outcome, default)
    for text in (treatment,) if isinstance(default, (int, float)) else (outcome.config, treatment):
        value = _loads(text)
        response = coerce(value, default, outcome.error)
        if value is not ABSENT and response[1] != WRONG_TYPE:
            return response
    return default, WRONG_TYPE


def split_on(outcome: Evaluation, default: bool) -> Truth:  # noqa: FBT001 - as of Conversion
    """Take ``on`` and ``true``, ``off`` and ``false``, in any case."""
    if outcome.value is ABSENT:
        return default, outcome.error
    truth = SPLIT_TRUTHS.get(outcome.value.lower())
    return (default, WRONG_TYPE) if truth is None else (truth, outcome.error)


def unleash_value(outcome: Evaluation, default: Any) -> Converted:  # noqa: ANN401 - any JSON
    """Read the payload of the variant by its type; the toggle itself for a truth.

    A feature that is off has no value, nor has one without variants, nor a variant without a
    payload: the variant's name is in the detail.
    """
    if outcome.value is ABSENT:
        return default, outcome.error
    if default.__class__ is bool:
        return outcome.value, outcome.error
    if outcome.value is not True or outcome.error:
        return default, outcome.error
    if outcome.config is None:
        return default, "" if default is None else NO_VALUE
    value = _payload(outcome.config)
    return (default, MALFORMED_FLAG) if value is ABSENT else coerce(value, default)


def appconfig_value(outcome: Evaluation, default: Any) -> Converted:  # noqa: ANN401 - any JSON
    """Read the attributes of a flag that is on; for a truth, whether it is on.

    A flag of a freeform profile is what it is.
    """
    on = outcome.config
    if on is None or default.__class__ is bool:
        return plain_value(outcome if on is None else outcome._replace(value=on), default)
    return coerce(outcome.value, default, outcome.error) if on else (default, outcome.error)


def appconfig_on(outcome: Evaluation, default: bool) -> Truth:  # noqa: FBT001 - as of Conversion
    """Take ``enabled``; of a freeform profile, true and false."""
    on = outcome.config
    return plain_on(outcome if on is None else outcome._replace(value=on), default)


def _payload(payload: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    kind, text = payload.get("type"), payload.get("value")
    if kind not in {"number", "json"}:
        return text
    value = _loads(text)
    return ABSENT if kind == "number" and value.__class__ not in {int, float} else value


def _loads(text: Any) -> Any:  # noqa: ANN401 - any JSON
    """Read JSON; what is none is ABSENT, and so are NaN and infinities, which JSON cannot say."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return ABSENT
    return ABSENT if value.__class__ is float and value - value != 0 else value


PLAIN = Conversion(plain_value, plain_on)
BY_PROVIDER = {
    "launchdarkly": PLAIN,
    "appconfig": Conversion(appconfig_value, appconfig_on),
    "split": Conversion(split_value, split_on),
    "unleash": Conversion(unleash_value, plain_on),
}
