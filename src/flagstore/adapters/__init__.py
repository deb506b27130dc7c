"""Other ways to ask for the same flags: OpenFeature, and the providers' own SDKs.

One module each, which imports what it adapts to and is imported only where it is used. Reading a
flag set stays one read: what an SDK asks of its store afterwards is answered from memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.errors import ConfigurationError

if TYPE_CHECKING:
    from flagstore.snapshot import Snapshot


def check_provider(snapshot: Snapshot, provider: str, title: str) -> None:
    """Refuse the flags of another provider than the SDK's.

    Raises:
        ConfigurationError: the snapshot is of another provider.
    """
    if snapshot.snapshot_record.provider != provider:
        provider = snapshot.snapshot_record.provider
        message = f"source {snapshot.source!r} holds flags of {provider!r}, not {title}'s"
        raise ConfigurationError(message)
