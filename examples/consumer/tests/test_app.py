"""The shop's own tests: no AWS, no network, no patching; `fake_flags` comes with the wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import handler

if TYPE_CHECKING:
    from flagstore.testing import FakeFlags


def test_the_classic_checkout_is_the_default(fake_flags: FakeFlags) -> None:
    """Without a flag set, nothing is new."""
    assert handler({"user": "ada"}, None) == {"checkout": "classic"}
    assert [detail.key for detail, _ in fake_flags.evaluated] == ["new-checkout"]


def test_the_new_checkout_is_for_pro_customers(fake_flags: FakeFlags) -> None:
    """A fake may look at the context."""
    fake_flags["new-checkout"] = lambda context: context["plan"] == "pro"
    fake_flags["button-color"] = "blue"
    assert handler({"user": "ada", "plan": "free"}, None) == {"checkout": "classic"}
    assert handler({"user": "bob", "plan": "pro"}, None) == {
        "checkout": "new",
        "button": "blue",
        "payment_methods": ["card"],
    }
