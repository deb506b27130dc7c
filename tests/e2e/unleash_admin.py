"""The part of Unleash's admin API that the end-to-end tests need.

Flags live in the project `default`. Strategies, constraints and variants are Unleash's own JSON;
every value inside a strategy's `parameters` is a string.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

from storesync.cli.webhooks import UNLEASH_EVENTS as EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

type Json = dict[str, Any]

TIMEOUT_S = 10


class AdminError(RuntimeError):
    """When the admin API responds with anything but success."""


def rollout(
    percent: int = 100,
    *,
    group: str = "",
    constraints: Sequence[Json] = (),
    segments: Sequence[int] = (),
    variants: Sequence[Json] = (),
) -> Json:
    """Return a `flexibleRollout` strategy, ready for `add_strategy`."""
    return {
        "name": "flexibleRollout",
        "parameters": {"rollout": str(percent), "stickiness": "default", "groupId": group},
        "constraints": list(constraints),
        "segments": list(segments),
        "variants": list(variants),
    }


class Admin:
    """A client of the admin API; every method raises `AdminError` when the server refuses."""

    def __init__(self, url: str, token: str) -> None:
        """Talk to the server at *url* with the admin *token*."""
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the developer's between us and 127.0.0.1
        self._session.headers["Authorization"] = token

    # Flags

    def create_flag(self, name: str) -> Json:
        """Create a flag, off everywhere, and return it."""
        return self._post(_flags(), {"name": name, "type": "release"})

    def enable(self, name: str, environment: str = "development") -> None:
        """Turn the flag on; Unleash adds a 100 % rollout where it has no strategy yet."""
        self._call("POST", f"{_flags(name)}/environments/{environment}/on")

    def disable(self, name: str, environment: str = "development") -> None:
        """Turn the flag off."""
        self._call("POST", f"{_flags(name)}/environments/{environment}/off")

    def enable_all(self, names: Iterable[str], environment: str = "development") -> None:
        """Turn many flags on in one call, which sends at least one webhook per flag."""
        self._call("POST", _bulk(environment, "on"), {"features": list(names)})

    def disable_all(self, names: Iterable[str], environment: str = "development") -> None:
        """Turn many flags off in one call, which sends one webhook per flag."""
        self._call("POST", _bulk(environment, "off"), {"features": list(names)})

    def archive(self, name: str) -> None:
        """Archive the flag, which takes it out of what SDKs are served."""
        self._call("DELETE", _flags(name))

    def revive(self, name: str) -> None:
        """Bring an archived flag back, off everywhere."""
        self._call("POST", f"/api/admin/archive/revive/{name}")

    def delete(self, name: str) -> None:
        """Delete an archived flag for good."""
        self._call("DELETE", f"/api/admin/archive/{name}")

    def add_dependency(
        self, child: str, parent: str, *, enabled: bool = True, variants: Sequence[str] = ()
    ) -> None:
        """Make *child* need *parent* to be on (or off), or to give one of *variants*."""
        dependency: Json = {"feature": parent, "enabled": enabled}
        if variants:
            dependency["variants"] = list(variants)
        self._call("POST", f"{_flags(child)}/dependencies", dependency)

    def remove_dependency(self, child: str, parent: str) -> None:
        """Take the dependency away again."""
        self._call("DELETE", f"{_flags(child)}/dependencies/{parent}")

    # Strategies

    def add_strategy(self, flag: str, strategy: Json, environment: str = "development") -> str:
        """Add a strategy (see `rollout`) and return its id."""
        return str(self._post(_strategies(flag, environment), strategy)["id"])

    def update_strategy(
        self, flag: str, strategy_id: str, strategy: Json, environment: str = "development"
    ) -> None:
        """Replace the whole strategy."""
        self._call("PUT", f"{_strategies(flag, environment)}/{strategy_id}", strategy)

    def remove_strategy(
        self, flag: str, strategy_id: str, environment: str = "development"
    ) -> None:
        """Remove the strategy."""
        self._call("DELETE", f"{_strategies(flag, environment)}/{strategy_id}")

    # Segments

    def create_segment(self, name: str, constraints: Sequence[Json]) -> int:
        """Create a segment and return its id."""
        segment = {"name": name, "constraints": list(constraints)}
        return int(self._post("/api/admin/segments", segment)["id"])

    def update_segment(self, segment_id: int, name: str, constraints: Sequence[Json]) -> None:
        """Replace the segment's name and constraints."""
        segment = {"name": name, "constraints": list(constraints)}
        self._call("PUT", f"/api/admin/segments/{segment_id}", segment)

    # Webhooks

    def register_webhook(
        self,
        url: str,
        *,
        authorization: str = "",
        events: Iterable[str] = EVENTS,
    ) -> int:
        """Register a webhook and return the id that `delivery_log` takes.

        A running server may take up to 60 s to hear of it: `UnleashServer.register_webhook` is
        for tests that won't wait. The server checks no event name: a misspelt one never sync
        requests.

        Args:
            url: Where to POST.
            authorization: Sent as the `Authorization` header, word for word; empty: no header.
            events: The event types that sync request it.

        """
        addon = _webhook(url, authorization, events)
        return int(self._post("/api/admin/addons", addon)["id"])

    def change_webhook(
        self, addon_id: int, url: str, *, authorization: str = "", events: Iterable[str] = EVENTS
    ) -> None:
        """Replace a webhook; a running server may take up to 60 s to hear of that, too."""
        addon = _webhook(url, authorization, events)
        self._call("PUT", f"/api/admin/addons/{addon_id}", addon)

    def delete_webhook(self, addon_id: int) -> None:
        """Remove a webhook."""
        self._call("DELETE", f"/api/admin/addons/{addon_id}")

    def webhooks(self) -> list[Json]:
        """Return all webhooks; their secrets are masked."""
        return list(self._call("GET", "/api/admin/addons")["addons"])

    def delivery_log(self, addon_id: int) -> list[Json]:
        """Return the webhook's deliveries, newest first: `state`, `stateDetails`, `event`, ..."""
        log = self._call("GET", f"/api/admin/addons/{addon_id}/events")
        return list(log["integrationEvents"])

    def events(self) -> list[Json]:
        """Return the newest events, whether delivered or not, newest first."""
        return list(self._call("GET", "/api/admin/search/events?limit=100")["events"])

    def _post(self, path: str, body: Json) -> Json:
        return dict(self._call("POST", path, body))

    def _call(self, method: str, path: str, body: object = None) -> Any:
        response = self._session.request(method, self._url + path, json=body, timeout=TIMEOUT_S)
        if not response.ok:
            raise AdminError(f"{method} {path} answered {response.status_code}: {response.text}")
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return response.json() if response.content and is_json else None


def _flags(name: str = "") -> str:
    base = "/api/admin/projects/default/features"
    return f"{base}/{name}" if name else base


def _bulk(environment: str, state: str) -> str:
    return f"/api/admin/projects/default/bulk_features/environments/{environment}/{state}"


def _strategies(flag: str, environment: str) -> str:
    return f"{_flags(flag)}/environments/{environment}/strategies"


def _webhook(url: str, authorization: str, events: Iterable[str]) -> Json:
    parameters = {"url": url} | ({"authorization": authorization} if authorization else {})
    return {
        "provider": "webhook",
        "enabled": True,
        "description": "flagstore end-to-end test",
        "parameters": parameters,
        "events": list(events),
        "projects": [],
        "environments": [],
    }
