"""AppConfig's gradual deployments: who gets the new version, and when. No I/O except randomness.

While a deployment is in progress, its flag set holds two versions: ``flags`` and ``definitions``
of the previous one, ``new_flags`` with the flags that the new one changes or adds, and in
``deployments`` the deployment by its number, in the fields of AppConfig's API, with
``PreviousVersion`` and ``RemovedFlags``. Its progress is in the source state, so a step is not a
publication.

Flagstore's own hash chooses entities or processes: docs/evaluate.md.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from flagstore.evaluation.appconfig import plain
from flagstore.evaluation.appconfig_rules import as_bytes, bucket, threshold
from flagstore.evaluation.base import context_key
from flagstore.snapshot import Deployment

if TYPE_CHECKING:
    from flagstore.snapshot import Snapshot

EVERYBODY = 100.0
"""Percent."""


class Progress(NamedTuple):
    """How far a deployment had come when AppConfig was last asked."""

    number: int = 0
    """The deployment's number; 0 for none."""
    state: str = ""
    """``DEPLOYING`` or ``BAKING``, which follows once everybody has the new version."""
    percentage: float = 0.0
    next_percentage: float = 0.0
    """One step further."""
    next_at: int = 0
    """When that step is expected, in milliseconds since the epoch; 0 if it is not known."""

    @classmethod
    def parse(cls, text: str) -> "Progress":
        """Parse the source state's progress; number 0 if empty or in an unknown format."""
        try:
            number, state, percentage, following, due_ms = json.loads(text)
            return cls(int(number), str(state), float(percentage), float(following), int(due_ms))
        except (ArithmeticError, TypeError, ValueError):
            return cls()

    def dumps(self, now_ms: int) -> str:
        """Return the JSON for the source state, at the time of a check.

        An overdue step is no longer expected: AppConfig takes longer than predicted.
        """
        if not self.number:
            return ""
        expected = self
        if self.next_at <= now_ms:
            expected = self._replace(next_percentage=self.percentage, next_at=0)
        return json.dumps(expected, separators=(",", ":"))


class Rollout:
    """The two versions of a flag set, and who has which."""

    __slots__ = (
        "_by",
        "_domain",
        "_reached",
        "_seen",
        "new",
        "number",
        "previous_version",
        "snapshot",
        "version",
    )

    def __init__(self, snapshot: "Snapshot", by: str, earlier: "Rollout | None" = None) -> None:
        """Create it for a flag set with a deployment in progress; raise if that is malformed.

        Args:
            snapshot: the flag set.
            by: what identifies an entity: ``key``, the context's key, or another attribute. If
                empty, or missing in the context, the process is chosen.
            earlier: the previous flag set's; within a deployment, nobody loses the new version.
        """
        (number, text), *_ = snapshot.texts("deployments").items()
        deployment: dict[str, Any] = json.loads(text)
        self.snapshot = snapshot
        self.number = int(number)
        self.version = int(deployment["ConfigurationVersion"])
        self.previous_version = int(deployment["PreviousVersion"])
        self._by = by
        profile = snapshot.meta.get("profile", "")
        self._domain = f"flagstore:deployment:{profile}:{number}:".encode()
        self._seen, self._reached = ("", Progress()), 0.0
        if earlier is not None and earlier.number == self.number:
            self._reached = earlier._reached  # noqa: SLF001 - own class
        self.new = snapshot.changed(
            {
                "flags": {
                    **snapshot.texts("new_flags"),
                    **dict.fromkeys(deployment.get("RemovedFlags", ())),
                },
                "new_flags": dict.fromkeys(snapshot.keys("new_flags")),
                "deployments": {number: None},
            },
            snapshot.snapshot_record,
        )
        """The flag set of the new version."""

    def percentage(self, text: str, now: float, *, stale: bool) -> float:
        """Return the share that has the new version now.

        Args:
            text: the progress in the source state.
            now: seconds since the epoch.
            stale: whether the last refresh failed; the share does not grow then.
        """
        seen = self._seen  # once: another thread may replace it
        if text != seen[0]:
            seen = self._seen = text, Progress.parse(text)
        number, _, found, following, due_ms = seen[1]
        if number != self.number:
            self._reached = 0.0  # an operator published it again, or its progress is not known yet
            return 0.0
        if due_ms and now * 1000 >= due_ms and not stale:
            found = following
        self._reached = max(self._reached, found)
        return self._reached

    def has_new(self, given: Mapping[str, Any] | None, percentage: float) -> bool:
        """Return whether a context has the new version at this percentage."""
        if not 0.0 < percentage < EVERYBODY:
            return percentage > 0.0
        entity = self._entity(given) if self._by and given is not None else None
        return bucket(self._domain + (entity or _process())) < threshold(percentage)

    def describe(self, percentage: float, *, new: bool) -> tuple[int | None, str]:
        """Return the configuration version that a context has, if any, and why."""
        version = self.version if new else self.previous_version or None
        by = self._by or "process"
        return version, f"deployment {self.number} at {percentage:g}%, by {by}"

    def deployment(self, percentage: float) -> Deployment:
        """Return what this process knows of the deployment."""
        new = self.has_new(None, percentage)
        return Deployment(self.number, self.version, self.previous_version, percentage, new)

    def _entity(self, given: Mapping[str, Any]) -> bytes | None:
        with suppress(Exception):  # the caller's own: a flag client must not break its caller
            if self._by != "key":
                return as_bytes(plain(given[self._by]))
            return context_key(given).encode() or None
        return None


_random: bytes = b""


def _process() -> bytes:
    """Return the entity that stands for this process: random, as the agent's sessions are."""
    global _random  # noqa: PLW0603 - once per process
    _random = _random or os.urandom(16).hex().encode()
    return _random


def _draw_again() -> None:
    global _random  # noqa: PLW0603 - once per process
    _random = b""


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_draw_again)
if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    with suppress(ImportError):
        from snapshot_restore_py import register_after_restore  # type: ignore[import-not-found]

        _register: Callable[[Callable[[], None]], object] = register_after_restore
        _register(_draw_again)
