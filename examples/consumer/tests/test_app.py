"""The shop's tests, without AWS, a network or patching: `fake_flags` comes with the wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import handler

if TYPE_CHECKING:
    from flagstore.testing import FakeFlags


def test_classic_checkout_is_the_default(fake_flags: FakeFlags) -> None:
    """Without any flags, customers get the classic checkout."""
    assert handler({"user": "ada"}, None) == {"checkout": "classic"}
    assert [detail.key for detail, _ in fake_flags.evaluated] == ["new-checkout"]


def test_new_checkout_is_for_pro_customers(fake_flags: FakeFlags) -> None:
    """The fake flag decides by the context."""
    fake_flags["new-checkout"] = lambda context: context["plan"] == "pro"
    fake_flags["button-color"] = "blue"
    assert handler({"user": "ada", "plan": "free"}, None) == {"checkout": "classic"}
    assert handler({"user": "bob", "plan": "pro"}, None) == {
        "checkout": "new",
        "button": "blue",
        "payment_methods": ["card"],
    }
