"""A shop's function that chooses a customer's checkout by feature flags."""

from __future__ import annotations

from typing import Any

import flagstore

flags = flagstore.client()  # module scope, as boto3.client: loads during INIT


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Return the checkout for an event such as ``{"user": "ada", "plan": "pro"}``."""
    user = flags.for_context({"key": event["user"], "plan": event.get("plan", "free")})
    if not user.enabled("new-checkout"):
        return {"checkout": "classic"}
    return {
        "checkout": "new",
        "button": user.value("button-color", default="green"),
        "payment_methods": user.value("payment-methods", default=["card"]),
    }
