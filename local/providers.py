"""The simulated providers of ``make run``: what to configure, how to change a flag, how to ring."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulators import launchdarkly, unleash
from tests.simulators.server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulators.server import Request

FLAG = "new-checkout"
OTHER_FLAGS = 49
TOGGLE = "/toggle/"


class _Toggles(ProviderServer):
    """Lets a person change a flag: ``POST /toggle/<flag>``. No provider has such a thing."""

    switch: str
    """The provider's word for a flag that is on."""

    def answer(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        """Change the flag and ring, or answer as the provider."""
        if request.method != "POST" or not request.path.startswith(TOGGLE):
            return super().answer(request)
        flag = request.path.removeprefix(TOGGLE)
        simulator: Any = self  # what both have is not part of their base
        known = simulator.flags()
        if flag not in known:
            return 404, b"no such flag\n", {}
        on = not known[flag][self.switch]
        simulator.set_flag(flag, **{self.switch: on})
        return 200, f"{flag}: {'on' if on else 'off'}\n".encode(), {}


class _LaunchDarkly(_Toggles, launchdarkly.LaunchDarklySimulator):
    switch = "on"


class _Unleash(_Toggles, unleash.UnleashSimulator):
    switch = "enabled"


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One simulated provider.

    Attributes:
        name: as the parameters have it.
        title: as people have it.
        server: the simulator.
        source_options: options of the source.
        hook_options: options of the webhook.
        example: a webhook's body, for people who ring by hand.

    """

    name: str
    title: str
    server: Any  # either simulator; what they share has no type of its own
    source_options: Mapping[str, str]
    hook_options: Mapping[str, str]
    example: str

    def switch(self, *, on: bool) -> None:
        """Make the flag, or switch it, and ring."""
        self.server.set_flag(FLAG, **{self.server.switch: on})

    def parameters(self, secret: str) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return what to configure: path below the prefix to type and content."""
        base = {"provider": self.name}
        source = {**base, "options": dict(self.source_options), "allow_http": True}
        credential = {"key": self.server.sdk_key, "base_url": self.server.url}
        hook = {**base, "secrets": [secret], "options": dict(self.hook_options)}
        return {
            "sources": ("String", source),
            "credentials": ("SecureString", credential),
            "webhooks": ("SecureString", hook),
        }

    def signed(self, secret: str) -> str:
        """Return the header that makes :attr:`example` a webhook of this provider."""
        if self.name == "unleash":
            return f"authorization: {secret}"
        signature = hmac.new(secret.encode(), self.example.encode(), hashlib.sha256).hexdigest()
        return f"x-ld-signature: {signature}"


def _launchdarkly() -> Provider:
    server = _LaunchDarkly(*launchdarkly.rich_flags(OTHER_FLAGS))
    return Provider(
        name="launchdarkly",
        title="LaunchDarkly",
        server=server,
        source_options={},
        hook_options={"project": server.project, "environment": server.environment},
        example='{"kind": "flag"}',
    )


def _unleash() -> Provider:
    server = _Unleash(*unleash.rich_flags(OTHER_FLAGS))
    return Provider(
        name="unleash",
        title="Unleash",
        server=server,
        source_options={"environment": server.environment},
        hook_options={"environment": server.environment},
        example='{"type": "feature-updated"}',
    )


PROVIDERS = {"launchdarkly": _launchdarkly, "unleash": _unleash}
