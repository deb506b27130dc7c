"""Split's SDK API: flags and segments, page by page, within one deadline and within limits.

Separate from :mod:`storesync.providers.split`, since WebhookFunction does not need it. The rules
are those of Split's own server-side SDKs (python-client: ``api/commons``, ``sync/split``,
``sync/segment``; go-split-commons: ``service``):

- ``GET /splitChanges?s=1.3&since=-1&rbSince=-1[&sets=a,b][&till=N]``, in this order of
  parameters, with ``Cache-Control: no-cache``; again with ``since=ff.t`` and ``rbSince=rbs.t``
  until nothing newer comes. ``till`` only makes the URL unknown to caches.
- ``GET /segmentChanges/<name>?since=-1`` likewise, for each segment that a flag refers to.
- Items that are not ``ACTIVE``, or no longer in a requested flag set, are dropped.
"""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from storesync.errors import (
    CredentialsRefusedError,
    EndpointNotFoundError,
    MalformedResponseError,
    ProviderUnavailableError,
)
from storesync.providers.base import endpoint, is_key, is_version, strings
from storesync.responses import (
    check_parsed_bytes,
    parse_object,
    parsed_bytes,
    raise_for_status,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from storesync.http import HttpClient
    from storesync.model import Source
    from storesync.responses import HttpResponse

TITLE = "Split"
BEGINNING = -1
"""The change number before all others: requests everything."""
SPEC = "1.3"
"""The requested specification of flags, with rule-based segments."""

MAX_PAGES = 100
"""Maximum number of pages of one list, since a faulty provider may never end."""
THREADS = 8
"""Segments that are fetched in parallel."""
MAX_KEYS = 500_000
"""Maximum number of keys in all segments together. With 36 characters each they take 43 MB
(measured: 121 MB for the whole process that fetches and publishes them), with 128 characters twice
as much."""
MAX_SEGMENT_BYTES = 64 * 1024 * 1024
"""Maximum inflated size of all responses with segments, likewise for keys of 128 characters."""

_FORBIDDEN, _NOT_FOUND = 403, 404


class SplitApi:
    """The requests of one fetch, all within the client's deadline for a single request."""

    def __init__(self, source: Source, http: HttpClient, default_base_url: str) -> None:
        self._source = source
        self._http = http
        self._default = default_base_url
        self._end = monotonic() + http.limits.total_s
        self._lock = Lock()
        self._bytes = self._keys = self._parsed_bytes = 0

    def definitions(
        self, sets: Collection[str], bypass: str
    ) -> tuple[dict[str, Any], dict[str, Any], int]:
        """Fetch flags and rule-based segments by name, and the flags' change number.

        It is -1 if there has never been a flag.

        Args:
            sets: Flag sets, sorted; empty for all flags.
            bypass: A change number that an earlier response did not reach, to bypass the CDN.
        """
        flags: dict[str, Any] = {}
        rule_based: dict[str, Any] = {}
        since = rb_since = BEGINNING
        size, limits = 0, self._http.limits
        for _ in range(MAX_PAGES):
            query = {"s": SPEC, "since": str(since), "rbSince": str(rb_since)}
            query |= {"sets": ",".join(sets)} if sets else {}
            query |= {"till": bypass} if bypass else {}
            response = self._get("/splitChanges", query)
            size += len(response.body)
            if size > limits.max_body_bytes:
                raise MalformedResponseError(
                    f"together, the responses are larger than {limits.max_body_bytes} bytes "
                    f"inflated"
                )
            self._parsed_bytes += parsed_bytes(response.body)
            check_parsed_bytes(self._parsed_bytes, limits.max_parsed_bytes)
            document = parse_object(response, TITLE)
            page = _page(document.get("ff"), "ff", ("d", "s", "t"), since)
            rb_page = Page([], rb_since, last=True)  # missing if the server has none
            if document.get("rbs") is not None:
                rb_page = _page(document["rbs"], "rbs", ("d", "s", "t"), rb_since)
            since, rb_since = page.till, rb_page.till
            _apply(flags, page.items, "flag", sets)
            _apply(rule_based, rb_page.items, "rule-based segment", ())
            if page.last and rb_page.last:
                return flags, rule_based, since
        raise _endless("flags")

    def segments(self, names: Collection[str]) -> dict[str, list[str]]:
        """Fetch segments, several at once, and return the sorted keys of each."""
        if not names:
            return {}
        with ThreadPoolExecutor(min(THREADS, len(names)), "segment") as pool:
            jobs = {name: pool.submit(self._segment, name) for name in sorted(names)}
            done, rest = wait(jobs.values(), return_when=FIRST_EXCEPTION)
            for job in rest:  # none, unless one has failed
                job.cancel()
            self._end = monotonic() if rest else self._end
            for job in done:
                job.result()
        return {name: job.result() for name, job in jobs.items()}

    def _segment(self, name: str) -> list[str]:
        path = f"/segmentChanges/{quote(name, safe='')}"
        keys: set[str] = set()
        since = BEGINNING
        for _ in range(MAX_PAGES):
            response = self._get(path, {"since": str(since)}, segment=name)
            # One at a time: eight responses are small as bytes, but may not be when parsed.
            with self._lock:
                self._bytes += len(response.body)
                self._check_allowance(self._bytes, MAX_SEGMENT_BYTES, "bytes")
                needed = self._parsed_bytes + parsed_bytes(response.body)
                check_parsed_bytes(needed, self._http.limits.max_parsed_bytes)
                document = parse_object(response, TITLE)
                del response
                page = _segment_page(document, name, since)
                before = len(keys)
                keys.update(page.items)
                keys.difference_update(document.get("removed") or ())
                self._keys += len(keys) - before
                self._check_allowance(self._keys, MAX_KEYS, "keys")
            if page.last:
                return sorted(keys)
            since = page.till
        raise _endless(f"segment {name[:64]!r}")

    def _check_allowance(self, amount: int, limit: int, unit: str) -> None:
        if amount > limit:
            raise EndpointNotFoundError(
                f"the segments that flags of source {self._source.name!r} refer to hold more than "
                f"{limit} {unit} together, which is the limit: refer to fewer, or select flags "
                f"with the option sets in the SSM parameter <prefix>/sources/{self._source.name}"
            )

    def _get(self, path: str, query: Mapping[str, str], *, segment: str = "") -> HttpResponse:
        """Send one request, within the remaining time."""
        url = endpoint(self._source, self._default, path, query)
        headers = {
            "Authorization": f"Bearer {self._source.credential.reveal()}",
            "Cache-Control": "no-cache",
        }
        left = round(self._end - monotonic(), 2)
        if left <= 0:
            raise ProviderUnavailableError(
                f"{TITLE} did not serve the whole set within {self._http.limits.total_s:g} s"
            )
        response = self._http.within(left).get(url, headers, allow_http=self._source.allow_http)
        self._refuse(response.status, segment)
        raise_for_status(response, self._source.name, TITLE)
        return response

    def _refuse(self, status: int, segment: str) -> None:
        """Raise for the statuses that have a special meaning here."""
        name = self._source.name
        credentials = f"the SSM parameter <prefix>/credentials/{name}"
        if status == _FORBIDDEN:
            raise CredentialsRefusedError(
                f"{TITLE} refused the SDK key of source {name!r} with 403, as it does with a "
                f"client-side key: write a server-side SDK key to {credentials}"
            )
        if status == _NOT_FOUND:
            wanted = f"segment {segment[:32]!r}" if segment else "flags"
            raise EndpointNotFoundError(
                f"{TITLE} responded with 404 to a request for {wanted}: check the key (an unknown "
                f"one also gives a 404) and base_url (an SDK's ends in /api) in {credentials}"
            )


def _endless(what: str) -> ProviderUnavailableError:
    return ProviderUnavailableError(f"{TITLE} still had more of its {what} after {MAX_PAGES} pages")


# -- pages


class Page(NamedTuple):
    """One page of a list; *till* is the change number at which the next page begins."""

    items: list[Any]
    till: int
    last: bool


def _page(part: object, name: str, fields: tuple[str, str, str], asked: int) -> Page:
    """Parse one page: a list of items (null: none), and where it begins and ends."""
    items, begins, ends = fields
    if not isinstance(part, dict) or not {items, begins, ends} <= part.keys():
        raise MalformedResponseError(
            f"{TITLE} responded without a complete {name!r}: not a flag set"
        )
    listed = [] if part[items] is None else part[items]
    if not isinstance(listed, list):
        raise MalformedResponseError(
            f"{TITLE} responded with {items!r} that is not a list: not a flag set"
        )
    since, till = part[begins], part[ends]
    if not (_is_change_number(since) and _is_change_number(till)) or till < asked:
        raise MalformedResponseError(
            f"{TITLE} responded with {begins!r} or {ends!r} that is not a later change number"
        )
    # A proxy that only has whole sets always responds with since=-1: again, nothing newer follows.
    return Page(listed, till, last=till in {since, asked})


def _segment_page(document: Mapping[str, Any], name: str, asked: int) -> Page:
    """Parse one page of a segment; its items are the added keys."""
    if document.get("name") != name:
        raise MalformedResponseError(
            f"{TITLE} responded with something other than segment {name[:64]!r}"
        )
    page = _page(document, name, ("added", "since", "till"), asked)
    removed = [] if document.get("removed") is None else document["removed"]
    if not isinstance(removed, list) or not all(map(is_key, (*page.items, *removed))):
        raise MalformedResponseError(f"{TITLE}: segment {name[:64]!r} holds an invalid key")
    return page


def _is_change_number(value: object) -> bool:
    return is_version(value) or (value == BEGINNING and isinstance(value, int))


def _apply(known: dict[str, Any], items: list[Any], kind: str, sets: Collection[str]) -> None:
    """Update the known items with a page; drop inactive ones and those outside *sets*."""
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not is_key(name):
            raise MalformedResponseError(f"{TITLE} responded with a {kind} without a name")
        if not isinstance(item.get("status"), str):
            raise MalformedResponseError(f"{TITLE}: {kind} {name[:64]!r} has no status")
        selected = not sets or not set(strings(item.get("sets"))).isdisjoint(sets)
        if item["status"] == "ACTIVE" and selected:
            known[name] = item
        else:
            known.pop(name, None)
