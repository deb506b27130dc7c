"""A model of a provider: its state is a variable, and it fails on request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from storesync.model import FetchResult, FlagSet, Secret, Source
from storesync.providers.base import Provider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storesync.model import WebhookConfig, WebhookRequest


SOURCE = Source("prod", "model", "https://model.example", Secret("key"))


class NoHttp:
    """Takes the place of the HTTP client for the model provider."""

    def within(self, total_s: float) -> NoHttp:
        assert total_s > 0
        return self


@dataclass
class ModelProvider(Provider):
    """A provider environment: set ``flags``, ``revision`` counts the changes."""

    flags: dict[str, Any] = field(default_factory=dict)
    segments: dict[str, Any] = field(default_factory=dict)
    revision: int = 1
    etags: bool = True
    reveals_revision: bool = True
    fetches: int = 0
    unmet: tuple[str, ...] = ()
    """The unmet requirements passed to the last fetch."""
    on_fetch: Callable[[], None] = lambda: None
    """Called before the state is read: a schedule switches here, a test raises faults here."""

    name: str = "model"
    title: str = "Model"
    methods: tuple[str, ...] = ("url",)

    def change(self, **flags: Any) -> int:
        """Set flags (None removes one) and return the new revision."""
        for key, value in flags.items():
            if value is None:
                self.flags.pop(key, None)
            else:
                self.flags[key] = value
        self.revision += 1
        return self.revision

    def fetch(
        self, _source: Source, _http: object, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        self.on_fetch()
        self.fetches += 1
        self.unmet = unmet
        mine = f'"{self.revision}"' if self.etags else ""
        if mine and etag == mine:
            return FetchResult(None, mine)
        sections = {"flags": dict(self.flags), "segments": dict(self.segments)}
        revision = self.revision if self.reveals_revision else 0
        return FetchResult(FlagSet(self.name, sections, {}, revision), mine)

    def satisfied(self, required: str, revision: int, _item: Callable[[str, str], Any]) -> bool:
        return revision >= int(required)

    def references(self, section: str, item: Any) -> Iterator[tuple[str, str]]:
        """Yield what an item names in ``needs``, as ``section/key``."""
        del section
        if isinstance(item, dict):
            for name in item.get("needs", ()):
                yield name.partition("/")[::2]

    def members(self, segment: Any) -> frozenset[str]:
        return frozenset(segment)

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Accept everything."""
