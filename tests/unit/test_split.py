"""Split: webhooks, pages and segments, limits."""

from __future__ import annotations

import gzip
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from data import DATA
from flagstore.keys import Key
from simulators.canned import Canned
from simulators.memory_store import MemoryStore
from simulators.split import SplitSimulator, event, new_flag, rich_flags
from simulators.split_flags import in_segment, matcher, new_rule_based, rollout, rule
from storesync import errors
from storesync.http import HttpClient, HttpLimits
from storesync.model import FlagSet, Secret, Source, SyncRequest, WebhookConfig, WebhookRequest
from storesync.pipeline import Sync
from storesync.providers import split_api
from storesync.providers.split import MAX_EVENT_BYTES, Split
from storesync.retry import Deadline, SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storesync.model import FetchResult

PROVIDER = Split()
SECRET = Secret("sample-webhook-secret")
needs_data = pytest.mark.skipif(
    not (DATA / "split" / "sync-tools-responses.json").exists(),
    reason="allowed: no responses of Split's own tests (see CONFORMANCE_DATA)",
)


def webhook_config(method: str = "url", **options: str) -> WebhookConfig:
    """Build a webhook config."""
    return WebhookConfig("prod", "split", method, (SECRET,), options=options)


def sync_request(body: Any, **options: str) -> tuple[str, ...] | None:
    """Return the revisions that a body requires."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return PROVIDER.webhook_event(WebhookRequest({}, raw), webhook_config(**options)).required


def webhook_body(**fields: Any) -> dict[str, Any]:
    """Build the event of a change of number 42 in production."""
    flag = {**new_flag("dark-mode"), "changeNumber": 42}
    return {**event(flag, environment="production"), **fields}


# -- verification -------------------------------------------------------------------------------


def test_secret_in_url() -> None:
    """Nothing is signed, so only the secret in the URL proves the sender."""
    text = SECRET.reveal()
    PROVIDER.verify(WebhookRequest({}, b"", text), webhook_config())
    with pytest.raises(errors.SignatureError, match="URL"):
        PROVIDER.verify(WebhookRequest({"authorization": text}, text.encode()), webhook_config())


# -- sync requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff", [], None, b"[" * 100_000),
        [{"split": "a", "environmentName": "staging"}],
        {"type": "METRIC_ALERT"},
        b"\x1f\x8b",
        gzip.compress(b"[]", mtime=0),
        gzip.compress(b"{}", mtime=0)[:-4],
        gzip.compress(bytes(MAX_EVENT_BYTES + 1), mtime=0),
    ],
)
def test_any_body_requests_a_sync(body: Any) -> None:
    """The secret is sufficient, even with an unreadable body or a bomb."""
    assert sync_request(body, environment="production") == ()
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert PROVIDER.webhook_event(WebhookRequest({}, raw), webhook_config()).delivery == ""


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_change_number_is_required(pack: Callable[[bytes], bytes]) -> None:
    """An event of our environment names the change to reach, compressed or not."""
    body = pack(json.dumps(webhook_body()).encode())
    assert sync_request(body, environment="production") == ("change/42",)
    assert PROVIDER.webhook_event(WebhookRequest({}, body), webhook_config()).delivery == "42"


@pytest.mark.parametrize(
    ("environment", "sync_requests"),
    [("production", True), ("Production", False), ("staging", False), (None, True), ("", True)],
)
def test_other_environments(environment: Any, *, sync_requests: bool) -> None:
    """Events of another environment are ignored; ones without an environment may concern us."""
    body = webhook_body(environmentName=environment)
    assert (sync_request(body, environment="production") is not None) is sync_requests
    assert sync_request(body) == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"environmentName": None},
        {"type": "segment"},
        {"type": None},
        *({"changeNumber": number} for number in (None, True, -1, 0, 1.5, "42", 2**53)),
    ],
)
def test_unreachable_numbers_are_not_required(fields: dict[str, Any]) -> None:
    """Only the number of a flag in our environment will be reached."""
    assert sync_request(webhook_body(**fields), environment="production") == ()


@pytest.mark.parametrize(
    ("required", "revision", "satisfied"),
    [
        ("change/42", 42, True),
        ("change/42", 43, True),
        ("change/42", 41, False),
        ("change/42", 0, False),
        ("change/x", 1, True),
        ("change/-1", 1, True),
        ("change/" + "9" * 5_000, 1, True),
        ("revision/9", 1, True),
    ],
)
def test_satisfied(required: str, revision: int, *, satisfied: bool) -> None:
    """That number or a later one; an unknown notation counts as reached."""
    assert PROVIDER.satisfied(required, revision, lambda _section, _key: None) is satisfied


@pytest.mark.parametrize(
    ("old", "new", "is_older"),
    [
        ((7, None), (6, None), True),
        ((7, None), (7, None), False),
        ((7, None), (8, None), False),
        ((7, None), (0, None), False),
        ((0, None), (6, None), False),
        ((7, ["a"]), (6, ["a"]), True),
        ((7, ["a"]), (6, ["b"]), False),
    ],
)
def test_is_older(old: Any, new: Any, *, is_older: bool) -> None:
    """Change numbers are compared if both are of the same flag sets."""

    def flag_set(revision: int, sets: list[str] | None) -> FlagSet:
        return FlagSet("split", {}, {"sets": sets} if sets else {}, revision)

    assert PROVIDER.is_older(flag_set(*old), flag_set(*new)) is is_older


# -- fetching -----------------------------------------------------------------------------------


def source(base_url: str = "", **options: str) -> Source:
    """Build a source."""
    return Source("prod", "split", base_url, Secret("an-sdk-key"), options)


def fetch(client: Canned, base_url: str = "", **options: str) -> FlagSet:
    """Fetch from canned responses."""
    response = PROVIDER.fetch(source(base_url, **options), client, "")  # type: ignore[arg-type]
    assert response.flag_set is not None
    return response.flag_set


def changes(ff: Any, rbs: Any = None) -> dict[str, Any]:
    """Build a response of one page."""
    parts = {"ff": ff, "rbs": rbs}
    return {
        name: {"d": part, "s": 7, "t": 7} if isinstance(part, list) else part
        for name, part in parts.items()
        if part is not None
    }


def serving(
    document: Any, segments: dict[str, list[str]] | None = None
) -> Callable[[str, dict[str, str]], Any]:
    """Respond with one page of flags, and one of each segment."""

    def response(path: str, _query: dict[str, str]) -> Any:
        what, _, name = path.partition("/")
        if what == "splitChanges":
            return document
        return {"name": name, "added": (segments or {}).get(name, []), "since": 5, "till": 5}

    return response


def flag(name: str = "a", **fields: Any) -> dict[str, Any]:
    """Build a flag."""
    return {**new_flag(name), **fields}


def test_requests() -> None:
    """Parameters come in the order of the SDKs, and no cache may respond."""
    uses = flag(conditions=[rule(in_segment("a/b ü"), label="", on=100)], sets=["two"])
    client = Canned(serving(changes([uses])))
    PROVIDER.fetch(
        source(sets=" Two,one,two"),
        client,  # type: ignore[arg-type]
        '"etag"',
        unmet=("change/9", "change/10", "revision/99"),
    )
    base = "https://sdk.split.io/api"
    assert client.urls == [
        f"{base}/splitChanges?s=1.3&since=-1&rbSince=-1&sets=one%2Ctwo&till=10",
        f"{base}/segmentChanges/a%2Fb%20%C3%BC?since=-1",
    ]
    assert client.headers == {"Authorization": "Bearer an-sdk-key", "Cache-Control": "no-cache"}


def test_base_url() -> None:
    """A proxy's address replaces Split's."""
    client = Canned(lambda *_: changes([]))
    fetch(client, "https://proxy.example/split/api/")
    assert client.urls[0].startswith("https://proxy.example/split/api/splitChanges?")


@pytest.mark.parametrize("sets", ["a,", ",", "_a", "a b", "ä", "a" * 51, "a;b"])
def test_invalid_flag_sets(sets: str) -> None:
    """A misspelt set would silently be an empty one."""
    client = Canned(serving(changes([])))
    with pytest.raises(errors.ConfigurationError, match=r'"sets".*sources/prod'):
        fetch(client, sets=sets)
    assert not client.urls


def test_flag_set() -> None:
    """Items stay verbatim; inactive ones are dropped; segments are sorted keys."""
    kept = flag(conditions=[rule(in_segment("beta"), label="", on=100)], future={"x": [1.5]})
    people = new_rule_based("people")
    document = changes(
        [kept, flag("old", status="ARCHIVED"), flag("odd", status="PAUSED")],
        [people, {**new_rule_based("gone"), "status": "ARCHIVED"}],
    )
    flag_set = fetch(Canned(serving(document, {"beta": ["b", "ä", "a", "b"]})))
    assert flag_set.sections == {
        "flags": {"a": kept},
        "rule_based_segments": {"people": people},
        "segments": {"beta": {"name": "beta", "keys": ["a", "b", "ä"]}},
    }
    assert flag_set.meta == {"spec": "1.3"}
    assert flag_set.revision == 7


@pytest.mark.parametrize(
    "document",
    [
        {"ff": {"d": [new_flag("a")], "s": -1, "t": -1}},
        {"ff": {"d": [new_flag("a")], "s": -1, "t": -1}, "rbs": None},
        {"ff": {"d": [new_flag("a")], "s": -1, "t": -1}, "rbs": {"d": None, "s": -1, "t": -1}},
    ],
)
def test_no_rule_based_segments(document: Any) -> None:
    """A server without any omits them, or sends null."""
    flag_set = fetch(Canned(serving(document)))
    assert set(flag_set.sections["flags"]) == {"a"}
    assert flag_set.sections["rule_based_segments"] == {}
    assert flag_set.revision == 0


def test_pages() -> None:
    """Pages are read in order until neither list has anything newer."""
    pages = {
        ("-1", "-1"): {
            "ff": {"d": [flag("a"), flag("b"), flag("c", sets=["x"])], "s": -1, "t": 10},
            "rbs": {"d": [new_rule_based("r")], "s": -1, "t": 5},
        },
        ("10", "5"): {
            "ff": {"d": [flag("a", killed=True), flag("b", status="ARCHIVED")], "s": 10, "t": 12},
            "rbs": {"d": [], "s": 5, "t": 5},
        },
        ("12", "5"): {
            "ff": {"d": [], "s": 12, "t": 12},
            "rbs": {"d": [{**new_rule_based("r"), "status": "ARCHIVED"}], "s": 5, "t": 20},
        },
        ("12", "20"): changes([], []),
    }
    pages["12", "20"]["ff"] |= {"s": 12, "t": 12}
    pages["12", "20"]["rbs"] |= {"s": 20, "t": 20}
    client = Canned(lambda _path, query: pages[query["since"], query["rbSince"]])
    flag_set = fetch(client)
    assert set(flag_set.sections["flags"]) == {"a", "c"}
    assert flag_set.sections["flags"]["a"]["killed"] is True
    assert flag_set.sections["rule_based_segments"] == {}
    assert (flag_set.revision, len(client.urls)) == (12, 4)


def test_flag_leaves_flag_sets() -> None:
    """A flag that has left all requested flag sets is dropped."""
    pages = {
        "-1": {"d": [flag("a", sets=["x"]), flag("b", sets=["x", "y"])], "s": -1, "t": 10},
        "10": {"d": [flag("a", sets=["z"]), flag("b", sets=None)], "s": 10, "t": 12},
        "12": {"d": [], "s": 12, "t": 12},
    }
    pages["10"]["d"].append(flag("c", sets=["y"]))
    flag_set = fetch(Canned(lambda _path, query: {"ff": pages[query["since"]]}), sets="x,y")
    assert set(flag_set.sections["flags"]) == {"c"}
    assert flag_set.meta == {"spec": "1.3", "sets": ["x", "y"]}


def test_response_of_older_proxy() -> None:
    """A proxy before spec 1.3 responds in its own shape, without rule-based segments."""
    flag_set = fetch(Canned(lambda *_: {"splits": [new_flag("a")], "since": -1, "till": 9}))
    assert set(flag_set.sections["flags"]) == {"a"}
    assert (flag_set.revision, flag_set.meta) == (9, {"spec": "1.2"})


def test_proxy_with_whole_sets() -> None:
    """A response with the requested change number is the last one."""
    client = Canned(lambda *_: {"ff": {"d": [new_flag("a")], "s": -1, "t": 9}})
    assert fetch(client).revision == 9
    assert len(client.urls) == 2


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        ({"ff": {"d": [], "s": 1}}, "'ff'"),
        ({"splits": [], "since": 1}, "'ff'"),
        ({"ff": {"d": {}, "s": 1, "t": 1}}, "'d' that is not a list"),
        ({"ff": {"d": [], "s": -2, "t": 1}}, "'s' or 't'"),
        ({"ff": {"d": [], "s": 1, "t": 2**53}}, "'s' or 't'"),
        ({"ff": {"d": [], "s": 1, "t": -1.0}}, "'s' or 't'"),
        (changes([], {"d": [], "s": 1}), "'rbs'"),
        (changes([flag("")]), "a flag without a name"),
        (changes([flag("\ud800")]), "a flag without a name"),
        (changes([flag(status=None)]), "flag 'a' has no status"),
        (changes([flag(defaultTreatment=None)]), "flag 'a' has no defaultTreatment"),
        (changes([flag(conditions=None)]), "flag 'a' has no list of conditions"),
        (changes([flag(conditions=[{}])]), "flag 'a' has no list of matchers"),
        (changes([flag(conditions=[{"matcherGroup": {"matchers": [1]}}])]), "'a' has no list"),
        (
            changes([flag(conditions=[rule(matcher("IN_SEGMENT"), label="", on=100)])]),
            "flag 'a' has a matcher that names no segment",
        ),
        (changes([], [None]), "a rule-based segment without a name"),
        (changes([], [{"name": "r", "status": "ACTIVE", "conditions": 1}]), "rule-based .* 'r'"),
        (changes([], [{**new_rule_based("r"), "excluded": []}]), "'excluded'"),
        (changes([], [{**new_rule_based("r"), "excluded": {"segments": 1}}]), "excluded segments"),
        (changes([], [{**new_rule_based("r"), "excluded": {"segments": [{}]}}]), "without a name"),
    ],
)
def test_malformed_documents(broken: Any, match: str) -> None:
    """The message names the missing field, and the item if there is one."""
    with pytest.raises(errors.MalformedResponseError, match=match):
        fetch(Canned(serving(broken)))


def test_page_with_an_earlier_change_number() -> None:
    """Change numbers rise; following a lower one could loop."""
    pages = {"-1": {"d": [], "s": -1, "t": 10}, "10": {"d": [], "s": 10, "t": 9}}
    with pytest.raises(errors.MalformedResponseError, match="not a later change number"):
        fetch(Canned(lambda _path, query: {"ff": pages[query["since"]]}))


# -- segments -----------------------------------------------------------------------------------


def test_fetched_segments() -> None:
    """Segments in matchers and excluded ones, of flags and rule-based segments."""
    large = {"largeSegmentName": "x"}
    uses = flag(
        conditions=[
            rule(in_segment("one"), in_segment("two"), label="", on=100),
            rule(in_segment("r", "IN_RULE_BASED_SEGMENT"), label="", on=100),
            rule(matcher("IN_LARGE_SEGMENT", userDefinedLargeSegmentMatcherData=large), label=""),
            rollout(on=100),
        ]
    )
    archived = flag("b", status="ARCHIVED", conditions=[rule(in_segment("no"), label="")])
    people = new_rule_based("r")
    people["conditions"] = [rule(in_segment("three"), label="")]
    kinds = ("standard", "rule-based", "large")
    people["excluded"] = {"segments": [{"name": f"x-{kind}", "type": kind} for kind in kinds]}
    bare = {"name": "bare", "status": "ACTIVE", "conditions": None, "excluded": {"keys": []}}
    client = Canned(serving(changes([uses, archived], [people, bare])))
    segments = fetch(client).sections["segments"]
    assert list(segments) == ["one", "three", "two", "x-standard"]
    assert all(segment == {"name": name, "keys": []} for name, segment in segments.items())


def in_beta(pages: dict[str, Any], **limits: Any) -> Canned:
    """Serve a flag that refers to the segment ``beta``, and its pages by ``since``."""
    uses = changes([flag(conditions=[rule(in_segment("beta"), label="", on=100)])])

    def response(path: str, query: dict[str, str]) -> Any:
        return uses if path == "splitChanges" else {"name": "beta", **pages[query["since"]]}

    return Canned(response, **limits)


def test_segment_pages() -> None:
    """Later removals and additions apply in order; null is an empty list."""
    pages = {
        "-1": {"added": ["c", "b", "a"], "removed": [], "since": -1, "till": 5},
        "5": {"added": ["d", "c"], "removed": ["a", "b"], "since": 5, "till": 8},
        "8": {"added": ["a"], "removed": None, "since": 8, "till": 9},
        "9": {"added": None, "since": 9, "till": 9},
    }
    segments = fetch(in_beta(pages)).sections["segments"]
    assert segments == {"beta": {"name": "beta", "keys": ["a", "c", "d"]}}


def test_segment_with_a_new_number() -> None:
    """A segment whose number rose without a change of its keys is equal."""
    before = {"-1": {"added": ["a"], "removed": [], "since": 5, "till": 5}}
    after = {"-1": {"added": ["a"], "removed": [], "since": 9, "till": 9}}
    assert fetch(in_beta(before)) == fetch(in_beta(after))


@pytest.mark.parametrize(
    "page",
    [
        {"name": "gamma", "added": [], "since": 1, "till": 1},
        {"added": {}, "since": 1, "till": 1},
        {"added": [], "removed": {}, "since": 1, "till": 1},
        {"added": [1], "since": 1, "till": 1},
        {"added": [""], "since": 1, "till": 1},
        {"added": ["\ud800"], "since": 1, "till": 1},
        {"added": [], "removed": [None], "since": 1, "till": 1},
        {"added": [], "since": 1},
        {"added": [], "since": 1, "till": "1"},
    ],
)
def test_malformed_segments(page: dict[str, Any]) -> None:
    """Half a segment never becomes one."""
    with pytest.raises(errors.MalformedResponseError, match="Split"):
        fetch(in_beta({"-1": page}))


def test_segments_are_fetched_in_parallel() -> None:
    """A bounded number of requests is in flight."""
    names = [f"s{number:02d}" for number in range(30)]
    uses = flag(conditions=[rule(*map(in_segment, names), label="", on=100)])
    page = serving(changes([uses]))
    lock, under_way, most = threading.Lock(), 0, 0

    def response(path: str, query: dict[str, str]) -> Any:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1
        return page(path, query)

    assert list(fetch(Canned(response)).sections["segments"]) == names
    assert 1 < most <= split_api.THREADS


def test_first_failing_segment_ends_the_fetch() -> None:
    """A set that can no longer be complete is not fetched to its end."""
    names = [f"s{number:02d}" for number in range(100)]
    uses = flag(conditions=[rule(*map(in_segment, names), label="", on=100)])
    page = serving(changes([uses]))

    def response(path: str, query: dict[str, str]) -> Any:
        time.sleep(0.005)
        return 503 if path.endswith("/s03") else page(path, query)

    client = Canned(response)
    with pytest.raises(errors.ProviderUnavailableError, match="503"):
        fetch(client)
    assert len(client.urls) < 40


# -- ends ---------------------------------------------------------------------------------------


def endless(path: str, query: dict[str, str]) -> Any:
    """Respond with something newer each time."""
    since = int(query["since"])
    if path == "splitChanges":
        return {"ff": {"d": [], "s": since, "t": since + 1}}
    return {"name": "beta", "added": [f"k{since}"], "since": since, "till": since + 1}


def test_endless_pages() -> None:
    """Neither flags nor a segment are read without a limit."""
    client = Canned(endless)
    with pytest.raises(errors.ProviderUnavailableError, match="more of its flags"):
        fetch(client)
    assert len(client.urls) == split_api.MAX_PAGES
    uses = serving(changes([flag(conditions=[rule(in_segment("beta"), label="", on=100)])]))
    client = Canned(lambda path, q: uses(path, q) if path == "splitChanges" else endless(path, q))
    with pytest.raises(errors.ProviderUnavailableError, match="more of its segment 'beta'"):
        fetch(client)
    assert len(client.urls) == split_api.MAX_PAGES + 1


def test_requests_share_one_deadline() -> None:
    """Many quick responses cannot hold a function for long."""

    def slowly(path: str, query: dict[str, str]) -> Any:
        time.sleep(0.02)
        return endless(path, query)

    with pytest.raises(errors.ProviderUnavailableError, match=r"within 0\.3 s"):
        fetch(Canned(slowly, total_s=0.3))


def test_too_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the limit and the remedy, and no retry follows."""
    monkeypatch.setattr(split_api, "MAX_KEYS", 2)
    pages = {"-1": {"added": ["a", "b", "c"], "removed": [], "since": 1, "till": 1}}
    remedy = r"'prod'.*more than 2 keys.*limit.*sets.*sources/prod"
    with pytest.raises(errors.EndpointNotFoundError, match=remedy) as refused:
        fetch(in_beta(pages))
    assert not refused.value.retryable
    pages["-1"]["added"] = ["a", "b", "b"]
    assert fetch(in_beta(pages)).sections["segments"]["beta"]["keys"] == ["a", "b"]


def test_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long keys count by their length, flags by the limit of one response."""
    monkeypatch.setattr(split_api, "MAX_SEGMENT_BYTES", 100)
    pages = {"-1": {"added": ["a" * 100], "removed": [], "since": 1, "till": 1}}
    with pytest.raises(errors.EndpointNotFoundError, match="more than 100 bytes"):
        fetch(in_beta(pages))
    with pytest.raises(errors.MalformedResponseError, match="larger than 500 bytes"):
        fetch(Canned(endless, max_body_bytes=500))


# -- refusals -----------------------------------------------------------------------------------


@pytest.fixture
def simulator() -> Iterator[SplitSimulator]:
    """Run a simulator."""
    with SplitSimulator(*rich_flags(20)) as running:
        yield running


def ask(
    server: SplitSimulator, *, key: str = "", unmet: tuple[str, ...] = (), **options: str
) -> FetchResult:
    """Fetch from a simulator."""
    credential = Secret(key or server.sdk_key)
    asked = Source("prod", "split", server.url + "/api", credential, options, allow_http=True)
    return PROVIDER.fetch(asked, HttpClient(HttpLimits(total_s=5)), "", unmet=unmet)


@pytest.mark.parametrize(
    ("server", "options", "error", "match"),
    [
        ({"sdk_key": "another"}, {}, errors.CredentialsRefusedError, r"401.*server-side.*/prod"),
        (
            {"client_side": True},
            {},
            errors.CredentialsRefusedError,
            r"403.*client-side.*tials/prod",
        ),
        (
            {"max_uri": 60},
            {"sets": ",".join("abcdefgh")},
            errors.EndpointNotFoundError,
            "414.*option sets.*sources/prod",
        ),
        (
            {"old_proxy": "refuses"},
            {},
            errors.EndpointNotFoundError,
            "Proxy.*'prod'.*400.*spec 1.3.*credentials/prod",
        ),
    ],
)
def test_refusals(
    simulator: SplitSimulator, server: Any, options: Any, error: Any, match: str
) -> None:
    """A refusal that an operator must fix names the parameter, and is not retried."""
    key = simulator.sdk_key
    for name, value in server.items():
        setattr(simulator, name, value)
    with pytest.raises(error, match=match) as refused:
        ask(simulator, key=key, **options)
    assert not refused.value.retryable
    assert key not in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("base_url", ["", "https://sdk.split.io/api"])
def test_bad_request_of_split_itself(base_url: str) -> None:
    """A 400 from Split's own address is not blamed on a proxy."""
    with pytest.raises(errors.EndpointNotFoundError, match="responded with 400: check base_url"):
        fetch(Canned(lambda *_: 400), base_url)


@pytest.mark.parametrize(("path", "named"), [("splitChanges", "flags"), ("", "segment 'beta'")])
def test_not_found(path: str, named: str) -> None:
    """An unknown key also gives a 404, so the message names both remedies."""
    page = in_beta({}).response
    client = Canned(lambda at, q: page(at, q) if at == "splitChanges" and not path else 404)
    with pytest.raises(errors.EndpointNotFoundError, match=f"{named}.*key.*/api.*ials/prod"):
        fetch(client)


# -- the simulator, and both together -------------------------------------------------------------


def test_page_size_does_not_matter(simulator: SplitSimulator) -> None:
    """Small pages make the same set, also after changes."""
    whole = ask(simulator).flag_set
    with SplitSimulator(*rich_flags(20), page_size=3) as paging:
        paged = ask(paging).flag_set
        assert len(paging.requests) > 25
        name = next(iter(paging.flags()))
        assert whole
        assert paged
        assert paged.sections == whole.sections
        paging.set_segment("beta-testers", remove=["user-0"], add=["user-1"])
        paging.set_rule_based("insiders", status="ARCHIVED")
        paging.remove_flag(name)
        later = ask(paging).flag_set
    assert later
    assert later.sections["flags"].keys() == whole.sections["flags"].keys() - {name}
    keys, before = (each.sections["segments"]["beta-testers"]["keys"] for each in (later, whole))
    assert set(keys) ^ set(before) == {"user-0", "user-1"}
    assert set(later.sections["rule_based_segments"]) == {"outsiders"}


def test_sync_bypasses_lagging_cdn(simulator: SplitSimulator) -> None:
    """The second attempt of a sync bypasses the CDN, so the change is published at once."""
    asked = Source(
        "prod", "split", simulator.url, Secret(simulator.sdk_key), rows=True, allow_http=True
    )
    records: dict[Key, Any] = {}

    def sync(*required: str) -> Any:
        deadline = Deadline(SystemClock(), random.Random(1), 30)
        pipeline = Sync(asked, PROVIDER, MemoryStore(records), http=HttpClient(), deadline=deadline)
        return pipeline.run([SyncRequest("prod", required, 1, "schedule")])

    assert sync().outcome == "published"
    assert sync().outcome == "unchanged"
    simulator.lag(requests=100)
    name = next(iter(simulator.flags()))
    number = simulator.set_flag(name, conditions=[rollout(on=1, off=99)])
    simulator.requests.clear()
    report = sync(f"change/{number}")
    assert (report.outcome, report.fetches, report.behind) == ("published", 2, False)
    assert report.changes.changed == (f"flags/{name}",)
    bypassing = [f"till={number}" in request.path for request in simulator.requests]
    assert bypassing[:2] == [False, False]
    assert any(bypassing)
    assert json.loads(records[Key("prod:flags", name)]["item"]) == simulator.flags()[name]
    assert Key("prod:rule_based_segments", "insiders") in records
    assert Key("prod:segments", "blocked") in records


# -- responses of Split's own tests ----------------------------------------------------------------


@needs_data
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"MATIAS_TEST", "TEST_MATIAS", "TEST_DOC", "TEST_RULO"}),
        ({"sets": "set_b"}, {"TEST_MATIAS"}),
        ({"sets": "set_a,set_c"}, {"MATIAS_TEST"}),
    ],
)
def test_responses_of_the_synchronizers_tests(options: dict[str, str], names: set[str]) -> None:
    """Archived flags and flags that left the sets are gone; segments are whole."""
    path = DATA / "split" / "sync-tools-responses.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))
    first, _, second, last = recorded["splitChanges"]
    by_since = {str(page["ff"]["s"]): page for page in (first, second, last)}
    pages = {(page["name"], str(page["since"])): page for page in recorded["segmentChanges"]}

    def response(path: str, query: dict[str, str]) -> Any:
        what, _, name = path.partition("/")
        return by_since[query["since"]] if what == "splitChanges" else pages[name, query["since"]]

    flag_set = fetch(Canned(response), **options)
    assert set(flag_set.sections["flags"]) == names
    assert set(flag_set.sections["rule_based_segments"]) == {"test_rule_based_segment"}
    assert flag_set.sections["segments"]["test_maldo"]["keys"] == ["doc", "rebo", "tony"]
    assert flag_set.revision == 1619720346272
