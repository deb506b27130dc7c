"""What a sync would do, found out without writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagstore.encode import content_digest
from storesync import guard
from storesync.cli.problems import Exit, Problem, refusal
from storesync.errors import CorruptStoreError, RefusedSetError
from storesync.http import HttpClient
from storesync.model import Changes
from storesync.published import PublishedReader

if TYPE_CHECKING:
    from flagstore.keys import SourceState
    from storesync.cli.context import Operator
    from storesync.model import FlagSet, Source
    from storesync.store import Store


@dataclass(frozen=True, slots=True)
class Preview:
    """What is published, what the provider has, and what the guard says of that."""

    source: Source
    state: SourceState
    stored: FlagSet | None
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


def published(source: Source, store: Store, state: SourceState) -> FlagSet | None:
    """Return what is published; None where that is nothing, or damaged."""
    if not state.published:
        return None
    try:
        return PublishedReader(source.name, store).current(state.published)
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
    changes = Changes.between(stored, new)
    return Preview(source, state, stored, new, digest, changes, refused)
