"""Post to Split the entries that its SDKs write to Redis, as Split's Synchronizer does.

For sources with ``drain``, SyncFunction does this after a scheduled check, within the rest of
its time. Every entry is posted at least once: it is deleted after Split's response. A run that is
killed, and a request whose response is lost, repeat at most one batch.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storesync.errors import StoreSyncError
from storesync.providers import split_queues
from storesync.providers.split_queues import COUNTS, QUEUES, Outcome
from storesync.responses import raise_for_status
from storesync.stores.redis import RedisStore
from storesync.telemetry import emit, log

if TYPE_CHECKING:
    from storesync.http import HttpClient
    from storesync.model import Source
    from storesync.providers.split_queues import Post
    from storesync.retry import Deadline
    from storesync.stores import OpenStore
    from storesync.stores.redis_queues import RedisQueues

RUN_S = 10.0
"""Maximum duration of a run, beside the sync's own deadline."""
LEAST_S = 3.0
"""Time that must be left for another batch."""
BATCHES = 20
"""Maximum number of batches of each queue in a run."""
PARALLEL = 16
"""Requests at once: each SDK's impressions and events are posted under its own name."""


def drain(source: Source, store: OpenStore, http: HttpClient, deadline: Deadline) -> None:
    """Post the queued entries of one source; log and record it. Never raises an Exception."""
    if not isinstance(store, RedisStore):
        return  # the configuration does not allow it
    run = Drain(source, store.queues(source.name, QUEUES), http, deadline)
    try:
        if not run.run():
            log.info("another run holds the lease", source=source.name)
            return
    except Exception as error:  # noqa: BLE001 - never fails the sync
        if not isinstance(error, StoreSyncError):
            log.exception("unexpected", source=source.name)
        run.error = run.error or error
    if run.error:
        log.error("drain failed", source=source.name, problem=str(run.error))
    if run.dropped:
        problem = "dropped entries that Split refuses, are malformed or exceed the limit"
        log.error(problem, source=source.name, dropped=run.dropped)
    log.info("drained", source=source.name, posted=run.posted)
    values = {"Drained": run.posted.total(), "DrainDropped": run.dropped.total()}
    emit(source.name, values | {"DrainFailures": run.error is not None})


@dataclass
class Drain:
    """One run for one source."""

    source: Source
    queues: RedisQueues
    http: HttpClient
    deadline: Deadline
    posted: Counter[str] = field(default_factory=Counter)
    """Entries by queue."""
    dropped: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None
    """The first problem that keeps entries in their queues."""

    def run(self) -> bool:
        """Drain all queues; return False if another run has the lease.

        Raises:
            StoreError: Redis failed, or a Synchronizer drains these queues.
            OutOfTimeError: there is no time for a batch.
        """
        clock = self.deadline.clock
        self._end = clock.monotonic() + min(self.deadline.require(LEAST_S, "a batch"), RUN_S)
        dropped = self.queues.open(self._left(), split_queues.SYNCHRONIZER, split_queues.TELEMETRY)
        if dropped is None:
            return False
        self.dropped.update({queue: number for queue, number in dropped.items() if number})
        seen: split_queues.Seen = {}
        queues = list(QUEUES)
        for _ in range(BATCHES):  # in turn, so that none waits for a long one
            queues = [queue for queue in queues if self._batch(queue, seen)]
        self._batch(COUNTS, seen)  # of the last impressions
        self.queues.close()
        return True

    def _left(self) -> float:
        return self._end - self.deadline.clock.monotonic()

    def _batch(self, queue: str, seen: split_queues.Seen) -> bool:
        """Drain one batch; return False if there was none, no time, or some of it remains."""
        entries = self.queues.take(queue) if self._left() >= LEAST_S else []
        if not entries:
            return False
        posts = split_queues.posts(queue, entries, seen)
        malformed = len(entries) - sum(len(post.entries) for post in posts)
        self.dropped.update({queue: malformed} if malformed else {})
        with ThreadPoolExecutor(PARALLEL) as pool:
            outcomes = list(pool.map(self._send, posts))
        rest: list[bytes] = []
        counts: Counter[str] = Counter()
        for post, outcome in zip(posts, outcomes, strict=True):
            if outcome is Outcome.KEPT:
                rest += post.entries
            elif outcome is Outcome.REFUSED:
                self.dropped[queue] += len(post.entries)
            else:
                self.posted[queue] += len(post.entries)
                counts.update(post.counts)
        self.queues.finish(queue, rest, counts)
        return not rest

    def _send(self, post: Post) -> Outcome:
        if not post.body:
            return Outcome.DELIVERED
        url = split_queues.url(self.source, post.path)
        headers = {"Authorization": f"Bearer {self.source.credential.reveal()}", **post.headers}
        try:
            http = self.http.within(self._left())
            response = http.post(url, headers, post.body, allow_http=self.source.allow_http)
            outcome = split_queues.outcome(response.status)
            if outcome is Outcome.KEPT:
                raise_for_status(response, self.source.name, "Split")
        except StoreSyncError as error:
            self.error = self.error or error
            return Outcome.KEPT
        if outcome is Outcome.REFUSED:
            refusal = f"{post.path}: {response.status}"
            log.error("Split refused entries", source=self.source.name, problem=refusal)
        return outcome
