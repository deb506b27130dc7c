"""OFREP, the OpenFeature Remote Evaluation Protocol 0.3.0, from flags to JSON. Pure.

A request does not name a type, so each flag has one:

LaunchDarkly
    The variation's value. If a variation is a number with a decimal point, all numbers have one.
Split
    A boolean if all treatments of the flag are ``on``, ``off``, ``true`` or ``false``, in any case;
    else the treatment, a string. Its configuration is in the metadata.
Unleash
    If a variant of the feature has a payload: the payload, in its type, and no value while the
    feature is off or the variant has none. Else a boolean: whether the feature is on.
AppConfig
    If the flag has attributes: an object of these and ``enabled``, as the agent returns it. Else a
    boolean: whether it is on. In a freeform profile, the JSON.

A flag without a value has ``null`` and the reason DISABLED, for which clients use their default.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flagserve.gateway import RequestError, Response, unquoted
from flagserve.views import TRANSIENT, weak
from flagstore import terms
from flagstore.codec import dumps
from flagstore.flags import SPLIT_BOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from flagserve.gateway import Request
    from flagserve.views import View
    from flagstore.flags import ContextFlags, Detail
    from flagstore.snapshot import Snapshot

BOOLEAN, FLOAT, PAYLOAD, ATTRIBUTES, ANY = "boolean", "float", "payload", "attributes", "any"
"""Types of flags."""
REASONS = dict.fromkeys(("DEFAULT", "DISABLED", "STATIC"), "STATIC") | {
    "SPLIT": "SPLIT",
    "TARGETING_MATCH": "TARGETING_MATCH",
}
"""OpenFeature's reason → OFREP's, which has no DEFAULT; clients discard values that are DISABLED.
Any other is UNKNOWN."""
NOT_FOUND = "FLAG_NOT_FOUND"
CODES = frozenset((NOT_FOUND, "INVALID_CONTEXT", "PARSE_ERROR", "TARGETING_KEY_MISSING"))
"""OpenFeature's error codes that OFREP has. Any other is GENERAL."""
GENERAL = "GENERAL"
RULE_FIELDS = ("rule", "rule_index", "deployment")
"""Metadata that only servers get."""
_EXACT = 2**53


def read_context(body: bytes) -> dict[str, Any]:
    """Return the context of a request, as for ``Flags.for_context``.

    Raises:
        RequestError: if it is malformed.
    """
    try:
        given = json.loads(body, parse_constant=_refused)
        if b"\\u" in body:
            json.dumps(given, ensure_ascii=False).encode()  # rejects half a surrogate pair
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "the body is not JSON", "PARSE_ERROR") from error
    found = given.get("context", {}) if isinstance(given, dict) else None
    if not isinstance(found, dict):
        raise _invalid('the body must be an object with an object "context"')
    key = found.pop("targetingKey", None)
    if key is not None and not isinstance(key, str):
        raise _invalid("targetingKey must be a string")
    return terms.keyed(found, key)


def _invalid(message: str) -> RequestError:
    return RequestError(400, message, "INVALID_CONTEXT")


def _refused(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def name_of(given: str, names: Collection[str]) -> str:
    """Return the name of a flag in a path, which may be escaped.

    Raises:
        RequestError: if there is no such flag.
    """
    for name in (given, unquoted(given)):
        if name in names:
            return name
    raise RequestError(404, "there is no such flag", NOT_FOUND)


def refusal(request: Request, error: RequestError) -> Response:
    """Return the response to a request that is not served."""
    name = request.parameter("key")
    found = {"key": name} if name else {}
    found |= {"errorCode": error.code or GENERAL, "errorDetails": str(error)}
    return Response(error.status, dumps(found).encode())


# -- evaluations ----------------------------------------------------------------------------------


def one(detail: Detail, kind: str, *, rules: bool) -> Response:
    """Return the response for one flag.

    Args:
        detail: its evaluation.
        kind: its type.
        rules: whether the client may see the rules of flags.
    """
    found = _evaluated(detail, kind, rules=rules)
    status = {"": 200, NOT_FOUND: 404}.get(found.get("errorCode", ""), 400)
    return Response(status, dumps(found).encode())


def many(
    flags: ContextFlags, view: View, snapshot: Snapshot, etag: str, *, rules: bool
) -> Response:
    """Return the response for all flags of a view; by default, its ETag is the body's.

    Raises:
        RequestError: if no flag can be evaluated for this context.
    """
    probe = flags.detail("")
    code, message = terms.error(probe.error)
    if code != NOT_FOUND:
        raise RequestError(400, message, code if code in CODES else GENERAL)
    details = [detail for detail in map(flags.detail, view.known) if detail.error != NOT_FOUND]
    text = dumps([_evaluated(each, kind_of(each, view, snapshot), rules=rules) for each in details])
    if TRANSIENT.isdisjoint(detail.error for detail in details):
        etag = etag or weak(text.encode())
    else:
        etag = ""
    metadata = {
        "version": snapshot.snapshot_record.token,
        "age_s": round(probe.age_s, 3),
        "stale": probe.stale,
    }
    return Response(200, f'{{"flags":{text},"metadata":{dumps(metadata)}}}'.encode(), etag)


def _evaluated(detail: Detail, kind: str, *, rules: bool) -> dict[str, Any]:
    if detail.error:
        code, message = terms.error(detail.error)
        code = code if code in CODES else GENERAL
        failure = {"key": detail.key, "errorCode": code, "errorDetails": message}
        return {**failure, "metadata": {"error": detail.error}}
    value = _value(detail, kind)
    metadata = terms.metadata(detail)
    if not rules:
        for name in RULE_FIELDS:
            metadata.pop(name, None)
    if kind == PAYLOAD:
        metadata["enabled"] = detail.enabled
    is_missing = value is None and (kind == PAYLOAD or detail.variant is None)
    return {
        "key": detail.key,
        "value": value,
        "reason": "DISABLED" if is_missing else REASONS.get(terms.reason(detail), "UNKNOWN"),
        "variant": _variant(detail, value),
        "metadata": metadata,
    }


def _value(detail: Detail, kind: str) -> Any:  # noqa: ANN401 - JSON
    value = detail.value
    if kind == BOOLEAN:
        return detail.enabled
    if kind == FLOAT and type(value) is int and abs(value) <= _EXACT:
        return float(value)
    return {**(value or {}), "enabled": detail.enabled} if kind == ATTRIBUTES else value


def _variant(detail: Detail, value: object) -> str:
    if detail.variant is not None:
        return str(detail.variant)
    return ("enabled" if value else "disabled") if isinstance(value, bool) else ""


# -- types ----------------------------------------------------------------------------------------


def kind_of(detail: Detail, view: View, snapshot: Snapshot) -> str:
    """Return the type of a flag that was evaluated, cached in the view."""
    name = detail.key
    if snapshot.two_versions:  # AppConfig: of the version that was evaluated
        return _kind(name, snapshot, snapshot.section_of(name, detail.version))
    kind = view.known[name]
    if kind is None:
        kind = view.known[name] = _kind(name, snapshot, "flags")
    return kind


def _kind(name: str, snapshot: Snapshot, section: str) -> str:
    find, text = KINDS.get(snapshot.snapshot_record.provider), snapshot.held(section, name)
    try:
        return ANY if find is None or text is None else find(json.loads(text), snapshot)
    except (AttributeError, LookupError, TypeError):
        return ANY  # malformed, so it evaluates to an error


def _of_launchdarkly(flag: dict[str, Any], _snapshot: Snapshot) -> str:
    return FLOAT if any(type(value) is float for value in flag["variations"]) else ANY


def _of_split(flag: dict[str, Any], _snapshot: Snapshot) -> str:
    parts = [part for condition in flag["conditions"] for part in condition["partitions"]]
    treatments = {flag["defaultTreatment"], *(part["treatment"] for part in parts)}
    return BOOLEAN if all(each.lower() in SPLIT_BOOLS for each in treatments) else ANY


def _of_unleash(feature: dict[str, Any], _snapshot: Snapshot) -> str:
    holders = feature, *(feature.get("strategies") or ())
    variants = [one for holder in holders for one in holder.get("variants") or ()]
    return PAYLOAD if any(one.get("payload") for one in variants) else BOOLEAN


def _of_appconfig(flag: Any, snapshot: Snapshot) -> str:  # noqa: ANN401 - in a freeform profile, any JSON
    if snapshot.meta.get("format") == "freeform":
        return ANY
    return ATTRIBUTES if any(_attributes(flag)) else BOOLEAN


def _attributes(flag: dict[str, Any]) -> Iterator[str]:
    for variant in flag.get("_variants", ()):
        yield from variant.get("attributeValues") or ()
    yield from (name for name in flag if name != "enabled" and not name.startswith("_"))


KINDS: dict[str, Callable[[Any, Snapshot], str]] = {
    "appconfig": _of_appconfig,
    "launchdarkly": _of_launchdarkly,
    "split": _of_split,
    "unleash": _of_unleash,
}
"""Provider → function that returns a flag's type."""
