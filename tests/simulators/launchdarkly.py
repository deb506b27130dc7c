"""A LaunchDarkly that runs here: the document that SDKs poll, and signed webhooks.

It behaves as documented, or as LaunchDarkly's own SDKs expect it: the raw SDK key as
``Authorization``, ``ETag`` (here a hash) and 304, versions that rise by one with each change of an
item. Events are counted once per payload id, as the recorder of the SDK test harness does.

Webhooks are audit log entries, signed with ``X-LD-Signature`` and sent once more when the
response is not 2xx (LaunchDarkly docs: webhooks).
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import hmac
import itertools
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .launchdarkly_flags import new_flag, new_segment, rich_flags
from .server import ProviderServer, Request, compact

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SIGNATURE_HEADER", "LaunchDarklySimulator", "audit_entry", "rich_flags", "sign"]

SIGNATURE_HEADER = "X-LD-Signature"
"""As its documentation has it, and not taken from the code that tests hold against it."""
WEBHOOK_HEADERS = {"User-Agent": "LD-Integrations/1.0", "Content-Type": "application/json"}
_TRIES = 2
PROJECT, ENVIRONMENT = "shop", "production"
_REST_FIELDS = (
    *("on", "targets", "contextTargets", "rules", "fallthrough", "offVariation", "prerequisites"),
    *("salt", "version", "trackEvents", "trackEventsFallthrough"),
)


class LaunchDarklySimulator(ProviderServer):
    def __init__(
        self,
        flags: Mapping[str, Any] | None = None,
        segments: Mapping[str, Any] | None = None,
        *,
        sdk_key: str = "sdk-5a3c0f6e-0000-4000-8000-000000000001",
    ) -> None:
        super().__init__()
        self.sdk_key = sdk_key
        self.project, self.environment = PROJECT, ENVIRONMENT
        self.events: list[dict[str, Any]] = []
        """What SDKs sent, without repeated payloads."""
        self._payloads: set[str] = set()
        self._webhook: tuple[str, str] | None = None
        self._numbers = itertools.count(1)
        self._flags = copy.deepcopy(dict(flags or {}))
        self._segments = copy.deepcopy(dict(segments or {}))
        self._publish()

    # -- changing flags -------------------------------------------------------------------------

    def set_flag(self, key: str, **fields: Any) -> int:
        with self.lock:
            before = self._flags.get(key)
            flag = _next(before or new_flag(key), fields, fresh=before is None)
            self._flags[key] = flag
            self._publish()
            action = "createFlag" if before is None else "updateOn" if "on" in fields else "update"
            self._sync_request("flag", key, action, before=before, after=flag)
            return int(flag["version"])

    def remove_flag(self, key: str) -> None:
        """Delete a flag; for SDKs, archiving is the same."""
        with self.lock:
            del self._flags[key]
            self._publish()
            self._sync_request("flag", key, "deleteFlag")

    def set_segment(self, key: str, **fields: Any) -> int:
        with self.lock:
            before = self._segments.get(key)
            segment = _next(before or new_segment(key), fields, fresh=before is None)
            self._segments[key] = segment
            self._publish()
            self._sync_request(
                "segment", key, "createSegment" if before is None else "updateIncluded"
            )
            return int(segment["version"])

    def remove_segment(self, key: str) -> None:
        with self.lock:
            del self._segments[key]
            self._publish()
            self._sync_request("segment", key, "deleteSegment")

    # -- serving --------------------------------------------------------------------------------

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        path = urlsplit(request.path).path
        if (request.method, path) not in (("GET", "/sdk/latest-all"), ("POST", "/bulk")):
            return 404, b"", {}
        if request.headers.get("authorization") != self.sdk_key:
            return 401, b'{"message":"invalid SDK key"}', {}
        if path == "/bulk":
            return self._events(request)
        body = compact(self.served())
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == etag:
            return 304, b"", {"ETag": etag}
        return 200, body, {"ETag": etag}

    def _events(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        if request.headers["x-launchdarkly-event-schema"] != "4":
            return 400, b"", {}
        body = request.body
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        with self.lock:
            payload = request.headers["x-launchdarkly-payload-id"]
            if payload not in self._payloads:
                self._payloads.add(payload)
                self.events += json.loads(body)
        return 202, b"", {}

    @property
    def counted(self) -> Counter[tuple[str, int | None]]:
        """Flag and variation → evaluations; the variation of an unknown flag is -1."""
        found: Counter[tuple[str, int | None]] = Counter()
        for event in self.events:
            for key, flag in event["features"].items():
                for counter in flag["counters"]:
                    variation = -1 if counter.get("unknown") else counter.get("variation")
                    found[key, variation] += counter["count"]
        return found

    def evaluations(self, flag: str) -> int:
        """Return how often a flag was evaluated."""
        return sum(count for (key, _), count in self.counted.items() if key == flag)

    def document(self) -> bytes:
        return compact(self.newest())

    def empty_document(self) -> bytes:
        return compact({"flags": {}, "segments": {}})

    def flags(self) -> dict[str, Any]:
        return dict(self.newest()["flags"])

    # -- webhooks -------------------------------------------------------------------------------

    def webhook(self, url: str, secret: str) -> None:
        self._webhook = (url, secret)

    def _sync_request(self, kind: str, key: str, action: str, **versions: Any) -> None:
        if self._webhook is None:
            return
        url, secret = self._webhook
        number, now_ms = next(self._numbers), int(time.time() * 1000)
        body = compact(audit_entry(kind, key, action, number=number, date_ms=now_ms, **versions))
        self.send(url, {**WEBHOOK_HEADERS, SIGNATURE_HEADER: sign(body, secret)}, body, _TRIES)

    def _publish(self) -> None:
        state = {"flags": self._flags, "segments": self._segments}
        self.publish(copy.deepcopy(state))


def sign(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def audit_entry(
    kind: str,
    key: str,
    action: str,
    *,
    number: int = 1,
    date_ms: int = 1_795_000_000_000,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    resource = f"proj/{PROJECT}:env/{ENVIRONMENT}:{kind}/{key}"
    site = f"/{PROJECT}/{ENVIRONMENT}/{'features' if kind == 'flag' else 'segments'}/{key}"
    links = {"self": _link(f"/api/v2/auditlog/{number:024x}"), "site": _link(site, "text/html")}
    entry: dict[str, Any] = {
        "_links": links,
        "_id": f"{number:024x}",
        "_accountId": f"{1:024x}",
        "date": date_ms,
        "accesses": [{"action": action, "resource": resource}],
        "kind": kind,
        "name": key.replace("-", " ").capitalize(),
        "description": "",
        "shortDescription": "",
        "titleVerb": f"changed the {kind}",
        "target": {"_links": links, "name": key, "resources": [resource]},
    }
    if before is not None:
        entry["previousVersion"] = _rest(kind, before)
    if after is not None:
        entry["currentVersion"] = _rest(kind, after)
    return entry


def _rest(kind: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item in the form of the REST API, which differs from the SDKs' form."""
    if kind != "flag":
        return dict(item)
    archived = bool(item.get("archived"))
    one = {name: item[name] for name in _REST_FIELDS if name in item} | {"archived": archived}
    return {
        "key": item["key"],
        "name": item["key"].replace("-", " ").capitalize(),
        "kind": "boolean" if item["variations"] == [True, False] else "multivariate",
        "variations": [{"value": value} for value in item["variations"]],
        "archived": archived,
        "tags": [],
        "environments": {ENVIRONMENT: one},
    }


def _next(item: Mapping[str, Any], fields: Mapping[str, Any], *, fresh: bool) -> dict[str, Any]:
    changed = copy.deepcopy({**item, **fields})
    changed["version"] = fields.get("version", 1 if fresh else item["version"] + 1)
    return changed


def _link(href: str, kind: str = "application/json") -> dict[str, str]:
    return {"href": href, "type": kind}
