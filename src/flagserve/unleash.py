"""Unleash's client and frontend API, from a flag set to JSON. Pure.

Source of the rules: Unleash's server 7.4 and 8.2 (``src/lib/features/client-feature-toggles``,
``src/lib/features/frontend-api``), whose responses the tests compare with these.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flagstore.codec import dumps
from flagstore.encode import unleash_text
from flagstore.evaluation.base import UnsupportedError

if TYPE_CHECKING:
    from datetime import datetime

    from flagstore.flags import ContextFlags
    from flagstore.snapshot import Snapshot

    type Moment = tuple[datetime, str]
    """A time without its fraction, and the fraction's digits."""

PROVIDER = "unleash"
SPEC_WITH_SEGMENTS = (4, 2, 0)
"""SDKs that announce this version of the client specification, or a later one, read segments.
Others get a segment's constraints in each strategy that uses it."""
CONTEXT_FIELDS = ("userId", "sessionId", "appName", "remoteAddress")
"""A frontend's context has these besides properties. Its environment is ignored: the engine takes
that of the flags."""
NO_VARIANT = '{"name":"disabled","enabled":false,"feature_enabled":true,"featureEnabled":true}'
"""Both spellings, as from the server."""
_TIME = '"currentTime"'
_BY_DATE = ("DATE_AFTER", "DATE_BEFORE")
_PROPERTY = re.compile(r"properties\[(.+)\]")
_SPEC = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})([-+].*)?")


class Query(NamedTuple):
    """The features that an SDK asks for."""

    projects: tuple[str, ...]
    """Empty: all."""
    name_prefix: str
    inlined: bool
    """Whether segments are replaced by their constraints."""


def read_query(parameters: Iterable[tuple[str, str]], spec: str) -> Query:
    """Read a query string and the header ``Unleash-Client-Spec``; other parameters are ignored.

    Raises:
        ValueError: if the header is not a version.
    """
    projects, prefix = set(), ""
    for name, value in parameters:
        if name == "project" and value:
            projects.add(value)
        elif name == "namePrefix":
            prefix = value
    version = _SPEC.fullmatch(spec or "0.0.0")
    if version is None:
        raise ValueError("Unleash-Client-Spec is not a version")
    known = tuple(int(version[part]) for part in (1, 2, 3))
    return Query(tuple(sorted(projects)), prefix, known < SPEC_WITH_SEGMENTS)


def features(snapshot: "Snapshot", query: Query) -> str:
    """Return the response to a server's SDK (``/api/client/features``), as JSON.

    Raises:
        NotLoadedError: if a large segment cannot be read now.
    """
    segments = snapshot.texts("segments").values()
    flags = snapshot.texts("flags").items()
    found = [text for name, text in flags if name.startswith(query.name_prefix)]
    if query.projects:
        found = [text for text in found if json.loads(text).get("project") in query.projects]
    if not query.inlined:
        return unleash_text(snapshot.meta, features=found, segments=segments)
    constraints = {one["id"]: one.get("constraints", []) for one in map(json.loads, segments)}
    return unleash_text(snapshot.meta, features=[_inlined(text, constraints) for text in found])


def _inlined(text: str, constraints: Mapping[Any, list[Any]]) -> str:
    """Return a feature with the constraints of its segments in the place of their numbers."""
    feature, strategies = json.loads(text), []
    for strategy in feature.get("strategies") or ():
        named = strategy.get("segments") or ()
        shared = [one for segment in named for one in constraints.get(segment, ())]
        plain = {name: value for name, value in strategy.items() if name != "segments"}
        strategies.append({**plain, "constraints": [*(strategy.get("constraints") or ()), *shared]})
    return dumps({**feature, "strategies": strategies})


def query_context(parameters: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return a context that a frontend sends by ``GET``: ``userId=ada&properties[plan]=pro``."""
    given: dict[str, Any] = {}
    properties: dict[str, str] = {}
    for name, value in parameters:
        found = _PROPERTY.fullmatch(name)
        if found:
            properties[found[1]] = value
        else:
            given[name] = value
    return {**given, "properties": properties}


def body_context(body: bytes) -> dict[str, Any]:
    """Return the context that a frontend sends by ``POST``: ``{"context": {"userId": "ada"}}``.

    Raises:
        ValueError: if it is not JSON, or the context is not an object.
    """
    given = json.loads(body) if body else {}
    found = given.get("context") if isinstance(given, dict) else given
    return _object({} if found is None else found, "context")


def context(given: Mapping[str, Any], ip: str, session: str) -> dict[str, Any]:
    """Return the context of a frontend, as for ``Flags.for_context``.

    Args:
        given: the context that the frontend sends. Names that Unleash does not know are properties.
        ip: its address, unless it names one.
        session: a random session, unless it names one.

    Raises:
        ValueError: if the properties are not an object, or a string is not Unicode.
    """
    others = {
        name: value for name, value in given.items() if name not in (*CONTEXT_FIELDS, "properties")
    }
    properties = {**others, **_object(given.get("properties") or {}, "properties")}
    fields = {name: given[name] for name in CONTEXT_FIELDS if given.get(name)}
    return {
        **_strings({"remoteAddress": ip, "sessionId": session, **fields}),
        "properties": _strings(properties),
    }


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
    return {_string(name): _string(value) for name, value in values.items() if value is not None}


def _string(value: Any) -> str:  # noqa: ANN401 - JSON
    """Return JSON as the string with which the server, in JavaScript, compares it.

    Raises:
        ValueError: if it has half of a surrogate pair.
    """
    if isinstance(value, list):
        return ",".join("" if one is None else _string(one) for one in value)
    if isinstance(value, dict):
        return "[object Object]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    text.encode()
    return text


class View(NamedTuple):
    """A flag that a browser may know of, and the JSON around its variant if it is on."""

    name: str
    before: str
    after: str


def view(snapshot: "Snapshot", sees: Callable[[str], bool]) -> list[View]:
    """Return the flags that a browser may know of."""
    found = []
    for name, text in snapshot.texts("flags").items():
        if not sees(name):
            continue
        # Few want impression data, and decoding takes longer than searching.
        asks = '"impressionData":true' in text and json.loads(text).get("impressionData") is True
        before = f'{{"name":{dumps(name)},"enabled":true,"variant":'
        found.append(View(name, before, f',"impressionData":{dumps(asks)}}}'))
    return found


def toggles(flags: "ContextFlags", views: Iterable[View]) -> str:
    """Return the response to a frontend's SDK (``/api/frontend``), as JSON.

    It has only the flags that are on, and only their results.
    """
    found = []
    for name, before, after in views:
        evaluation = flags.evaluation(name)
        if evaluation.value is True:
            found.append(f"{before}{_variant(evaluation.variant, evaluation.config)}{after}")
    return f'{{"toggles":[{",".join(found)}]}}'


def _variant(name: str | int | None, payload: dict[str, str] | None) -> str:
    if name is None:
        return NO_VARIANT
    variant: dict[str, Any] = {"name": name, "enabled": True}
    if payload is not None:
        variant["payload"] = payload
    return dumps({**variant, "feature_enabled": True, "featureEnabled": True})


def moments(snapshot: "Snapshot") -> "list[Moment] | None":
    """Return the dates in rules, sorted: as time passes, results change at these alone.

    None if they may change at any time.

    Raises:
        NotLoadedError: if a large segment cannot be read now.
    """
    found: list[Moment] = []
    for text in (*snapshot.texts("flags").values(), *snapshot.texts("segments").values()):
        if _TIME in text:
            dates = [date for one in _rules_by_date(json.loads(text)) if (date := _date(one))]
            if len(dates) != text.count(_TIME):
                return None
            found += dates
    return sorted(found)


def moment(now: float) -> "Moment":
    """Return a time, in seconds since the epoch, to be compared with :func:`moments`."""
    from datetime import UTC, datetime  # noqa: PLC0415 - few flags use the time

    found = _parse_date(datetime.fromtimestamp(now, UTC).isoformat())
    assert found is not None  # noqa: S101 - for the type checker
    return found


def _rules_by_date(value: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        if value.get("contextName") == "currentTime" and value.get("operator") in _BY_DATE:
            yield value
        value = [*value.values()]
    for member in value if isinstance(value, list) else ():
        yield from _rules_by_date(member)


def _date(constraint: Mapping[str, Any]) -> "Moment | None":
    value = constraint.get("value")
    try:
        return _parse_date(value.strip(" \t")) if isinstance(value, str) else None
    except UnsupportedError:
        return None


def _parse_date(text: str) -> "Moment | None":
    from flagstore.evaluation.unleash_operators import date  # noqa: PLC0415 - as above

    return date(text)


def check_registration(body: bytes) -> dict[str, Any]:
    """Check an SDK's registration, and return it.

    Raises:
        ValueError: if it is not a JSON object that names its application.
    """
    report = _object(json.loads(body), "report")
    if not isinstance(report.get("appName"), str) or not report["appName"]:
        raise ValueError("appName must be a string")
    return report


def check_metrics(body: bytes) -> dict[str, Any]:
    """Check an SDK's counts of evaluations, and return its report.

    Raises:
        ValueError: if it is not a JSON object with an application and counts by flag.
    """
    report = check_registration(body)
    bucket = _object(report.get("bucket"), "bucket")
    for counts in _object(bucket.get("toggles"), "toggles").values():
        for name in ("yes", "no"):
            count = _object(counts, "counts").get(name, 0)
            if not isinstance(count, (int, float)) or not count >= 0:
                raise ValueError(f"{name} must be a number of at least 0")
    return report


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004 - of the request
    return value
