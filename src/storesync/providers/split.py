"""Split (Harness FME): webhooks with a secret in the URL, and the data its server-side SDKs poll.

A flag set has three sections, each by name:

``flags``
    the active ones, as sent by ``splitChanges`` (``ff.d``)
``rule_based_segments``
    likewise (``rbs.d``)
``segments``
    ``{"name": "beta", "keys": ["ada", "bob"]}``: the sorted keys that remain after all additions
    and removals of ``segmentChanges``. Its ``till`` is left out: it may rise without any change of
    keys, and would make equal segments differ.

Every segment that a flag or a rule-based segment refers to is fetched (``IN_SEGMENT``, and
``excluded.segments`` of the type ``standard``). Large segments are not: no server-side SDK
supports them, and flags that use one evaluate to ``control`` there (Harness: targeting with
segments).

``meta`` holds ``spec``, the specification that the responses follow, and ``sets``, the requested
flag sets, if any. The revision is ``ff.t``, a change number: milliseconds since the epoch. There is
no ETag: each fetch is complete.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from storesync.errors import ConfigurationError, MalformedResponseError
from storesync.model import FetchResult, FlagSet, Verdict
from storesync.providers import base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.evaluation.base import Items
    from storesync.http import HttpClient
    from storesync.model import Json, Source, WebhookConfig, WebhookRequest

_SEGMENT = "userDefinedSegmentMatcherData", "segmentName"
_REFERENCES = {
    "IN_SEGMENT": ("segments", *_SEGMENT),
    "IN_RULE_BASED_SEGMENT": ("rule_based_segments", *_SEGMENT),
    "IN_SPLIT_TREATMENT": ("flags", "dependencyMatcherData", "split"),
}
"""Type of a matcher → section, field and name of the item that it refers to."""
_SECTIONS = {"standard": "segments", "rule-based": "rule_based_segments"}
"""Type of a segment that a rule-based segment excludes → its section."""
_REQUIRED = re.compile(r"change/([0-9]{1,16})")
_FLAG_SET = re.compile(r"[a-z0-9][_a-z0-9]{0,49}")


class Split(base.Provider):
    """Split's outgoing webhook ("Audit log"), and its SDK API.

    A required revision is written ``change/<changeNumber>``.
    """

    name = "split"
    title = "Split"
    methods = ("url",)
    accepted_status = 200
    default_base_url = "https://sdk.split.io/api"
    options = ("sets",)
    webhook_options = ("environment",)
    revisions_of = "sets"

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Compare the secret in the URL: Split signs nothing, and its form takes only a URL."""
        base.check_secret(webhook, self.title, "the URL", request.token)

    def webhook_event(
        self, event: Mapping[str, Json], options: Mapping[str, str]
    ) -> base.WebhookEvent:
        """Accept any body, except the event of another environment.

        An event names its environment, but not its project. The flags are certain to reach its
        change number only if the environment is known.
        """
        number = event.get("changeNumber")
        delivery = str(number) if base.is_version(number) else ""
        expected, given = options.get("environment"), event.get("environmentName")
        if expected and isinstance(given, str) and given and given != expected:
            return base.WebhookEvent(None, delivery)
        of_a_flag = event.get("type") == "split" and base.is_version(number) and number > 0
        certain = expected and given == expected
        return base.WebhookEvent((f"change/{number}",) if of_a_flag and certain else (), delivery)

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch flags, rule-based segments and segments of the SDK key's environment."""
        from storesync.providers.split_api import SPEC, SplitApi  # noqa: PLC0415 - not for webhooks

        del etag  # Split has none
        sets = _flag_sets(source)
        numbers = [int(match[1]) for match in map(_REQUIRED.fullmatch, unmet) if match]
        api = SplitApi(source, http, self.default_base_url)
        flags, rule_based, till = api.definitions(sets, str(max(numbers)) if numbers else "")
        names = {
            *self._segment_names("flag", flags),
            *self._segment_names("rule-based segment", rule_based),
        }
        keys = api.segments(names)
        sections = {
            "flags": flags,
            "rule_based_segments": rule_based,
            "segments": {name: {"name": name, "keys": keys[name]} for name in keys},
        }
        meta = {"spec": SPEC, **({"sets": sets} if sets else {})}
        return FetchResult(FlagSet(self.name, sections, meta, max(till, 0)))

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Json]) -> bool:
        """Compare change numbers: the set's is the highest of its flags'."""
        del item  # deleted flags cannot be compared
        number = _REQUIRED.fullmatch(required)
        return number is None or revision >= int(number[1])

    def judge(self, items: Items) -> Callable[[str, str], Verdict]:
        """Judge items as the engine does."""
        from flagstore.evaluation.base import MalformedError  # noqa: PLC0415 - as of Provider
        from flagstore.evaluation.split import SplitEngine  # noqa: PLC0415

        engine = SplitEngine(items)

        def judge(section: str, key: str) -> Verdict:
            try:
                engine.check(section, key)
            except MalformedError:
                return Verdict.DAMAGED
            return Verdict.USABLE

        return judge

    def references(self, section: str, item: Json) -> Iterator[tuple[str, str]]:
        """Yield the flags, segments and rule-based segments that an item refers to."""
        if section == "segments":
            return
        for prerequisite in base.objects(item.get("prerequisites")):
            yield "flags", _name(prerequisite, "n")
        for excluded in base.objects(_field(item.get("excluded"), "segments")):
            target = _SECTIONS.get(_name(excluded, "type"))
            if target:  # no SDK supports large segments
                yield target, _name(excluded, "name")
        for condition in base.objects(item.get("conditions")):
            for matcher in condition["matcherGroup"]["matchers"]:
                reference = _REFERENCES.get(_name(matcher, "matcherType"))
                if reference:
                    target, field, name = reference
                    yield target, _name(matcher.get(field), name)

    def members(self, segment: Json) -> frozenset[str]:
        """Return the keys of a segment."""
        return frozenset(base.strings(_field(segment, "keys")))

    def _segment_names(self, kind: str, items: Mapping[str, Any]) -> Iterator[str]:
        """Yield the segments that items need, after checking the fields that all code relies on."""
        for name, item in items.items():
            if kind == "flag" and not isinstance(item.get("defaultTreatment"), str):
                raise _malformed(kind, name, "has no defaultTreatment")
            conditions = item.get("conditions")
            optional = conditions is None and kind != "flag"
            for condition in _listed(kind, name, "conditions", [] if optional else conditions):
                _listed(kind, name, "matchers", _field(condition.get("matcherGroup"), "matchers"))
            excluded = {} if item.get("excluded") is None else item["excluded"]
            if not isinstance(excluded, dict) or excluded.get("segments") is not None:
                _listed(kind, name, "excluded segments", _field(excluded, "segments"))
            for section, key in self.references(kind, item):
                if section == "segments":
                    if not base.is_key(key):
                        raise _malformed(kind, name, "refers to a segment without a name")
                    yield key

    def usage(self) -> base.UsageApi:
        """Return how it takes usage."""
        from storesync.providers.split_usage import SplitUsage  # noqa: PLC0415

        return SplitUsage()


def _flag_sets(source: Source) -> list[str]:
    """Return the flag sets of the option ``sets`` as SDKs send them: lower-case, sorted, once."""
    text = source.options.get("sets", "")
    names = sorted({name.strip().lower() for name in text.split(",")}) if text.strip() else []
    for name in names:
        if not _FLAG_SET.fullmatch(name):
            raise ConfigurationError(
                f'the option "sets" in the SSM parameter <prefix>/sources/{source.name} must be '
                f"names of flag sets separated by commas: {name[:64]!r} is invalid (up to 50 of "
                f"a-z, 0-9 and _, not beginning with _)"
            )
    return names


def _field(value: object, name: str) -> Json:
    return value.get(name) if isinstance(value, dict) else None


def _name(value: object, field: str) -> str:
    found = _field(value, field)
    return found if isinstance(found, str) else ""


def _listed(kind: str, name: str, field: str, items: object) -> list[dict[str, Any]]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _malformed(kind, name, f"has no list of {field}")
    return items


def _malformed(kind: str, name: str, problem: str) -> MalformedResponseError:
    return MalformedResponseError(f"Split: {kind} {name[:64]!r} {problem}")
