"""A snapshot as the one document that a provider's own SDK takes. Nothing is evaluated here.

``UnleashClient`` takes it from a cache of one's own: a ``BaseCache`` that has ``bootstrapped`` set
and returns the text for the key ``/client/features``. The client then evaluates without asking a
server, and needs no ``initialize_client()``. :mod:`flagstore.adapters.unleash` has such a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.codec import dumps
from flagstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.snapshot import Snapshot


def unleash_document(snapshot: Snapshot) -> str:
    """Return what the Unleash server responds to its SDKs (``/api/client/features``), as JSON.

    It holds all that an SDK evaluates: features and segments, ordered by name and number as text.
    The ``meta`` of the response is left out: revision and ETag mean something to the server only.

    Raises:
        ConfigurationError: the snapshot is of another provider.
        NotLoadedError: a large segment cannot be read now.
    """
    if snapshot.snapshot_record.provider != "unleash":
        provider = snapshot.snapshot_record.provider
        message = f"source {snapshot.source!r} holds flags of {provider!r}, not Unleash's"
        raise ConfigurationError(message)
    # Segments first: where a large one cannot be read now, the work on the others is spared.
    segments = [snapshot.item("segments", key) for key in snapshot.keys("segments")]
    features = [snapshot[key] for key in snapshot]
    return unleash_text(snapshot.meta, features, segments)


def unleash_text(meta: Mapping[str, Any], features: list[Any], segments: list[Any]) -> str:
    """Return the same from a set's parts: features and segments in order of their keys."""
    document: dict[str, Any] = {name: meta[name] for name in ("version", "query") if name in meta}
    return dumps({**document, "features": features, "segments": segments})
