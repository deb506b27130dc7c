"""A snapshot as the one document that a provider's own SDK takes. Nothing is evaluated here.

::

    class Snapshots(UnleashClient.cache.BaseCache):
        bootstrapped = True

        def get(self, key, default=None):
            document = unleash_document(flags.snapshot())
            return document if key == "/client/features" else default
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.body import dumps
from flagstore.errors import ConfigurationError

if TYPE_CHECKING:
    from flagstore.reader import Snapshot


def unleash_document(snapshot: Snapshot) -> str:
    """Return what the Unleash server answers to its SDKs (``/api/client/features``), as JSON.

    It holds all that an SDK evaluates: features and segments, ordered by name and number as text.
    The ``meta`` of the answer is left out: revision and ETag mean something to the server only.

    Raises:
        ConfigurationError: the snapshot is of another provider.
        NotLoadedError: a large segment cannot be read now.
    """
    if snapshot.head.provider != "unleash":
        message = (
            f"source {snapshot.source!r} holds flags of {snapshot.head.provider!r}, not Unleash's"
        )
        raise ConfigurationError(message)
    body = snapshot._body  # noqa: SLF001 - the same package
    document: dict[str, Any] = {
        name: body.meta[name] for name in ("version", "query") if name in body.meta
    }
    document["features"] = [snapshot[key] for key in snapshot]
    document["segments"] = [snapshot.item("segments", key) for key in body.keys("segments")]
    return dumps(document)
