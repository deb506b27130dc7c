"""Values of flags that win over the flag set. Imported where there are any: few functions have."""

from __future__ import annotations

import json
import os
from _thread import allocate_lock  # threading brings more than a lock
from typing import TYPE_CHECKING, Any

from flagstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Layer = dict[str, Any]


class Overrides:
    """Layers of values, of which the latest wins. Safe under threads and after a fork."""

    __slots__ = ("_given", "environment", "values")

    def __init__(self, environment: Layer) -> None:
        """Begin with the values that the environment gives, which stay."""
        self.environment = environment
        self._given: tuple[Layer, ...] = ()
        self.values = environment
        """All of them; another mapping after each change, this one stays as it is."""

    def add(self, values: Mapping[str, Any]) -> Override:
        """Let these values win from now on; what is returned can take them back."""
        layer = dict(values)
        with _lock:
            self._given = (*self._given, layer)
            self.values = {**self.values, **layer}
        return Override(self, layer)

    def take_back(self, layer: Layer) -> None:
        """Let the others win again where this layer did; more than once does no harm."""
        with _lock:
            self._given = tuple(one for one in self._given if one is not layer)
            self.values = {**self.environment, **self.given()}

    def given(self) -> Layer:
        """Return the values that code gave, without those of the environment."""
        return {key: layer[key] for layer in self._given for key in layer}


class Override:
    """Undoes an override at the end of a ``with`` statement."""

    __slots__ = ("_layer", "_overrides")

    def __init__(self, overrides: Overrides, layer: Layer) -> None:
        self._overrides = overrides
        self._layer = layer

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._overrides.take_back(self._layer)


def parse(text: str) -> Layer:
    """Read what ``FLAGSTORE_OVERRIDES`` holds.

    Raises:
        ConfigurationError: if it is no JSON object.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        message = 'FLAGSTORE_OVERRIDES must be a JSON object, such as {"new-checkout": true}'
        raise ConfigurationError(message)
    return values


_lock = allocate_lock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent's may be held for ever
    _lock = allocate_lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
