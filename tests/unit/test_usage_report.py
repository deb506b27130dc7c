"""Usage is reported as by the providers' own SDKs; what happens after each response."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from simulators.clock import FakeClock
from simulators.usage import HOUR, event_line, line
from storesync import providers
from storesync.errors import (
    ConfigurationError,
    EndpointNotFoundError,
    ProviderUnavailableError,
    StoreSyncError,
)
from storesync.model import Secret, Source
from storesync.providers import split_queues
from storesync.providers.base import Published
from storesync.responses import HttpResponse
from storesync.retry import Deadline
from storesync.usage_lines import Line, parse
from storesync.usage_report import RefusedError, Reporter

if TYPE_CHECKING:
    from storesync.providers.base import UsageApi

FLAGS: dict[str, Any] = {
    "a": {"variations": [True, False]},
    "json": {"variations": [{"x": 1}]},
    "hidden": {"variations": [True, False], "excludeFromSummaries": True},
}
KEY = "project:development.canary-key"


def source(provider: str = "launchdarkly", url: str = "https://flags.example", **more: Any) -> Any:
    return Source("prod", provider, url, Secret(KEY), **more)


def parsed(flags: Any, provider: str = "launchdarkly", **more: Any) -> Line:
    found = parse(json.loads(line(flags, provider, **more)))
    assert found is not None
    return found


def counted(provider: str, count: int) -> Line:
    """Return a line of so many evaluations of a flag."""
    result = {"launchdarkly": (0, 1), "split": ("on", 1), "unleash": (1,)}[provider]
    return parsed({"a": [[count, *result]]}, provider)


def report(lines: list[Line], of: Source | None = None, meta: Any = None) -> Any:
    """Return the request of some lines."""
    of = of or source(lines[0].provider)
    return usage_api(of.provider).report(of, lines, Published(FLAGS.get, meta or {}))


def usage_api(provider: str) -> UsageApi:
    api = providers.get(provider).usage()
    assert api is not None
    return api


# -- LaunchDarkly: what the public SDK test harness asserts of summary events


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        # Each variation and version has a counter of its own, with the variation's value.
        (
            {"a": [[3, 0, 7], [2, 1, 7], [1, 0, 8]]},
            {
                "a": [
                    {"count": 3, "value": True, "variation": 0, "version": 7},
                    {"count": 2, "value": False, "variation": 1, "version": 7},
                    {"count": 1, "value": True, "variation": 0, "version": 8},
                ]
            },
        ),
        (
            {"json": [[1, 0, 1]]},
            {"json": [{"count": 1, "value": {"x": 1}, "variation": 0, "version": 1}]},
        ),
        # Without a variation (off without an off variation): a version, and no variation.
        ({"a": [[4, None, 7]]}, {"a": [{"count": 4, "value": None, "version": 7}]}),
        # An unknown flag.
        ({"none": [[5, None, None]]}, {"none": [{"count": 5, "value": None, "unknown": True}]}),
        # A variation or a flag that is gone by now.
        (
            {"a": [[1, 9, 3]], "gone": [[1, 0, 3]]},
            {
                "a": [{"count": 1, "value": None, "variation": 9, "version": 3}],
                "gone": [{"count": 1, "value": None, "variation": 0, "version": 3}],
            },
        ),
        # excludeFromSummaries.
        (
            {"hidden": [[9, 0, 1]], "a": [[1, 0, 1]]},
            {"a": [{"count": 1, "value": True, "variation": 0, "version": 1}]},
        ),
        ({"hidden": [[9, 0, 1]]}, None),
    ],
)
def test_launchdarkly_summaries(flags: Any, expected: Any) -> None:
    request = report([parsed(flags)])
    if expected is None:
        assert request is None
        return
    (event,) = json.loads(gzip.decompress(request.body))
    assert (event["kind"], event["startDate"], event["endDate"]) == (
        "summary",
        1000 * (HOUR + 100),
        1000 * (HOUR + 160),
    )
    assert {key: flag["counters"] for key, flag in event["features"].items()} == expected
    assert {str(flag["contextKinds"]) for flag in event["features"].values()} == {"['user']"}
    assert {flag["default"] for flag in event["features"].values()} == {None}


def test_launchdarkly_context_kinds() -> None:
    (event,) = json.loads(gzip.decompress(report([parsed({"a": [[1, 0, 1]]}, k=["org"])]).body))
    assert event["features"]["a"]["contextKinds"] == ["org"]


def test_launchdarkly_payload_ids() -> None:
    """A line's id is the same whenever it is sent, and different from all others'."""
    one, other = parsed({"a": [[1, 0, 1]]}), parsed({"a": [[1, 0, 1]]})
    ids = [
        report([each]).headers["X-LaunchDarkly-Payload-ID"]
        for each in (one, one._replace(last=one.last + 5), other)
    ]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 36


@pytest.mark.parametrize(
    ("provider", "base", "url"),
    [
        ("launchdarkly", "https://sdk.launchdarkly.com", "https://events.launchdarkly.com/bulk"),
        (
            "launchdarkly",
            "https://sdk.eu.launchdarkly.com",
            "https://events.eu.launchdarkly.com/bulk",
        ),
        ("launchdarkly", "https://relay.example:8030", "https://relay.example:8030/bulk"),
        ("launchdarkly", "https://sdk.launchdarkly.com.x", "https://sdk.launchdarkly.com.x/bulk"),
        ("launchdarkly", "http://sdk.launchdarkly.com", "http://sdk.launchdarkly.com/bulk"),
        (
            "split",
            "https://sdk.split.io/api",
            "https://events.split.io/api/testImpressions/count",
        ),
        ("split", "https://proxy.example/api", "https://proxy.example/api/testImpressions/count"),
        ("unleash", "https://u.example/x/api", "https://u.example/x/api/client/metrics/bulk"),
        ("unleash", "https://u.example", "https://u.example/api/client/metrics/bulk"),
    ],
)
def test_addresses(provider: str, base: str, url: str) -> None:
    """Usage goes to the vendor's own address or the source's: keys are sent nowhere else."""
    assert report([counted(provider, 1)], source(provider, base)).url == url


@pytest.mark.parametrize(
    ("base", "urls"),
    [
        (
            "https://sdk.split.io/api",
            [
                "https://telemetry.split.io/api/v1/keys/ss",
                "https://events.split.io/api/events/bulk",
            ],
        ),
        (
            "https://proxy.example/api",
            ["https://proxy.example/api/v1/keys/ss", "https://proxy.example/api/events/bulk"],
        ),
    ],
)
def test_addresses_of_splits_queues(base: str, urls: list[str]) -> None:
    """Split takes unique keys at another host than events; a Split Proxy takes both."""
    of = source("split", base)
    assert [split_queues.url(of, path) for path in ("keys/ss", "events/bulk")] == urls


# -- Unleash, Split


def test_unleash_rows() -> None:
    """There is one per application, hour and flag, in the token's environment."""
    lines = [
        parsed({"a": [[3, 1], [2, 0], [2, 1, "blue"]], "b": [[1, 0, "disabled"]]}, "unleash"),
        parsed({"a": [[1, 1, "blue"], [1, 1, "red"]]}, "unleash"),
        parsed({"a": [[7, 1]]}, "unleash", n="other"),
        parsed({"a": [[5, 0]]}, "unleash", a=HOUR + 3590, b=HOUR + 3600),
    ]
    random.Random(5).shuffle(lines)
    posted = json.loads(report(lines, meta={"query": {"environment": "production"}}).body)
    assert posted["applications"] == []
    found = {
        (row.pop("appName"), row.pop("timestamp")[11:], row.pop("featureName")): row
        for row in posted["metrics"]
    }
    environment = {"environment": "production"}
    assert found == {
        ("checkout", "14:00:00Z", "a"): {
            **environment, "yes": 7, "no": 2, "variants": {"blue": 3, "red": 1}
        },
        ("checkout", "14:00:00Z", "b"): {
            **environment, "yes": 0, "no": 1, "variants": {"disabled": 1}
        },
        ("other", "14:00:00Z", "a"): {**environment, "yes": 7, "no": 0, "variants": {}},
        ("checkout", "15:00:00Z", "a"): {**environment, "yes": 0, "no": 5, "variants": {}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("meta", "options", "key", "environment"),
    [
        ({"query": {"environment": "stored"}}, {"environment": "option"}, KEY, "stored"),
        ({"query": {}}, {"environment": "option"}, KEY, "option"),
        ({}, {}, KEY, "development"),
        ({}, {}, "a-proxy's-key", None),
    ],
)
def test_unleash_environment(meta: Any, options: Any, key: str, environment: str | None) -> None:
    """The server drops rows of other environments, so it must be known."""
    of = Source("prod", "unleash", "https://u.example", Secret(key), options)
    lines = [parsed({"a": [[1, 1]]}, "unleash")]
    if environment is None:
        with pytest.raises(ConfigurationError, match=r'"environment".*sources/prod'):
            report(lines, of, meta)
    else:
        (row,) = json.loads(report(lines, of, meta).body)["metrics"]
        assert row["environment"] == environment


def test_split_counts() -> None:
    """Evaluations are counted per flag and hour, whatever the treatment."""
    lines = [
        parsed({"a": [[3, "on", 5], [2, "off", 5]], "b": [[1, "x", None]]}, "split"),
        parsed({"a": [[4, "on", 6]]}, "split"),
        parsed({"a": [[1, "on", 6]]}, "split", b=HOUR + 3600),
    ]
    found = json.loads(report(lines).body)["pf"]
    assert sorted((each["f"], each["m"], each["rc"]) for each in found) == [
        ("a", 1000 * HOUR, 9),
        ("a", 1000 * (HOUR + 3600), 1),
        ("b", 1000 * HOUR, 1),
    ]


def test_split_impressions_mode() -> None:
    """It is DEBUG if an impression repeats one of the same hour, which OPTIMIZED only counts."""
    at = 1000 * HOUR
    for previous, mode in ((None, "OPTIMIZED"), (at - 1, "OPTIMIZED"), (at, "DEBUG")):
        entry = [0, at + 1, "a", "on", "rule", 5, previous]
        found = parse(json.loads(event_line("flagstore.exposure", entry)))
        assert report([found]).headers["SplitSDKImpressionsMode"] == mode


# -- responses


class Http:
    """Gives responses in turn, and repeats the last one."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.bodies: list[bytes] = []
        self.authorizations: set[str] = set()

    def post(self, _url: str, headers: Any, body: bytes, **_: Any) -> HttpResponse:
        self.bodies.append(body)
        self.authorizations.add(headers["Authorization"])
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if callable(outcome):
            outcome = outcome(body)
        if isinstance(outcome, Exception):
            raise outcome
        status, headers = outcome if isinstance(outcome, tuple) else (outcome, {})
        return HttpResponse(status, headers, b"")


LOST, LATER, DONE = "lost", "later", "done"
AWAY = ProviderUnavailableError("away")
DOUBT = ProviderUnavailableError("silent", in_doubt=True)


def reporting(provider: str, *outcomes: Any, seconds: float = 60) -> tuple[Reporter, Http]:
    http: Any = Http(*outcomes)
    deadline = Deadline(FakeClock(), Mock(), seconds)
    published = Published(FLAGS.get, {})
    return Reporter(http, deadline, source(provider), usage_api(provider), published), http


def posted(provider: str, *outcomes: Any) -> tuple[Reporter, Http, str]:
    reporter, http = reporting(provider, *outcomes)
    left = reporter.post([counted(provider, 5)])
    assert (reporter.reported, reporter.lost) in {(5, 0), (0, 5), (0, 0)}
    outcome = LATER if left else DONE if reporter.reported else LOST
    assert bool(reporter.error) == (outcome == LATER)
    return reporter, http, outcome


@pytest.mark.parametrize(
    ("outcomes", "to_launchdarkly", "to_others", "posts"),
    [
        ([202], DONE, DONE, 1),
        ([204], DONE, DONE, 1),
        ([503, 202], DONE, DONE, 2),
        ([AWAY, 202], DONE, DONE, 2),
        ([(429, {"retry-after": "3"}), 202], DONE, DONE, 2),
        ([(429, {"retry-after": "300"})], LATER, LATER, 1),
        ([500], LATER, LATER, 2),
        ([AWAY], LATER, LATER, 2),
        ([400], LOST, LOST, (2, 1)),
        ([400, 202], DONE, LOST, (2, 1)),
        ([DOUBT, 202], DONE, LOST, (2, 1)),
        ([503, DOUBT], LATER, LOST, 2),
        ([504], LATER, LOST, (2, 1)),
        ([413], LOST, LOST, 1),
        ([521], LOST, LOST, 1),
        ([401], LATER, LATER, 1),
        ([403], LATER, LATER, 1),
        ([404], LATER, LATER, 1),
        ([EndpointNotFoundError("a redirect")], LATER, LATER, 1),
    ],
)
def test_responses(
    outcomes: list[Any], to_launchdarkly: str, to_others: str, posts: int | tuple[int, int]
) -> None:
    """Only LaunchDarkly is sent again what it may have counted, since it recognizes repetitions."""
    expected = posts if isinstance(posts, tuple) else (posts, posts)
    for provider, outcome, count in (
        ("launchdarkly", to_launchdarkly, expected[0]),
        ("unleash", to_others, expected[1]),
        ("split", to_others, expected[1]),
    ):
        reporter, http, found = posted(provider, *outcomes)
        assert (found, len(http.bodies)) == (outcome, count), provider
        refused = isinstance(outcomes[0], EndpointNotFoundError) or outcomes[0] in (401, 403, 404)
        assert isinstance(reporter.error, RefusedError) == refused
        assert http.authorizations == {f"Bearer {KEY}" if provider == "split" else KEY}
        assert KEY not in str(reporter.error)


def test_a_wait_is_kept_for_the_queue() -> None:
    reporter, _, _ = posted("unleash", (503, {"retry-after": "120"}))
    assert getattr(reporter.error, "retry_after_s", None) == 120


@pytest.mark.parametrize("limit", [None, 4_000])
def test_large_reports_are_cut(limit: int | None) -> None:
    """They are cut before sending, or when a proxy refuses them; each evaluation arrives once."""
    lines = [
        parsed({f"flag-{number}-{each}": [[1, 1]] for each in range(12)}, "unleash")
        for number in range(60)
    ]

    def answer(body: bytes) -> int:
        return 413 if limit and len(body) > limit else 202

    reporter, http = reporting("unleash", answer)
    assert reporter.post(lines) == []
    assert (reporter.reported, reporter.lost) == (720, 0)
    taken = [body for body in http.bodies if answer(body) == 202]
    assert sum(len(json.loads(body)["metrics"]) for body in taken) == 720
    assert max(map(len, http.bodies)) <= usage_api("unleash").max_bytes
    assert len(taken) > 1


def test_nothing_is_sent_without_time_or_after_a_failure() -> None:
    """The rest waits on the queue instead of running into the function's time-out."""
    for seconds, outcome, posts in ((14, 202, 0), (60, 503, 2)):
        reporter, http = reporting("launchdarkly", outcome, seconds=seconds)
        for _ in range(3):
            lines = [parsed({"a": [[1, 0, 1]]})]
            assert reporter.post(lines) == lines
        assert len(http.bodies) == posts
        assert isinstance(reporter.error, StoreSyncError)
