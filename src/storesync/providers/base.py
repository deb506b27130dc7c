"""What a provider must be able to do. One provider is one file beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storesync.http import HttpClient
    from storesync.model import Answer, FlagSet, Hook, Notice, Source, WebhookRequest


class Provider(Protocol):
    """One feature-flag provider.

    Instances hold no state. ``verify`` and ``ring`` run in the function that faces the internet,
    so this module and every provider's file import nothing heavy; ``fetch`` gets its HTTP client
    handed in.
    """

    name: str
    """As written in a source's ``provider``."""
    title: str
    """As its makers write it, for messages."""
    methods: tuple[str, ...]
    """The webhook checks that this provider's webhooks can pass, the recommended one first; none
    where it sends no webhooks."""
    accepted_status: int
    """The HTTP status that this provider counts as delivered."""
    default_base_url: str
    """Used when the credentials name none; empty where there is no sensible default."""
    needs_key: bool
    """Whether its sources have a key in their credentials; False: the function's own AWS
    credentials do."""

    options: tuple[str, ...]
    """The names that the ``options`` of its sources may have."""
    hook_options: tuple[str, ...]
    """The same of its webhooks."""

    def verify(self, request: WebhookRequest, hook: Hook) -> None:
        """Raise :class:`~storesync.errors.SignatureError` unless the request passes the hook."""

    def ring(self, request: WebhookRequest, hook: Hook) -> tuple[str, ...] | None:
        """Return the revisions that a verified request says to reach.

        An empty tuple is a ring without a revision; None means that the event has nothing to do
        with the flags of this source, and is acknowledged without a ring.

        Raises:
            BadRequestError: if this cannot be a request of this provider.
        """

    def delivery(self, request: WebhookRequest) -> str:
        """Return the provider's id of this delivery, or an empty text."""

    def notice(self, event: Mapping[str, Any]) -> Notice | None:
        """Read an event of AWS: what it says to which sources, or None if it is not ours.

        It comes from the queue or from whoever invokes SyncFunction, as EventBridge, SQS or SNS
        carry it, without SNS' envelope.
        """

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, missed: tuple[str, ...] = ()
    ) -> Answer:
        """Fetch the full flag set; exactly one attempt, the pipeline repeats.

        An ETag that is not empty is sent along, so that an unchanged set costs little. *missed*
        are the wanted revisions where this sync's last answer had not reached them, for a
        provider that can be asked past its caches.

        Raises:
            ProviderError: one of its subclasses, by what a retry could change.
        """

    def reached(self, wanted: str, revision: int, item: Callable[[str, str], Any]) -> bool:
        """Say whether a flag set has reached a wanted revision.

        ``revision`` is the set's; ``item(section, key)`` returns one item's JSON or None.
        A notation that is not understood counts as reached.
        """

    def regressed(self, old: FlagSet, new: FlagSet) -> bool:
        """Say whether ``new`` is an earlier state of the provider than ``old``, as far as known."""

    def references(self, section: str, item: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - provider JSON
        """Yield section and key of the items that an item needs: segments and other flags."""

    def members(self, segment: Any) -> frozenset[str]:  # noqa: ANN401 - provider JSON
        """Return the members that a segment names, for the guard; any stable text for each."""
