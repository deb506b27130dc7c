"""The generated tables of docs/propagation.md, from constants, the template and the benchmarks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.__main__ import KEPT
from bench.harness import REPOSITORY
from bench.results import load
from flagstore.cache import COOL_DOWN_S, FIRST_LOAD_S, MAX_COOL_DOWN_S, REFRESH_S, TTL_S
from simulators.template import read_template
from storesync.events import MAX_DELAY_S
from storesync.pipeline import SPACING_MS
from storesync.retry_policy import Limits
from storesync.sync import RETRY_S
from tools.markdown import table

if TYPE_CHECKING:
    from collections.abc import Iterator

JITTER = 0.1
"""Of a reader's TTL, either way (test_the_ttl_has_ten_percent_of_jitter)."""
STORM = re.compile(r"^\| T1 .*? lost\).*?(median .*? \(virtual time\))", re.MULTILINE)
MEASURED = (
    ("P6", "time of a warm request", "WebhookFunction, warm"),
    ("P7", "WebhookFunction: INIT, Runtime Interface Emulator", "WebhookFunction, cold start"),
    ("P7", "SyncFunction: INIT, Runtime Interface Emulator", "SyncFunction, cold start"),
    ("P6", "1,000 webhooks in 1 s: virtual time", "a burst of 1,000 sync requests within 1 s"),
    ("P6", "1,000 webhooks in 5 s: virtual time", "the same within 5 s"),
)


class Delays(NamedTuple):
    """What bounds the way of a change, in seconds, as deployed by default."""

    schedule: float
    follow_up: float
    timeout: float
    visibility: float
    receives: int
    ttl: float = TTL_S

    def reader(self) -> float:
        """Return the longest that a busy reader goes without asking."""
        return self.ttl * (1 + JITTER)

    def check(self) -> float:
        """Return the longest that one good check takes: fetch and publication."""
        return Limits().fetch_s + Limits().publish_s

    def settled(self) -> float:
        """Return the same where the provider's responses lag: it is asked again for a while."""
        return self.check() + Limits().settle_s


def deployed() -> Delays:
    """Return the delays of the template's defaults."""
    template = read_template()
    given = {name: value.get("Default") for name, value in template["Parameters"].items()}
    seconds = template["Mappings"]["VisibilityOfSyncTimeout"][str(given["SyncTimeout"])]["Seconds"]
    redrive = template["Resources"]["Queue"]["Properties"]["RedrivePolicy"]
    return Delays(
        schedule=60 * given["ReconcileMinutes"],
        follow_up=given["FollowUpSyncSeconds"],
        timeout=given["SyncTimeout"],
        visibility=seconds,
        receives=redrive["maxReceiveCount"],
    )


def tables() -> dict[str, str]:
    """Return the tables by name."""
    delays = deployed()
    return {
        "propagation-well": _well(delays),
        "propagation-worst": _worst(delays),
        "propagation-measured": _measured(),
        "propagation-pauses": _pauses(delays),
        "propagation-knobs": _knobs(delays),
    }


def waits_at_most(share: float, ttl: float = TTL_S) -> float:
    """Return how long a busy reader has not heard of a change, in this share of cases.

    Its questions are between 0.9 and 1.1 TTL apart, evenly; a change comes at any moment.
    """
    low, high = ttl * (1 - JITTER), ttl * (1 + JITTER)
    if share * ttl <= low:
        return share * ttl
    rest = (1 - share) * ttl
    return high - (2 * rest * (high - low)) ** 0.5


def pauses(delays: Delays) -> Iterator[float]:
    """Yield the pauses between the attempts of a sync request that fails."""
    for receive in range(delays.receives - 1):
        yield min(RETRY_S * 2**receive, MAX_DELAY_S)


def _well(delays: Delays) -> str:
    rows = [
        [
            "sync request to store, in the model of a burst (`P6` below)",
            *_request_to_store("1,000 webhooks in 5 s: virtual time"),
        ],
        [
            "until a busy reader asks",
            f"{waits_at_most(0.5):.0f} s",
            f"{delays.reader():.0f} s (95 %: {waits_at_most(0.95):.0f} s)",
        ],
    ]
    return table(("part", "median", "at most"), rows, right=True)


def _request_to_store(work: str) -> tuple[str, str]:
    said = _row("P6", work).ours
    median, longest = said.rpartition("median ")[2].split(", longest ")
    return median, longest


def _worst(delays: Delays) -> str:
    check, settled, reader = delays.check(), delays.settled(), delays.reader()
    spacing = SPACING_MS / 1000
    rows: list[tuple[str, str, float | str]] = [
        ("all is well", "spacing + check + reader", spacing + check + reader),
        (
            f"the provider's responses lag by up to {Limits().settle_s:.0f} s",
            "spacing + check + settling + reader",
            spacing + settled + reader,
        ),
        (
            "they lag longer, until the follow-up",
            "the same + `FollowUpSyncSeconds` + check with settling",
            spacing + settled + delays.follow_up + settled + reader,
        ),
        (
            "one run fails, having tried all its time; the sync request comes again",
            "`SyncTimeout` + first pause + check + reader",
            delays.timeout + RETRY_S + check + reader,
        ),
        (
            "the webhook is lost, refused or throttled; or responses lag longer still",
            "`ReconcileMinutes` + check + reader",
            delays.schedule + check + reader,
        ),
        (
            "SyncFunction is cut off in the middle of the sync request's check",
            "the sooner of its visibility and `ReconcileMinutes`, + check + reader",
            min(delays.visibility, delays.schedule) + check + reader,
        ),
        (
            "the one scheduled run that would have healed it fails, too",
            "twice `ReconcileMinutes`, + check + reader",
            2 * delays.schedule + check + reader,
        ),
        (
            "the provider, SSM or the store's writes are down for D",
            "D + `ReconcileMinutes` + check + reader",
            f"D + {delays.schedule + check + reader:.0f} s",
        ),
        (
            "a reader cannot reach the store for D",
            "D + the longest cool-down + one read",
            f"D + {MAX_COOL_DOWN_S + FIRST_LOAD_S:.0f} s",
        ),
        ("the set is refused, the key is refused, the source is pinned", "a person", "no end"),
    ]
    shown = [
        [what, how, value if isinstance(value, str) else f"{value:.0f} s"]
        for what, how, value in rows
    ]
    return table(("what goes wrong", "formula", "at most"), shown)


def _row(part: str, work: str) -> Any:  # noqa: ANN401 - a row of the benchmarks
    (row, *_) = (row for row in load(KEPT)[part].rows if row.work == work)
    return row


def _measured() -> str:
    rows = [[part, name, _row(part, work).ours] for part, work, name in MEASURED]
    rows.append(["T1", "sync request to store in a storm, a tenth of all webhooks lost", _storm()])
    limits, delays = Limits(), deployed()
    rows += [
        [
            "constant",
            "checks of one source in a burst are so far apart",
            f"{SPACING_MS / 1000:g} s",
        ],
        ["constant", "one fetch, in all, at most", f"{limits.fetch_s:g} s"],
        ["constant", "kept for the publication", f"{limits.publish_s:g} s"],
        [
            "constant",
            "settling: waiting for a required revision",
            f"{limits.settle_s:g} s",
        ],
        ["template", "follow-up, after the webhook's check", f"{delays.follow_up} s"],
        ["template", "schedule", f"{delays.schedule} s"],
        ["template", "a run of SyncFunction, at most", f"{delays.timeout} s"],
        ["template", "a message that a dying run held comes again after", f"{delays.visibility} s"],
        ["constant", "reader: between two questions", f"{TTL_S:g} s ± {100 * JITTER:.0f} %"],
        [
            "constant",
            "reader: a refresh, at most",
            f"{REFRESH_S:g} s; while data arrives, doubling to {FIRST_LOAD_S:g} s",
        ],
        [
            "constant",
            "reader: after a failure it asks no more for",
            f"{COOL_DOWN_S:g} to {1.5 * COOL_DOWN_S:g} s, doubling to {MAX_COOL_DOWN_S:g} s",
        ],
    ]
    return table(("from", "part", "figure"), rows)


def _storm() -> str:
    """Return what docs/guarantees.md says of the storm: what its last run reached."""
    page = (REPOSITORY / "docs" / "guarantees.md").read_text(encoding="utf-8")
    (said,) = STORM.findall(page)
    return str(said)


def _pauses(delays: Delays) -> str:
    each = list(pauses(delays))
    total = [sum(each[: number + 1]) for number in range(len(each))]
    rows = [
        ["pause before it (s)", *(f"{pause:.0f}" for pause in each)],
        ["since the first (s)", *(f"{since:.0f}" for since in total)],
    ]
    headers = (str(number) for number in range(2, delays.receives + 1))
    return table(("attempt", *headers), rows, right=True)


def _knobs(delays: Delays) -> str:
    rows = []
    for ttl in (0, 1, 5, 10, 30, 60):
        changed = delays._replace(ttl=ttl)
        rows.append([f"`ttl_s={ttl}`", f"{waits_at_most(0.5, ttl):g} s", f"{changed.reader():g} s"])
    for minutes in read_template()["Parameters"]["ReconcileMinutes"]["AllowedValues"]:
        worst = 60 * minutes + delays.check() + delays.reader()
        typical = 30 * minutes + waits_at_most(0.5)
        rows.append([f"`ReconcileMinutes` {minutes}", f"{typical:,.0f} s", f"{worst:,.0f} s"])
    headers = ("setting", "median", "at most")
    return table(headers, rows, right=True)
