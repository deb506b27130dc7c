"""The flags that a client's key may see, and the ETags of its responses. Pure."""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
from bisect import bisect_left, bisect_right
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from flagserve import unleash
from flagstore.errors import NotLoadedError
from flagstore.evaluation.base import EXCEPTION, SEGMENT_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagserve.unleash import Moment
    from flagstore.snapshot import Snapshot

TRANSIENT = frozenset((SEGMENT_UNAVAILABLE, EXCEPTION))
"""Errors that may be gone at the next request, even if nothing has changed."""
LAUNCHDARKLY = "launchdarkly"
_FORMAT = b"1"
"""Changes when the same flags and request give another response."""


class View(NamedTuple):
    """The flags that a key may see."""

    known: dict[str, str | None]
    """Name → what an API has cached about the flag; None if nothing yet."""
    stamp: bytes
    """Identifies the flag set and the flags."""
    moments: "list[Moment] | None"
    """The dates at which results change without another flag set; None: at any time."""


def view(snapshot: "Snapshot", sees: "Callable[[str], bool] | None" = None) -> View:
    """Return the flags of a set that a key may see.

    Args:
        snapshot: the flag set.
        sees: returns whether a browser's key names a flag; None for a server's, which sees all.
    """
    record, names = snapshot.snapshot_record, _visible(snapshot, sees)
    shown = sha256(f"{record.provider} {record.digest} {json.dumps(names)}".encode()).digest()
    moments = _moments(snapshot)
    if sees and moments:
        moments = None  # a new ETag would tell a browser when a date in a hidden rule passes
    return View(dict.fromkeys(names), shown, moments)


def etag(view: View, snapshot: "Snapshot", asked: bytes, now: float) -> str:
    """Return the ETag of a response; empty if it must come from the body.

    Random choices do not count: the client keeps the one it was given.

    Args:
        view: the flags that the key may see.
        snapshot: the flag set.
        asked: identifies the request.
        now: seconds since the epoch, before the flags are evaluated.
    """
    moments = view.moments
    if moments is None or snapshot.stand_ins:
        return ""
    passed = b""
    if moments:
        moment = unleash.moment(now)
        passed = b"%d %d" % (bisect_left(moments, moment), bisect_right(moments, moment))
    return weak(b" ".join((_FORMAT, view.stamp, passed, asked)))


def weak(data: bytes) -> str:
    """Return an ETag, weak since the age of the flags may differ."""
    return f'W/"{sha256(data).hexdigest()[:32]}"'


def _visible(snapshot: "Snapshot", sees: "Callable[[str], bool] | None") -> list[str]:
    if sees is None:
        return snapshot.keys_of_versions()
    marked = snapshot.snapshot_record.provider == LAUNCHDARKLY
    return [
        name
        for name, text in {**snapshot.texts("flags"), **snapshot.texts("new_flags")}.items()
        if sees(name) and (not marked or _for_browsers(text))
    ]


def _for_browsers(text: str) -> bool:
    """Return whether LaunchDarkly also serves a flag to its SDKs for browsers."""
    availability = json.loads(text).get("clientSideAvailability")
    return isinstance(availability, dict) and availability.get("usingEnvironmentId") is True


def _moments(snapshot: "Snapshot") -> "list[Moment] | None":
    if snapshot.two_versions:
        return None  # AppConfig: who gets which version changes over time
    if snapshot.snapshot_record.provider != unleash.PROVIDER:
        return []
    try:
        return unleash.moments(snapshot)
    except NotLoadedError:
        return None
