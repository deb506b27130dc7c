"""Split (Harness FME): webhooks with a secret in the URL, and what its server-side SDKs poll.

A flag set has three sections, each by name:

``flags``
    as ``splitChanges`` sends them (``ff.d``), the active ones
``rule_based_segments``
    likewise (``rbs.d``)
``segments``
    ``{"name": "beta", "keys": ["ada", "bob"]}``: the keys that are left of what
    ``segmentChanges`` added and removed, sorted, each once. Its ``till`` is no part of it: that
    rises without a key changing, and would make an equal segment another one.

Fetched is every segment that a flag or a rule-based segment refers to (``IN_SEGMENT``, and
``excluded.segments`` of the type ``standard``). Large segments are not: no server-side SDK
supports them, and flags that use one evaluate to ``control`` there (Harness: targeting with
segments).

``meta`` holds ``spec``, the specification that the responses follow, and ``sets``, the flag sets
asked for, where there are any. The revision is ``ff.t``, a change number: milliseconds since the
epoch. There is no ETag: each fetch is a whole one. It is refused where segments hold more than
``split_api.MAX_KEYS`` keys; what is published then stays.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from storesync.errors import ConfigurationError, MalformedResponseError
from storesync.model import FetchResult, FlagSet
from storesync.providers import common

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storesync.http import HttpClient
    from storesync.model import ProviderEvent, Source, WebhookConfig, WebhookRequest

MAX_EVENT_BYTES = 6 * 1024 * 1024
"""What a compressed webhook may inflate to: as much as API Gateway takes uncompressed."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_REFERENCES = {
    "IN_SEGMENT": ("segments", "userDefinedSegmentMatcherData", "segmentName"),
    "IN_RULE_BASED_SEGMENT": (
        "rule_based_segments",
        "userDefinedSegmentMatcherData",
        "segmentName",
    ),
    "IN_SPLIT_TREATMENT": ("flags", "dependencyMatcherData", "split"),
}
"""Section, field and name of what a matcher asks for, by its type."""
_SECTIONS = {"standard": "segments", "rule-based": "rule_based_segments"}
"""By the type of what a rule-based segment excludes."""
_REQUIRED = re.compile(r"change/([0-9]{1,16})")
_FLAG_SET = re.compile(r"[a-z0-9][_a-z0-9]{0,49}")


class Split:
    """Split's outgoing webhook ("Audit log"), and its SDK API.

    The revision to reach is written ``change/<changeNumber>``.
    """

    name = "split"
    title = "Split"
    methods = ("url",)
    accepted_status = 200
    default_base_url = "https://sdk.split.io/api"
    options = ("sets",)
    webhook_options = ("environment",)
    needs_key = True

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Compare the secret in the URL: Split signs nothing, and its form takes only a URL."""
        if webhook.method not in self.methods:
            raise common.wrong_method(webhook, self.title, self.methods)
        common.check_secret([request.token], webhook, self.title, "the URL")

    def required_revisions(
        self, request: WebhookRequest, webhook: WebhookConfig
    ) -> tuple[str, ...] | None:
        """Accept any body, except for the event of another environment.

        An event names its environment and nothing of the project. Only where it is ours for sure
        is its change number one that our flags will reach.
        """
        event = _event(request)
        ours = webhook.options.get("environment")
        theirs = event.get("environmentName")
        if ours and isinstance(theirs, str) and theirs and theirs != ours:
            return None
        number = event.get("changeNumber")
        of_a_flag = event.get("type") == "split" and common.is_version(number) and number > 0
        return (f"change/{number}",) if of_a_flag and ours and theirs == ours else ()

    def delivery(self, request: WebhookRequest) -> str:
        """Return the change number; Split has no id of a delivery."""
        number = _event(request).get("changeNumber")
        return str(number) if common.is_version(number) else ""

    def provider_event(self, event: Mapping[str, Any]) -> ProviderEvent | None:
        """Return None: no event of AWS tells of Split."""
        del event
        return None

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch flags, rule-based segments and segments of the SDK key's environment.

        Raises:
            ConfigurationError: the source's option ``sets`` names what no flag set is called.
        """
        from storesync.providers.split_api import SplitApi  # noqa: PLC0415 - not for webhooks

        del etag  # Split knows none.
        sets = _flag_sets(source)
        api = SplitApi(source, http, self.default_base_url)
        found = api.definitions(sets, _newest(unmet))
        names = _segment_names(found.flags, found.rule_based)
        segments = {
            name: {"name": name, "keys": keys} for name, keys in api.segments(names).items()
        }
        sections = {
            "flags": found.flags,
            "rule_based_segments": found.rule_based,
            "segments": segments,
        }
        meta = {"spec": found.spec, **({"sets": sets} if sets else {})}
        return FetchResult(FlagSet(self.name, sections, meta, max(found.till, 0)))

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Any]) -> bool:
        """Compare change numbers: that of all flags is the highest of any."""
        del item  # Deleted flags have none left to look at.
        number = _REQUIRED.fullmatch(required)
        return number is None or revision >= int(number[1])

    def is_older(self, old: FlagSet, new: FlagSet) -> bool:
        """Compare change numbers, as long as both count the same thing: the same flag sets."""
        same = old.meta.get("sets") == new.meta.get("sets")
        return same and 0 < new.revision < old.revision

    def references(self, section: str, item: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - provider JSON
        """Yield the flags, segments and rule-based segments that an item asks for."""
        if section == "segments":
            return
        for prerequisite in common.objects(item.get("prerequisites")):
            yield "flags", str(prerequisite.get("n"))
        for excluded in common.objects((item.get("excluded") or {}).get("segments")):
            if excluded.get("type") in _SECTIONS:  # no SDK has large ones
                yield _SECTIONS[excluded["type"]], str(excluded.get("name"))
        for condition in common.objects(item.get("conditions")):
            for matcher in condition["matcherGroup"]["matchers"]:
                reference = _REFERENCES.get(matcher.get("matcherType"))
                if reference:
                    section, field, name = reference
                    yield section, str((matcher.get(field) or {}).get(name))

    def members(self, segment: Any) -> frozenset[str]:  # noqa: ANN401 - provider JSON
        """Return the keys of a segment."""
        keys = segment.get("keys") if isinstance(segment, dict) else None
        return frozenset(common.texts(keys))


def _event(request: WebhookRequest) -> dict[str, Any]:
    """Return the event; an empty one for a body that is none (impressions are lists, gzipped)."""
    try:
        event = common.lenient_json(replace(request, body=_inflated(request.body)))
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _inflated(body: bytes) -> bytes:
    """Inflate a body that is compressed, whatever its headers say.

    Raises:
        ValueError: it is damaged, or inflates to more than ``MAX_EVENT_BYTES``.
    """
    if not body.startswith(_GZIP_MAGIC):
        return body
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        plain = inflater.decompress(body, MAX_EVENT_BYTES)
    except zlib.error:
        plain = b""
    if not inflater.eof:
        message = "a compressed body that is damaged or too large"
        raise ValueError(message)
    return plain


def _newest(unmet: tuple[str, ...]) -> str:
    """Return the highest change number that an earlier response fell short of, or an empty text."""
    numbers = [int(match[1]) for match in map(_REQUIRED.fullmatch, unmet) if match]
    return str(max(numbers)) if numbers else ""


def _flag_sets(source: Source) -> list[str]:
    """Return the flag sets of the option ``sets`` as SDKs send them: lower-case, sorted, once."""
    text = source.options.get("sets", "")
    names = sorted({name.strip().lower() for name in text.split(",")}) if text.strip() else []
    for name in names:
        if not _FLAG_SET.fullmatch(name):
            message = (
                f'the option "sets" in the SSM parameter <prefix>/sources/{source.name} must be '
                f"names of flag sets with commas between them: {name[:64]!r} is none (up to 50 of "
                f"a-z, 0-9 and _, not beginning with _)"
            )
            raise ConfigurationError(message)
    return names


def _segment_names(flags: Mapping[str, Any], rule_based: Mapping[str, Any]) -> set[str]:
    """Return the segments that are referred to, after checking what everything else relies on."""
    names: set[str] = set()
    for name, flag in flags.items():
        if not isinstance(flag.get("defaultTreatment"), str):
            raise _malformed("flag", name, "has no defaultTreatment")
        names.update(_in_segments("flag", name, flag.get("conditions")))
    for name, segment in rule_based.items():
        conditions = segment.get("conditions")
        listed = [] if conditions is None else conditions
        names.update(_in_segments("rule-based segment", name, listed))
        names.update(_excluded("rule-based segment", name, segment.get("excluded")))
    return names


def _in_segments(what: str, name: str, conditions: object) -> Iterator[str]:
    for condition in _objects(what, name, "conditions", conditions):
        group = condition.get("matcherGroup")
        matchers = group.get("matchers") if isinstance(group, dict) else None
        for matcher in _objects(what, name, "matchers", matchers):
            if matcher.get("matcherType") == "IN_SEGMENT":
                yield _segment_name(what, name, matcher.get("userDefinedSegmentMatcherData"))


def _segment_name(what: str, name: str, data: object) -> str:
    segment = data.get("segmentName") if isinstance(data, dict) else None
    if not common.is_key(segment):
        raise _malformed(what, name, "has a matcher that names no segment")
    return segment


def _excluded(what: str, name: str, excluded: object) -> Iterator[str]:
    if excluded is None:
        return
    if not isinstance(excluded, dict):
        raise _malformed(what, name, "has an 'excluded' that is no object")
    segments = excluded.get("segments")
    for segment in _objects(what, name, "excluded segments", [] if segments is None else segments):
        if not common.is_key(segment.get("name")):
            raise _malformed(what, name, "excludes a segment without a name")
        if segment.get("type") == "standard":
            yield segment["name"]


def _objects(what: str, name: str, field: str, items: object) -> list[dict[str, Any]]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _malformed(what, name, f"has no list of {field}")
    return items


def _malformed(what: str, name: str, problem: str) -> MalformedResponseError:
    return MalformedResponseError(f"Split: {what} {name[:64]!r} {problem}")
