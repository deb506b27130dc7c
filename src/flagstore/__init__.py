"""Feature flags from a store in your own account, in one read.

::

    import flagstore

    flags = flagstore.client("prod")  # module scope: on Lambda, it loads at once


    def handler(event, context):
        flag = flags["new-checkout"]
"""

from flagstore.clients import Client, client
from flagstore.errors import (
    ConfigurationError,
    CorruptSnapshotError,
    FlagNotFoundError,
    FlagstoreError,
    NotLoadedError,
    NotPublishedError,
    StoreUnavailableError,
    UnsupportedLayoutError,
)
from flagstore.flags import ContextFlags, Detail, Flags
from flagstore.snapshot import Info, Snapshot

__version__ = "0.1.0"

__all__ = [
    "Client",
    "ConfigurationError",
    "ContextFlags",
    "CorruptSnapshotError",
    "Detail",
    "FlagNotFoundError",
    "Flags",
    "FlagstoreError",
    "Info",
    "NotLoadedError",
    "NotPublishedError",
    "Snapshot",
    "StoreUnavailableError",
    "UnsupportedLayoutError",
    "client",
]
