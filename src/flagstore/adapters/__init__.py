"""OpenFeature and the providers' own SDKs on a client's flags: one module each.

The flag set is still loaded in one read; the SDK's store look-ups are served from memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.errors import ConfigurationError

if TYPE_CHECKING:
    from flagstore.snapshot import Snapshot


def check_provider(snapshot: Snapshot, provider: str, title: str) -> None:
    """Check that the flags are those of the SDK's provider.

    Raises:
        ConfigurationError: if they belong to another provider.
    """
    found = snapshot.snapshot_record.provider
    if found != provider:
        message = f"source {snapshot.source!r} holds flags of {found!r}, not {title}'s"
        raise ConfigurationError(message)
