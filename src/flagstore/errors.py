"""Errors raised when reading flags.

::

    FlagstoreError
    ├── ConfigurationError           an argument or a FLAGSTORE_ variable is missing or wrong
    ├── FlagNotFoundError            no such flag in the flag set (also a KeyError)
    └── NotLoadedError               no flag set has been loaded yet in this process
        ├── NotPublishedError        the store holds nothing for this source
        ├── StoreUnavailableError    the store did not respond in time, or refused
        ├── UnsupportedLayoutError   written for readers newer than this one
        └── CorruptSnapshotError     the data does not match its digests
"""


class FlagstoreError(Exception):
    """Base class of flagstore's errors."""


class ConfigurationError(FlagstoreError):
    """An argument or variable is missing or wrong; the message names it and the remedy."""


class FlagNotFoundError(FlagstoreError, KeyError):
    """The flag set has no flag or segment of that name."""

    def __str__(self) -> str:
        return str(self.args[0])


class NotLoadedError(FlagstoreError):
    """Flags were read before a first load succeeded, or a large segment cannot be read."""


class NotPublishedError(NotLoadedError):
    """The store holds nothing for this source."""


class StoreUnavailableError(NotLoadedError):
    """The store did not respond in time, or refused the request."""

    def __init__(self, *args: object, receiving: bool = False) -> None:
        super().__init__(*args)
        self.receiving = receiving
        """Whether time ran out while data was arriving: with more time, the read may succeed."""


class UnsupportedLayoutError(NotLoadedError):
    """The store was written for newer readers only: update the layer or the wheel."""


class CorruptSnapshotError(NotLoadedError):
    """The data does not match its digests, or a chunk is missing."""
