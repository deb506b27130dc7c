"""The pytest fixture ``fake_flags``, which comes with the wheel. See :mod:`flagstore.testing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flagstore.flags import Flags
from flagstore.reader import Client
from flagstore.testing import FakeFlags

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fake_flags() -> Iterator[FakeFlags]:
    """Let every client in this process answer from flags that the test sets; nothing is read."""
    flags = FakeFlags()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "_state", lambda _: flags._state())  # noqa: SLF001 - of this package
        patch.setattr(Client, "keys", lambda _: flags.keys())
        for name in ("in_hand", "may_wait", "trouble"):  # nothing is wrong, and nothing to wait for
            patch.setattr(Client, name, getattr(Flags, name))
        yield flags
