"""The simulated providers of ``make run``: their parameters, their webhooks, a flag to toggle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulators import appconfig, appconfig_flags, launchdarkly, split, unleash
from tests.simulators.server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.simulators.server import Request

FLAG = "new-checkout"
OTHER_FLAGS = 49
TOGGLE = "/toggle/"


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where the flags are published.

    Attributes:
        name: as in the ``sources`` parameter.
        title: as shown.
        redis_url: the URL of Redis; empty for DynamoDB.
        redis_ca_file: the authority of its certificate.

    """

    name: str
    title: str
    redis_url: str = ""
    redis_ca_file: str = ""

    @property
    def access(self) -> str:
        """What lets a reader in, as shown."""
        return "the URL of Redis" if self.redis_url else "FlagReaderPolicy"


class _Toggles(ProviderServer):
    """Toggles a flag on ``POST /toggle/<flag>``, which no real provider has."""

    field: str
    """The field of a flag that holds whether it is on, or off."""
    inverted = False
    """Whether the field is true for off."""

    def turn(self, flag: str, *, on: bool) -> None:
        """Create or change the flag, which sends a webhook."""
        simulator: Any = self  # the simulators' common methods have no type
        simulator.set_flag(flag, **{self.field: on != self.inverted})

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        """Toggle the flag, or respond as the provider."""
        if request.method != "POST" or not request.path.startswith(TOGGLE):
            return super().response(request)
        flag = request.path.removeprefix(TOGGLE)
        simulator: Any = self
        known = simulator.flags()
        if flag not in known:
            return 404, b"no such flag\n", {}
        # AppConfig omits the field of a flag that is off.
        is_on = bool(known[flag].get(self.field)) != self.inverted
        self.turn(flag, on=not is_on)
        return 200, f"{flag}: {'off' if is_on else 'on'}\n".encode(), {}


class _LaunchDarkly(_Toggles, launchdarkly.LaunchDarklySimulator):
    field = "on"


class _Unleash(_Toggles, unleash.UnleashSimulator):
    field = "enabled"


class _Split(_Toggles, split.SplitSimulator):
    field, inverted = "killed", True


class _AppConfig(_Toggles, appconfig.AppConfigSimulator):
    field = "enabled"
    checks_signatures = False  # the stand-in makes up the credentials of the function's role
    # AWS' predefined Linear20PercentEvery6Minutes.
    strategy = appconfig.Strategy(minutes=30, factor=20, bake_minutes=30)

    def start_deployment(self, flag: str) -> int:
        """Start to switch a flag on gradually, and return the deployment's number."""
        values = {**self._values, flag: {**self._values[flag], self.field: True}}
        content = appconfig_flags.document(values, self._definitions)
        return self.deploy(self.put(content), self.strategy)

    def take_step(self) -> None:
        """Set the clock forward to the deployment's next step."""
        clock, seconds = self.clock, self.strategy.steps()[0][0]
        self.clock = lambda: clock() + seconds
        self.tick()


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One simulated provider.

    Attributes:
        name: as in the parameters.
        title: as shown.
        server: the simulator.
        base_path: the path of the base URL.
        source_options: options of the source.
        webhook_options: options of the webhook.
        example: a webhook's body, to send by hand.
        proof: returns the header that authenticates a body by a secret; without it, the secret is
            the last part of the URL.
        webhooks: whether it sends webhooks; otherwise its events are queued.

    """

    name: str
    title: str
    server: Any  # one of the simulators
    example: str = ""
    base_path: str = ""
    source_options: Mapping[str, str] = field(default_factory=dict)
    webhook_options: Mapping[str, str] = field(default_factory=dict)
    proof: Callable[[bytes, str], dict[str, str]] | None = None
    webhooks: bool = True

    def switch(self, *, on: bool) -> None:
        """Create or change the demonstration's flag, which sends a webhook."""
        self.server.turn(FLAG, on=on)

    def parameters(self, secret: str, store: Store) -> dict[str, dict[str, Any]]:
        """Return the source's parameters by kind."""
        base = {"provider": self.name}
        options = dict(self.source_options)
        credential = {**base, "base_url": self.server.url + self.base_path}
        if store.redis_url:
            credential["store_url"] = store.redis_url
        found: dict[str, dict[str, Any]] = {
            "sources": {**base, "options": options, "store": store.name, "allow_http": True},
            "credentials": credential,
        }
        if self.name == "unleash":
            found["sources"]["document"] = True  # for Unleash's SDKs
        if self.webhooks:
            credential["key"] = self.server.sdk_key
            webhook_options = dict(self.webhook_options)
            found["webhooks"] = {**base, "secrets": [secret], "options": webhook_options}
        return found

    def by_hand(self, url: str, secret: str) -> tuple[str, dict[str, str]]:
        """Return the URL and headers for :attr:`example`."""
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
    options = {"environment": server.environment}
    return Provider(
        name="unleash",
        title="Unleash",
        server=server,
        source_options=options,
        webhook_options=options,
        example='{"type": "feature-updated"}',
        proof=lambda _body, secret: {"authorization": secret},
    )


PROVIDERS = {
    "appconfig": _appconfig,
    "launchdarkly": _launchdarkly,
    "split": _split,
    "unleash": _unleash,
}
