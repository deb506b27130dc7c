"""The simulated providers of ``make run``: their settings, a changed flag, its webhook."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulators import appconfig, launchdarkly, split, unleash
from tests.simulators.server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local.stores import Store
    from tests.simulators.server import Request

FLAG = "new-checkout"
OTHER_FLAGS = 49
TOGGLE = "/toggle/"


class _Toggles(ProviderServer):
    """Lets a person change a flag: ``POST /toggle/<flag>``. No provider has such a thing."""

    switch: str
    """The provider's word for a flag that is on, or for one that is off."""
    inverted = False
    """Whether it is the word for off."""

    def is_on(self, flag: Mapping[str, Any]) -> bool:
        """Say whether a flag is on."""
        return bool(flag[self.switch]) != self.inverted

    def turn(self, flag: str, *, on: bool) -> None:
        """Make the flag, or switch it, and sync request."""
        simulator: Any = self  # what the simulators share beyond their base has no type
        simulator.set_flag(flag, **{self.switch: on != self.inverted})

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        """Change the flag and sync request, or response as the provider."""
        if request.method != "POST" or not request.path.startswith(TOGGLE):
            return super().response(request)
        flag = request.path.removeprefix(TOGGLE)
        simulator: Any = self
        known = simulator.flags()
        if flag not in known:
            return 404, b"no such flag\n", {}
        on = not self.is_on(known[flag])
        self.turn(flag, on=on)
        return 200, f"{flag}: {'on' if on else 'off'}\n".encode(), {}


class _LaunchDarkly(_Toggles, launchdarkly.LaunchDarklySimulator):
    switch = "on"


class _Unleash(_Toggles, unleash.UnleashSimulator):
    switch = "enabled"


class _Split(_Toggles, split.SplitSimulator):
    switch, inverted = "killed", True


class _AppConfig(_Toggles, appconfig.AppConfigSimulator):
    switch = "enabled"
    checks_signatures = False
    """The stand-in makes up the credentials of the function's role."""

    def is_on(self, flag: Mapping[str, Any]) -> bool:
        """Say whether a flag is on; one with variants has nothing to switch."""
        return bool(flag.get(self.switch))


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One simulated provider.

    Attributes:
        name: as the parameters have it.
        title: as people have it.
        server: the simulator.
        base_path: what the base URL has behind the simulator's address.
        source_options: options of the source.
        webhook_options: options of the webhook.
        example: a webhook's body, for people who sync request by hand.
        proof: returns what shows that a body comes from the provider: a header, by a secret.
            Without it, the secret is the last part of the URL.
        webhooks: whether it has any; else its events are put on the queue.

    """

    name: str
    title: str
    server: Any  # one of the simulators; what they share has no type of its own
    example: str
    base_path: str = ""
    source_options: Mapping[str, str] = field(default_factory=dict)
    webhook_options: Mapping[str, str] = field(default_factory=dict)
    proof: Callable[[bytes, str], dict[str, str]] | None = None
    webhooks: bool = True

    def switch(self, *, on: bool) -> None:
        """Make the flag, or switch it, and sync request."""
        self.server.turn(FLAG, on=on)

    def parameters(self, secret: str, store: Store) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return what to configure: path below the prefix to type and content."""
        base = {"provider": self.name}
        options = dict(self.source_options)
        source = {**base, "options": options, "store": store.name, "allow_http": True}
        url = self.server.url + self.base_path
        credential = {**base, "base_url": url, **store.credential()}
        if not self.webhooks:
            return {"sources": ("String", source), "credentials": ("SecureString", credential)}
        credential["key"] = self.server.sdk_key
        webhook = {**base, "secrets": [secret], "options": dict(self.webhook_options)}
        return {
            "sources": ("String", source),
            "credentials": ("SecureString", credential),
            "webhooks": ("SecureString", webhook),
        }

    def by_hand(self, url: str, secret: str) -> tuple[str, dict[str, str]]:
        """Return where to post :attr:`example`, and the headers that request a sync."""
        if self.proof is None:
            return f"{url}/{secret}", {}
        return url, self.proof(self.example.encode(), secret)


def _appconfig() -> Provider:
    server = _AppConfig(*appconfig.rich_flags(OTHER_FLAGS))
    return Provider(
        name="appconfig",
        title="AWS AppConfig",
        server=server,
        source_options=server.options,
        example="",
        webhooks=False,
    )


def _launchdarkly() -> Provider:
    server = _LaunchDarkly(*launchdarkly.rich_flags(OTHER_FLAGS))
    return Provider(
        name="launchdarkly",
        title="LaunchDarkly",
        server=server,
        webhook_options={"project": server.project, "environment": server.environment},
        example='{"kind": "flag"}',
        proof=lambda body, secret: {launchdarkly.SIGNATURE_HEADER: launchdarkly.sign(body, secret)},
    )


def _split() -> Provider:
    server = _Split(*split.rich_flags(OTHER_FLAGS))
    return Provider(
        name="split",
        title="Split",
        server=server,
        base_path="/api",
        webhook_options={"environment": server.environment},
        example='{"type": "split"}',
    )


def _unleash() -> Provider:
    server = _Unleash(*unleash.rich_flags(OTHER_FLAGS))
    return Provider(
        name="unleash",
        title="Unleash",
        server=server,
        source_options={"environment": server.environment},
        webhook_options={"environment": server.environment},
        example='{"type": "feature-updated"}',
        proof=lambda _body, secret: {"authorization": secret},
    )


PROVIDERS = {
    "appconfig": _appconfig,
    "launchdarkly": _launchdarkly,
    "split": _split,
    "unleash": _unleash,
}
