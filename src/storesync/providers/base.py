"""What a provider must be able to do. One provider is one file beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storesync.http import HttpClient
    from storesync.model import (
        FetchResult,
        FlagSet,
        ProviderEvent,
        Source,
        WebhookConfig,
        WebhookRequest,
    )


class Provider(Protocol):
    """One feature-flag provider.

    Instances hold no state. ``verify`` and ``sync_request`` run in the function that faces the
    internet, so this module and every provider's file import nothing heavy; ``fetch`` gets its HTTP
    client handed in.
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
    webhook_options: tuple[str, ...]
    """The same of its webhooks."""

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Raise :class:`~storesync.errors.SignatureError` unless the request passes its checks."""

    def required_revisions(
        self, request: WebhookRequest, webhook: WebhookConfig
    ) -> tuple[str, ...] | None:
        """Return the revisions that a verified request says to reach.

        An empty tuple is a sync request without a revision; None means that the event has nothing
        to do with the flags of this source, and is acknowledged without a sync request.

        Raises:
            BadRequestError: if this cannot be a request of this provider.
        """

    def delivery(self, request: WebhookRequest) -> str:
        """Return the provider's id of this delivery, or an empty text."""

    def provider_event(self, event: Mapping[str, Any]) -> ProviderEvent | None:
        """Read an event of AWS: what it says to which sources, or None if it is not ours.

        It comes from the queue or from whoever invokes SyncFunction, as EventBridge, SQS or SNS
        carry it, without SNS' envelope.
        """

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch the full flag set; exactly one attempt, the pipeline repeats.

        An ETag that is not empty is sent along, so that an unchanged set costs little. *unmet*
        are the required revisions where this sync's last response had not reached them, for a
        provider that can be asked past its caches.

        Raises:
            ProviderError: one of its subclasses, by what a retry could change.
        """

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Any]) -> bool:
        """Say whether a flag set has reached a required revision.

        ``revision`` is the set's; ``item(section, key)`` returns one item's JSON or None.
        A notation that is not understood counts as reached.
        """

    def is_older(self, old: FlagSet, new: FlagSet) -> bool:
        """Say whether ``new`` is an earlier state of the provider than ``old``, as far as known."""

    def references(self, section: str, item: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - provider JSON
        """Yield section and key of the items that an item needs: segments and other flags."""

    def members(self, segment: Any) -> frozenset[str]:  # noqa: ANN401 - provider JSON
        """Return the members that a segment names, for the guard; any stable text for each."""
