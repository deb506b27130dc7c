"""An Unleash that runs here: the document that SDKs poll, and its webhooks.

It behaves as servers 7.4.1 and 8.2.0 were seen to behave:

- Each change is an event with a number. ``meta.revisionId`` is the number of the last event that
  counts: of a feature, or ``segment-updated``. Making or deleting a segment does not count, and
  what SDKs are served stays as it was until something does.
- ``ETag`` is ``"<hash of the query>:<revision>:v1"``; 304 comes without one.
- Features come in no order at all.
- Metrics are added up, also repeated ones; those of other environments are dropped.
- Webhooks carry the configured ``Authorization`` verbatim, no signature and no ``User-Agent``;
  they are never sent twice, whatever the documentation says.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from .server import ProviderServer, Request, compact
from .unleash_flags import new_flag, new_segment, rich_flags

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UnleashSimulator", "event", "rich_flags"]

PATH, METRICS = "/api/client/features", "/api/client/metrics/bulk"
MAX_BODY = 100_000


class UnleashSimulator(ProviderServer):
    def __init__(
        self,
        flags: Mapping[str, Any] | None = None,
        segments: Mapping[str, Any] | None = None,
        *,
        token: str = "*:production.0000000000000000000000000000000000000000000000000001",  # noqa: S107
    ) -> None:
        super().__init__()
        self.sdk_key = token
        self.environment = "production"
        self.counted: Counter[tuple[str, str, str, str]] = Counter()
        """Application, hour, flag, and ``yes``, ``no`` or a variant → count."""
        self.applications: list[dict[str, Any]] = []
        self._webhook: tuple[str, str] | None = None
        self._flags = copy.deepcopy(dict(flags or {}))
        self._segments = copy.deepcopy(dict(segments or {}))
        self._event_id = 100
        self._publish()

    @property
    def revision(self) -> int:
        return int(self.newest()["revision"])

    # -- changing flags -------------------------------------------------------------------------

    def set_flag(self, name: str, **fields: Any) -> int:
        with self.lock:
            before = self._flags.get(name)
            self._flags[name] = copy.deepcopy({**(before or new_flag(name)), **fields})
            if before is None:
                return self._event("feature-created", name)
            if "enabled" in fields:
                state = "enabled" if fields["enabled"] else "disabled"
                return self._event(f"feature-environment-{state}", name, of_environment=True)
            if "strategies" in fields:
                return self._event("feature-strategy-update", name, of_environment=True)
            return self._event("feature-metadata-updated", name)

    def remove_flag(self, name: str) -> int:
        """Archive a flag: SDKs no longer see it."""
        with self.lock:
            del self._flags[name]
            return self._event("feature-archived", name)

    def set_segment(self, identifier: int, **fields: Any) -> int:
        with self.lock:
            before = self._segments.get(str(identifier))
            segment = copy.deepcopy({**(before or new_segment(identifier)), **fields})
            self._segments[str(identifier)] = segment
            kind = "segment-created" if before is None else "segment-updated"
            return self._event(kind, None, data=segment, counts=before is not None)

    # -- serving --------------------------------------------------------------------------------

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        path = request.path.partition("?")[0]
        if (request.method, path) not in (("GET", PATH), ("POST", METRICS)):
            return 404, b'{"name":"NotFoundError"}', {}
        if request.headers.get("authorization", "").removeprefix("Bearer ") != self.sdk_key:
            return 401, b'{"message":"This endpoint requires an API token."}', {}
        if path == METRICS:
            return self._metrics(request)
        state = self.served()
        etag = self._etag(state)
        if request.headers.get("if-none-match") == etag:
            return 304, b"", {}
        return 200, self._render(state), {"ETag": etag}

    def _metrics(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        if len(request.body) > MAX_BODY:
            return 413, b"", {}
        posted = json.loads(request.body)
        assert all(row["timestamp"] for row in posted["metrics"]), "destroys everybody's metrics"
        with self.lock:
            self.applications += posted["applications"]
            for row in posted["metrics"]:
                if row["environment"] == self.environment:
                    of_flag = row["appName"], row["timestamp"], row["featureName"]
                    for name, count in {**row["variants"], **_answers(row)}.items():
                        self.counted[*of_flag, name] += count
        return 202, b"", {}

    def evaluations(self, flag: str) -> int:
        """Return how often a flag was evaluated."""
        answers = {"yes", "no"}
        return sum(n for key, n in self.counted.items() if key[2] == flag and key[3] in answers)

    def document(self) -> bytes:
        return self._render(self.newest())

    def empty_document(self) -> bytes:
        return self._render({"flags": {}, "segments": {}, "revision": self.revision + 1})

    def flags(self) -> dict[str, Any]:
        return dict(self.newest()["flags"])

    def _render(self, state: Mapping[str, Any]) -> bytes:
        features = list(state["flags"].values())
        Random(state["revision"]).shuffle(features)
        etag = self._etag(state)
        return compact(
            {
                "version": 2,
                "features": features,
                "query": {"environment": self.environment, "inlineSegmentConstraints": False},
                "segments": sorted(state["segments"].values(), key=lambda s: s["name"]),
                "meta": {
                    "revisionId": state["revision"],
                    "etag": etag,
                    "queryHash": etag.strip('"').split(":")[0],
                },
            }
        )

    def _etag(self, state: Mapping[str, Any]) -> str:
        query = hashlib.sha256(self.environment.encode()).hexdigest()[:8]
        return f'"{query}:{state["revision"]}:v1"'

    # -- webhooks -------------------------------------------------------------------------------

    def webhook(self, url: str, secret: str) -> None:
        self._webhook = (url, secret)

    def _event(
        self,
        kind: str,
        flag: str | None,
        *,
        of_environment: bool = False,
        data: Mapping[str, Any] | None = None,
        counts: bool = True,
    ) -> int:
        self._event_id += 1
        if counts:
            self._publish()
        if self._webhook is not None:
            url, secret = self._webhook
            told = event(
                self._event_id,
                kind,
                flag=flag,
                environment=self.environment if of_environment else None,
                data=data,
            )
            headers = {"content-type": "application/json", "authorization": secret}
            self.send(url, headers, compact(told), 1)
        return self._event_id

    def _publish(self) -> None:
        state = {"flags": self._flags, "segments": self._segments, "revision": self._event_id}
        self.publish(copy.deepcopy(state))


def _answers(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: row[name] for name in ("yes", "no") if row[name]}


def event(
    number: int,
    kind: str,
    *,
    flag: str | None = None,
    environment: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build a webhook's body as Unleash sends it when no template is set."""
    told = {
        "id": number,
        "type": kind,
        "createdBy": "admin",
        "createdAt": "2026-11-18T11:06:40.000Z",
        "createdByUserId": 1,
        "data": data,
        "preData": None,
        "tags": [],
        "featureName": flag,
        "project": "default" if flag else None,
        "environment": environment,
    }
    if flag:
        told |= {"groupType": "transaction", "groupId": f"01J{number:023d}"}
    return told
