"""The pytest fixture ``fake_flags``: see :mod:`flagstore.testing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from flagstore.clients import Client
from flagstore.errors import NotLoadedError
from flagstore.flags import Flags
from flagstore.testing import FakeFlags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.flags import EvaluationState


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option ``flagstore_provider``."""
    parser.addini("flagstore_provider", "provider whose contexts fake_flags accepts", default="")


@pytest.fixture
def fake_flags(pytestconfig: pytest.Config) -> Iterator[FakeFlags]:
    """Make every client in this process return the test's flags instead of reading a store."""
    flags = FakeFlags(provider=pytestconfig.getini("flagstore_provider"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "_state", lambda client, _given=None: _state(flags, client))
        patch.setattr(Client, "snapshot", _refuse)
        for name in ("keys", "info", "__iter__", "__len__", "__contains__"):
            method = getattr(flags, name)
            patch.setattr(Client, name, lambda _, *given, method=method: method(*given))
        for name in ("current", "may_block", "health", "close"):  # always healthy, never open
            patch.setattr(Client, name, getattr(Flags, name))
        yield flags


def _state(flags: FakeFlags, client: Client) -> EvaluationState:
    """Return the fake's state with the client's overrides, but not those of the environment."""
    state = flags._state()  # noqa: SLF001 - same package
    layers = vars(client).get("_overrides", {})  # a client without a source has no overrides
    state.overrides = {key: value for layer in layers.values() for key, value in layer.items()}
    return state


def _refuse(_: Client) -> NoReturn:
    message = "fake_flags has no flag set: use FLAGSTORE_FILE in this test (docs/testing.md)"
    raise NotLoadedError(message)
