"""Settings of the functions: read once from the environment, all problems reported at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storesync.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """What the function that faces the internet needs. No table, no credentials."""

    parameter_prefix: str
    queue_url: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> WebhookSettings:
        """Read the settings.

        Raises:
            ConfigurationError: names every variable that is missing or wrong.
        """
        env = _Environment(environ)
        settings = cls(
            parameter_prefix=env.prefix("FLAGSTORE_PARAMETER_PREFIX"),
            queue_url=env.text("FLAGSTORE_QUEUE_URL"),
        )
        env.check()
        return settings


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """What the function that syncs needs."""

    parameter_prefix: str
    queue_url: str
    """Empty: sync requests are not repeated, nor queued by the schedule, as in a run by hand."""
    table: str
    followup_s: int
    """Delay of the sync request that follows a webhook's check; 0: none."""
    snapshot_replicas: int
    reconcile_minutes: int = 5
    """Between two runs of the schedule."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> SyncSettings:
        """Read the settings.

        Raises:
            ConfigurationError: names every variable that is missing or wrong.
        """
        env = _Environment(environ)
        settings = cls(
            parameter_prefix=env.prefix("FLAGSTORE_PARAMETER_PREFIX"),
            queue_url=environ.get("FLAGSTORE_QUEUE_URL", ""),
            table=env.text("FLAGSTORE_TABLE"),
            followup_s=env.number("FLAGSTORE_FOLLOWUP_SYNC_SECONDS", 30, 0, 900),
            snapshot_replicas=env.number("FLAGSTORE_SNAPSHOT_REPLICAS", 1, 1, 5),
            reconcile_minutes=env.number("FLAGSTORE_RECONCILE_MINUTES", 5, 1, 360),
        )
        env.check()
        return settings


class _Environment:
    """Reads variables and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []

    def text(self, name: str) -> str:
        value = self._environ.get(name, "")
        if not value:
            self._problems.append(f"{name} is not set")
        return value

    def prefix(self, name: str) -> str:
        value = self.text(name)
        if value and (not value.startswith("/") or value.endswith("/")):
            self._problems.append(f"{name} must start with '/' and not end with it")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        text = self._environ.get(name, "") or str(default)
        if text.isdecimal() and low <= int(text) <= high:
            return int(text)
        self._problems.append(f"{name} must be a whole number from {low} to {high}")
        return default

    def check(self) -> None:
        if self._problems:
            raise ConfigurationError("; ".join(self._problems))
