"""A Split (Harness FME) that runs here: the API that server-side SDKs poll, and its webhooks.

It behaves as Split's documentation and the sources of its SDKs say:

- Every change of a flag, a segment or a rule-based segment has a number of its own, and numbers
  rise. ``splitChanges`` and ``segmentChanges`` report what changed since one; since -1, everything.
- A lagging edge of the CDN serves the state of before, also to what is asked after the first
  page; a ``till`` gets past it. An unknown key is 401.
- What SDKs and the Synchronizer report is accepted, whether it was reported before or not;
  ``posts`` returns it.
- Webhooks are sent for flags only, carry neither signature nor secret beside the URL's, are
  delivered with a 200 and nothing else, are tried twice, 300 ms apart, and are then lost.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from .server import ProviderServer, Request, compact
from .split_flags import START, event, new_flag, new_rule_based, rich_flags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SplitSimulator", "event", "new_flag", "rich_flags"]

_TRIES = 2
_PAUSE_S = 0.3
_DELIVERED = range(200, 201)
_BEGINNING = -1

COUNTS = "/testImpressions/count"
REPORTS = {
    *("/testImpressions/bulk", COUNTS, "/events/bulk"),
    *("/v1/keys/ss", "/v1/metrics/usage", "/v1/metrics/config"),
}

FetchResult = tuple[int, bytes, dict[str, str]]


class SplitSimulator(ProviderServer):
    def __init__(
        self,
        flags: Mapping[str, Any] | None = None,
        segments: Mapping[str, Iterable[str]] | None = None,
        rule_based: Mapping[str, Any] | None = None,
        *,
        sdk_key: str = "split-server-side-key-of-production-0001",
    ) -> None:
        super().__init__()
        self.delivered, self.pause_s = _DELIVERED, _PAUSE_S
        self.sdk_key = sdk_key
        self.environment = "production"
        self.report_status = 200
        """The status of the response to reports."""
        self.counted: Counter[tuple[str, int]] = Counter()
        """Flag and hour in milliseconds → evaluations; repeated posts are added up."""
        self._webhook = ""
        self._edge: Any = None
        self._flags = copy.deepcopy(dict(flags or {}))
        self._rule_based = copy.deepcopy(dict(rule_based or {}))
        numbers = [item["changeNumber"] for item in (self._flags | self._rule_based).values()]
        self._number = max([START, *numbers])
        self._till = self._rb_till = self._number
        self._segments: dict[str, tuple[int, list[str]]] = {}
        """Change number and sorted keys, by name."""
        for name, keys in (segments or {}).items():
            self._segments[name] = (self._next(), sorted(set(keys)))
        self._publish()

    @property
    def revision(self) -> int:
        return int(self.newest()["till"])

    # -- changing flags -------------------------------------------------------------------------

    def set_flag(self, name: str, **fields: Any) -> int:
        with self.lock:
            before = self._flags.get(name)
            return self._put({**(before or new_flag(name)), "status": "ACTIVE", **fields}, before)

    def remove_flag(self, name: str) -> int:
        """Archive or delete a flag: SDKs get the same response."""
        with self.lock:
            before = self._flags[name]
            return self._put({**before, "status": "ARCHIVED"}, before)

    def set_segment(self, name: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> int:
        with self.lock:
            keys = {*self._segments.get(name, (0, ()))[1], *add} - {*remove}
            self._segments[name] = (self._next(), sorted(keys))
            self._publish()
            return self._number

    def set_rule_based(self, name: str, **fields: Any) -> int:
        """Change or create a rule-based segment and return its change number, without a webhook."""
        with self.lock:
            self._rb_till = self._next()
            before = self._rule_based.get(name) or new_rule_based(name)
            changed = {**before, **fields, "changeNumber": self._rb_till}
            self._rule_based[name] = copy.deepcopy(changed)
            self._publish()
            return self._rb_till

    def evaluations(self, flag: str) -> int:
        """Return how often a flag was evaluated."""
        return sum(count for (name, _), count in self.counted.items() if name == flag)

    def flags(self) -> dict[str, Any]:
        return _active(self.newest()["flags"])

    def rule_based(self) -> dict[str, Any]:
        return _active(self.newest()["rule_based"])

    def segments(self) -> dict[str, list[str]]:
        return {name: keys for name, (_, keys) in self.newest()["segments"].items()}

    def _put(self, flag: Mapping[str, Any], before: Mapping[str, Any] | None) -> int:
        self._till = self._next()
        changed = copy.deepcopy({**flag, "changeNumber": self._till})
        self._flags[changed["name"]] = changed
        self._publish()
        if self._webhook:
            told = event(changed, environment=self.environment, previous=before)
            self.send(self._webhook, {"content-type": "application/json"}, compact(told), _TRIES)
        return self._till

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _publish(self) -> None:
        self.publish(
            {
                "flags": dict(self._flags),
                "till": self._till,
                "rule_based": dict(self._rule_based),
                "rb_till": self._rb_till,
                "segments": dict(self._segments),
            }
        )

    # -- webhooks -------------------------------------------------------------------------------

    def webhook(self, url: str, secret: str) -> None:
        """Send a webhook there for every change of a flag, with the secret as its last part."""
        self._webhook = f"{url}/{secret}"

    # -- serving --------------------------------------------------------------------------------

    def response(self, request: Request) -> FetchResult:
        parts = urlsplit(request.path)
        path = parts.path.removeprefix("/api")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        what, _, name = path.removeprefix("/").partition("/")
        if request.method == "POST" and path in REPORTS:
            known = request.headers.get("authorization") == f"Bearer {self.sdk_key}"
            status = self.report_status if known else 401
            if status == 200 and path == COUNTS:
                for entry in json.loads(request.body)["pf"]:
                    self.counted[entry["f"], entry["m"]] += entry["rc"]
            return status, b"", {}
        if request.method != "GET" or what not in {"splitChanges", "segmentChanges"}:
            return 404, b"", {}
        if request.headers.get("authorization") != f"Bearer {self.sdk_key}":
            return 401, b"", {}
        if what == "segmentChanges":
            return self._segment_changes(unquote(name), query)
        return self._split_changes(query)

    def posts(self, path: str) -> list[tuple[Any, Mapping[str, str]]]:
        """Return bodies and headers of the reports that came to a path, accepted or not."""
        with self.lock:
            found = [each for each in self.requests if each.method == "POST"]
        return [
            (json.loads(each.body), each.headers)
            for each in found
            if each.path.removeprefix("/api") == path
        ]

    def _split_changes(self, query: Mapping[str, str]) -> FetchResult:
        since, rb_since = int(query["since"]), int(query.get("rbSince", _BEGINNING))
        with self.lock:
            state = self._due(since, query)
        sets = set(query["sets"].split(",")) if "sets" in query else set()
        ff = self._changes(state["flags"], state["till"], since, sets)
        rbs = self._changes(state["rule_based"], state["rb_till"], rb_since, set())
        return 200, compact({"ff": ff, "rbs": rbs}), {}

    def _due(self, since: int, query: Mapping[str, str]) -> Any:
        """Return the state to serve: of a lagging edge, or the newest one."""
        newest = self.newest()
        if "till" in query:
            return newest
        if since == _BEGINNING:
            served = self.served()
            self._edge = None if served is newest else served
        return self._edge or newest

    def _changes(
        self, items: Mapping[str, Any], newest: int, since: int, sets: set[str]
    ) -> dict[str, Any]:
        """Return what changed since then: archived items only to those who may have them."""
        changed = sorted(
            (item for item in items.values() if item["changeNumber"] > since),
            key=lambda item: item["changeNumber"],
        )
        if since == _BEGINNING:
            changed = [item for item in changed if item["status"] == "ACTIVE"]
            if sets:
                changed = [item for item in changed if sets & set(item["sets"] or ())]
        return {"d": changed, "s": since, "t": max(newest, since)}

    def _segment_changes(self, name: str, query: Mapping[str, str]) -> FetchResult:
        since = int(query["since"])
        with self.lock:
            state = self._edge or self.newest()
        number, keys = state["segments"].get(name, (since, []))
        added = keys if since == _BEGINNING else []  # changes since then are asked by nobody
        told = {"name": name, "added": added, "removed": [], "since": since, "till": number}
        return 200, compact(told), {}

    def document(self) -> bytes:
        state = self.newest()
        ff = self._changes(state["flags"], state["till"], _BEGINNING, set())
        rbs = self._changes(state["rule_based"], state["rb_till"], _BEGINNING, set())
        return compact({"ff": ff, "rbs": rbs})

    def empty_document(self) -> bytes:
        """Return a first page without flags, after which there is nothing newer."""
        state = self.newest()
        ff = {"d": [], "s": _BEGINNING, "t": state["till"]}
        return compact({"ff": ff, "rbs": {"d": [], "s": _BEGINNING, "t": state["rb_till"]}})


def _active(items: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in items.items() if item["status"] == "ACTIVE"}
