"""Run several syncs step by step, in an order that is chosen from outside.

Each actor runs in a greenlet and stops before every atomic step of the store and before every
fetch, so that every interleaving can be tried, and a failing one be printed and repeated.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

from flagstore.keys import Key, SnapshotRecord, SourceState, chunk_key, snapshot_key, state_key
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE, ModelProvider, NoHttp
from storesync.errors import StoreSyncError
from storesync.model import SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.keys import Record

QUIET = frozenset({"read", "put"})
"""Steps that change nothing that others look at (chunks are announced and written just before the
publication that names them); exhaustive runs do not switch before them, random ones do."""


class FrozenClock(FakeClock):
    """A clock that stands still, so that equal states look equal whatever led there."""

    def sleep(self, seconds: float) -> None:
        """Do not even move."""


@dataclass
class Actor:
    """One sync, or someone who pins."""

    name: str
    thread: Any
    token: int = 0
    seen: list[tuple[Any, ...]] = field(default_factory=list)
    """What it has observed since its last token: two actors that saw the same do the same."""
    waiting: str = "start"
    done: bool = False
    crashed: bool = False
    failed: str = ""


class Nonce(str):
    """A random text that only tells whether it is another's: which one it is makes no state."""

    __slots__ = ()


class Token(int):
    """A fencing token: it counts only by its order."""

    __slots__ = ()


class ObservedStore(MemoryStore):
    """A memory store that notes what the running actor observes."""

    def __init__(self, world: World) -> None:
        super().__init__(world.records, world.stop)
        self._world = world

    def next_token(self, source: str, floor: int) -> tuple[int, SourceState]:
        """Draw; what an actor saw before its fencing token no longer counts."""
        token, source_state = super().next_token(source, floor)
        if actor := self._world.current():
            actor.token = token
        self._world.note("state", *core(source_state), forget=True)
        self._world.note("nonce", Nonce(source_state.issued_nonce))
        return token, source_state

    def read(self, key: Key) -> Record | None:
        record = super().read(key)
        self._world.note_record(record)
        return record

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        found = list(super().scan(namespace, prefix))
        self._world.note("items", *((record["key"], record.get("item")) for record in found))
        return iter(found)


class World:
    """A store, a provider and some actors; :meth:`go` lets one actor take one step."""

    quiet = QUIET

    def __init__(
        self,
        records: Mapping[Key, Record],
        provider: ModelProvider,
        *,
        switch_at_reads: bool = False,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FrozenClock()
        self.provider = provider
        self.records = dict(records)
        self.actors: list[Actor] = []
        self.trace: list[str] = []
        self._switch_at_reads = switch_at_reads
        provider.on_fetch = self._on_fetch

    # -- actors ---------------------------------------------------------------------------------

    def add(self, name: str, work: Callable[[], None]) -> Actor:
        actor = Actor(name, greenlet(lambda: self._live(actor, work)))
        self.actors.append(actor)
        return actor

    def store(self) -> MemoryStore:
        return ObservedStore(self)

    def sync(self) -> None:
        deadline = Deadline(self.clock, random.Random(1), 3_600)
        sync = Sync(SOURCE, self.provider, self.store(), http=NoHttp(), deadline=deadline)
        sync.run([SyncRequest(SOURCE.name, trigger="schedule")])

    def change_and_sync(self, **flags: Any) -> Callable[[], None]:
        """Return the work of an actor: the provider changes, which requests a sync."""

        def work() -> None:
            self.stop("change")
            self.provider.change(**flags)
            self.sync()

        return work

    def _live(self, actor: Actor, work: Callable[[], None]) -> None:
        try:
            work()
        except GreenletExit:
            actor.crashed = True
        except StoreSyncError as error:
            actor.failed = type(error).__name__
        finally:
            actor.done = True

    def stop(self, step: str) -> None:
        actor = self.current()
        if actor and (self._switch_at_reads or step not in self.quiet):
            actor.waiting = step
            actor.thread.parent.switch()

    def _on_fetch(self) -> None:
        self.stop("fetch")
        self.note("fetch", self.provider.revision)

    def current(self) -> Actor | None:
        return next((actor for actor in self.actors if actor.thread is getcurrent()), None)

    def note(self, *observation: Any, forget: bool = False) -> None:
        """Note what the running actor observes; *forget* what it has observed before."""
        if actor := self.current():
            actor.seen = [*([] if forget else actor.seen), observation]

    def note_record(self, record: Record | None) -> None:
        """Note a source state or a snapshot record that the running actor has read."""
        if record is None:
            self.note("nothing")
        elif record["key"] == "state":
            self.note("state", *core(SourceState.from_record(record)))
        else:
            nonce = Nonce(record.get("nonce", ""))
            self.note("snapshot", Token(record.get("token", 0)), record.get("digest"), nonce)

    # -- steps ----------------------------------------------------------------------------------

    def enabled(self) -> list[int]:
        return [number for number, actor in enumerate(self.actors) if not actor.done]

    def go(self, number: int) -> None:
        """Let one actor take its next step, then check what must always hold."""
        actor = self.actors[number]
        step = actor.waiting
        self.trace.append(f"{actor.name}:{step}")
        before = self.state()
        actor.thread.switch()
        self._check(before, self.state())

    def crash(self, number: int) -> None:
        actor = self.actors[number]
        actor.thread.throw()
        actor.done = actor.crashed = True  # also one that had not even started
        self.trace.append(f"{actor.name}:CRASH")

    def close(self) -> None:
        for actor in self.actors:
            if not actor.done and actor.thread:
                actor.thread.throw()

    def key(self) -> int:
        found = self.fingerprint()
        return hash(_renamed(found, self.ranks(found), {}))

    def ranks(self, fingerprint: tuple[Any, ...]) -> dict[int, int]:
        return {token: at for at, token in enumerate(sorted({0, *_tokens(fingerprint)}))}

    def fingerprint(self) -> tuple[Any, ...]:
        actors = tuple(
            (number, actor.waiting, Token(actor.token), *actor.seen)
            for number, actor in enumerate(self.actors)
            if not actor.done
        )
        flags = tuple(sorted(self.provider.flags.items()))
        return (stored(self.records), actors, flags, self.provider.revision)

    # -- what must hold -------------------------------------------------------------------------

    def state(self) -> SourceState:
        return state_of(self.records)

    def snapshot_record(self) -> SnapshotRecord | None:
        return snapshot_of(self.records)

    def _check(self, before: SourceState, after: SourceState) -> None:
        snapshot_record = self.snapshot_record()
        if after.publication != before.publication:
            self.hold(
                snapshot_record is not None and snapshot_record.token == after.published,
                "snapshot record and source state differ",
            )
            self.hold(after.published > before.published, "published fencing tokens went back")
            self.hold(after.revision >= before.revision, "published revisions went back")
            self.hold(before.pinned <= int(self.clock.now() * 1000), "published over a pin")
            self.hold(after.pinned >= before.pinned, "a pin was lost")
        self._check_chunks()

    def _check_chunks(self) -> None:
        snapshot_record = self.snapshot_record()
        if snapshot_record is None or not snapshot_record.chunks:
            return
        prefix, number = snapshot_record.stored_chunks()
        for chunk in range(number):
            record = self.records.get(chunk_key(SOURCE.name, prefix, chunk))
            self.hold(record is not None, f"a chunk of {snapshot_record.token} is missing")
            self.hold(record is None or "expires_at" not in record, "the current body expires")

    def hold(self, condition: bool, what: str) -> None:
        """Fail with the schedule unless the condition holds."""
        assert condition, f"{what}: {' '.join(self.trace)}"


def state_of(records: Mapping[Key, Record]) -> SourceState:
    return SourceState.from_record(records.get(state_key(SOURCE.name), {}))


def snapshot_of(records: Mapping[Key, Record]) -> SnapshotRecord | None:
    record = records.get(snapshot_key(SOURCE.name))
    return SnapshotRecord.from_record(record) if record else None


def stored(records: Mapping[Key, Record]) -> tuple[Any, ...]:
    """Return state and snapshot, rows, chunks and pending records, and what of these expires.

    The history is left out: nothing reads it before a day has passed, and the clock stands still.
    """
    snapshot = snapshot_of(records)
    chunks = sorted(
        (key.namespace, Token(key.key[:12]), key.key[12:], "expires_at" in record)
        for key, record in records.items()
        if "$body" in key.namespace or key.namespace.endswith("$pending_records")
    )
    items = frozenset(
        (key, record.get("item"), record.get("expires_at"))
        for key, record in records.items()
        if "$" not in key.namespace
    )
    published = snapshot and (Token(snapshot.token), snapshot.digest, Nonce(snapshot.nonce))
    return core(state_of(records)), published, items, tuple(chunks)


def _tokens(value: Any) -> Iterator[Token]:
    if isinstance(value, Token):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tokens(part)


def _renamed(value: Any, ranks: Mapping[int, int], names: dict[str, int]) -> Any:
    """Replace tokens by their ranks, and nonces by numbers in the order of their appearance."""
    if isinstance(value, Token):
        return ranks[value]
    if isinstance(value, Nonce):
        return names.setdefault(value, len(names))
    if isinstance(value, tuple):
        return tuple(_renamed(part, ranks, names) for part in value)
    return value


def core(state: SourceState) -> tuple[Any, ...]:
    tokens = map(Token, (state.token, state.published, state.rows_version))
    nonces = map(Nonce, (state.check_nonce, state.nonce))
    return (*tokens, state.digest, state.etag, state.revision, state.pinned, state.refused, *nonces)


def explore[W: World](make: Callable[[], W], finish: Callable[[W], None]) -> int:
    """Run every interleaving of a world's actors; return the number of states that were seen.

    Depth first; a state that has been seen (store, provider and all that each actor has
    observed) is not explored again. A world can't be copied, so each branch is replayed.
    """
    seen: set[int] = set()
    pending: list[tuple[int, ...]] = [()]
    while pending:
        path = pending.pop()
        world = make()
        for number in path:
            world.go(number)
        while True:
            key = world.key()
            if key in seen:
                break
            seen.add(key)
            enabled = world.enabled()
            if not enabled:
                finish(world)
                break
            pending += [(*path, number) for number in enabled[1:]]
            path = (*path, enabled[0])
            world.go(enabled[0])
        world.close()
    return len(seen)
