"""What a sync would do, found out without writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagstore.encode import content_digest
from storesync import guard, rows
from storesync.cli.problems import Exit, Problem, refusal
from storesync.errors import CorruptStoreError, RefusedSetError
from storesync.http import HttpClient
from storesync.published_reader import PublishedReader, Stored

if TYPE_CHECKING:
    from flagstore.keys import SourceState
    from storesync.cli.context import Operator
    from storesync.model import Changes, FlagSet, Source
    from storesync.stores.base import Store


@dataclass(frozen=True, slots=True)
class Preview:
    """What is published, what the provider has, and what the guard says of that."""

    source: Source
    state: SourceState
    stored: Stored | None
    """None: nothing is published, or what is published is damaged."""
    new: FlagSet
    digest: str
    changes: Changes
    refusal: str
    """Why the guard would refuse; empty if it would not."""


def fetch(operator: Operator, source: Source) -> FlagSet:
    """Fetch the provider's set.

    Raises:
        ProviderError: it gave no usable response.
    """
    provider = operator.provider(source)
    operator.screen.progress(f"fetching from {provider.title}")
    response = provider.fetch(source, HttpClient(), "")
    if response.flag_set is None:  # no ETag was sent
        raise Problem(Exit.PROVIDER, f"{provider.title} says that nothing has changed")
    return response.flag_set


def published(source: Source, store: Store, state: SourceState) -> Stored | None:
    """Return what is published; None where that is nothing, or damaged."""
    if not state.published:
        return None
    try:
        return PublishedReader(source.name, store).stored(state.published)
    except CorruptStoreError:
        return None


def preview(operator: Operator, source: Source) -> Preview:
    """Find out what a sync would do."""
    store = operator.open(source)
    state = store.state(source.name)
    stored = published(source, store, state)
    new = fetch(operator, source)
    operator.screen.progress("comparing")
    digest = content_digest(new.sections, new.meta)
    refused = ""
    if stored:
        olds = PublishedReader(source.name, store).baselines(state, stored, operator.now_ms())
        try:
            guard.check(new, olds, digest=digest, members=operator.provider(source).members)
        except RefusedSetError as error:
            refused = refusal(error)
    changes = rows.changes(stored.flag_set if stored else None, new)
    return Preview(source, state, stored, new, digest, changes, refused)
