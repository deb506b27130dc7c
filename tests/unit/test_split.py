"""Split: webhooks, pages and segments, limits."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from data import needed
from simulators.canned import Canned
from simulators.split import event, new_flag
from simulators.split_flags import in_segment, matcher, new_rule_based, rollout, rule
from storesync import errors
from storesync.model import FlagSet, Secret, Source
from storesync.providers import split_api
from storesync.providers.split import Split

if TYPE_CHECKING:
    from collections.abc import Callable

PROVIDER = Split()
HERE = {"environment": "production"}


@pytest.mark.parametrize(
    ("fields", "options", "required"),
    [
        ({}, HERE, ("change/42",)),
        ({}, {}, ()),
        ({"environmentName": "Production"}, HERE, None),
        ({"environmentName": None}, HERE, ()),
        ({"environmentName": ""}, HERE, ()),
        ({"type": "segment"}, HERE, ()),
        *(({"changeNumber": number}, HERE, ()) for number in (None, True, -1, 0, "42", 2**53)),
    ],
)
def test_required_revision(fields: Any, options: Any, required: Any) -> None:
    """Only the number of a flag in our environment will be reached; other environments' are not."""
    flag = {**new_flag("dark-mode"), "changeNumber": 42}
    sent = {**event(flag, environment="production"), **fields}
    assert PROVIDER.webhook_event(sent, options).required == required


# -- fetching -----------------------------------------------------------------------------------


def source(**options: str) -> Source:
    return Source("prod", "split", "", Secret("an-sdk-key"), options)


def fetch(client: Canned, **options: str) -> FlagSet:
    response = PROVIDER.fetch(source(**options), client, "")  # type: ignore[arg-type]
    assert response.flag_set is not None
    return response.flag_set


def changes(ff: Any, rbs: Any = None) -> dict[str, Any]:
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
    return {**new_flag(name), **fields}


def using(*segments: str) -> dict[str, Any]:
    return changes([flag(conditions=[rule(*map(in_segment, segments), label="", on=100)])])


def test_requests() -> None:
    """Parameters come in the order of the SDKs, and no cache may respond."""
    uses = using("a/b ü")
    uses["ff"]["d"][0]["sets"] = ["two"]
    client = Canned(serving(uses))
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


@pytest.mark.parametrize("sets", ["a,", "_a", "a b", "ä", "a" * 51])
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
    assert (flag_set.meta, flag_set.revision) == ({"spec": "1.3"}, 7)


@pytest.mark.parametrize("rbs", [{}, {"rbs": None}, {"rbs": {"d": None, "s": -1, "t": -1}}])
def test_no_rule_based_segments(rbs: Any) -> None:
    """A server without any omits them, or sends null."""
    flag_set = fetch(Canned(serving({"ff": {"d": [new_flag("a")], "s": -1, "t": -1}, **rbs})))
    assert set(flag_set.sections["flags"]) == {"a"}
    assert flag_set.sections["rule_based_segments"] == {}
    assert flag_set.revision == 0


def test_pages() -> None:
    """Pages are read in order until neither list has anything newer; flags may leave the sets."""
    r = new_rule_based("r")
    flags = {
        "-1": [flag(name, sets=["x"]) for name in ("a", "b", "c", "d")],
        "10": [flag("a", sets=["y"]), flag("b", sets=["z"]), flag("c", status="ARCHIVED")],
        "12": [],
    }
    rule_based = {"-1": [r], "5": [{**r, "status": "ARCHIVED"}], "20": []}
    tills = {"-1": 10, "10": 12, "12": 12}, {"-1": 5, "5": 20, "20": 20}

    def response(_path: str, query: dict[str, str]) -> Any:
        since, rb_since = query["since"], query["rbSince"]
        return {
            "ff": {"d": flags[since], "s": int(since), "t": tills[0][since]},
            "rbs": {"d": rule_based[rb_since], "s": int(rb_since), "t": tills[1][rb_since]},
        }

    client = Canned(response)
    flag_set = fetch(client, sets="x,y")
    assert set(flag_set.sections["flags"]) == {"a", "d"}
    assert flag_set.sections["flags"]["a"]["sets"] == ["y"]
    assert flag_set.sections["rule_based_segments"] == {}
    assert flag_set.meta == {"spec": "1.3", "sets": ["x", "y"]}
    assert (flag_set.revision, len(client.urls)) == (12, 3)


def test_proxy_with_whole_sets() -> None:
    """A response with the requested change number is the last one."""
    client = Canned(lambda *_: {"ff": {"d": [new_flag("a")], "s": -1, "t": 9}})
    assert fetch(client).revision == 9
    assert len(client.urls) == 2


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        ({"splits": [], "since": 1, "till": 1}, "'ff'"),
        ({"ff": {"d": [], "s": 1}}, "'ff'"),
        ({"ff": {"d": {}, "s": 1, "t": 1}}, "'d' that is not a list"),
        ({"ff": {"d": [], "s": -2, "t": 1}}, "'s' or 't'"),
        ({"ff": {"d": [], "s": 1, "t": -1.0}}, "'s' or 't'"),
        (changes([], {"d": [], "s": 1}), "'rbs'"),
        (changes([flag("\ud800")]), "a flag without a name"),
        (changes([flag(status=None)]), "flag 'a' has no status"),
        (changes([flag(defaultTreatment=None)]), "flag 'a' has no defaultTreatment"),
        (changes([flag(conditions=None)]), "flag 'a' has no list of conditions"),
        (changes([flag(conditions=[{"matcherGroup": {"matchers": [1]}}])]), "'a' has no list"),
        (using(""), "flag 'a' refers to a segment without a name"),
        (using("\ud800"), "flag 'a' refers to a segment without a name"),
        (changes([], [{"name": "r", "status": "ACTIVE", "conditions": 1}]), "rule-based .* 'r'"),
        (changes([], [{**new_rule_based("r"), "excluded": []}]), "excluded segments"),
        (changes([], [{**new_rule_based("r"), "excluded": {"segments": ["s"]}}]), "excluded seg"),
    ],
)
def test_malformed_documents(broken: Any, match: str) -> None:
    """The message names the missing field, and the item if there is one."""
    with pytest.raises(errors.MalformedResponseError, match=match):
        fetch(Canned(serving(broken)))


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
    bare: Any = {"name": "bare", "status": "ACTIVE", "conditions": None, "excluded": {"keys": []}}
    client = Canned(serving(changes([uses, archived], [people, bare])))
    segments = fetch(client).sections["segments"]
    assert list(segments) == ["one", "three", "two", "x-standard"]
    assert all(segment == {"name": name, "keys": []} for name, segment in segments.items())


def in_beta(pages: dict[str, Any], **limits: Any) -> Canned:
    """Serve a flag that refers to the segment ``beta``, and its pages by ``since``."""

    def response(path: str, query: dict[str, str]) -> Any:
        if path == "splitChanges":
            return using("beta")
        return {"name": "beta", **pages[query["since"]]}

    return Canned(response, **limits)


def test_segment_pages() -> None:
    """Later removals and additions apply in order; null is an empty list; numbers are dropped."""
    pages = {
        "-1": {"added": ["c", "b", "a"], "removed": [], "since": -1, "till": 5},
        "5": {"added": ["d", "c"], "removed": ["a", "b"], "since": 5, "till": 8},
        "8": {"added": ["a"], "removed": None, "since": 8, "till": 9},
        "9": {"added": None, "since": 9, "till": 9},
    }
    segments = fetch(in_beta(pages)).sections["segments"]
    assert segments == {"beta": {"name": "beta", "keys": ["a", "c", "d"]}}


@pytest.mark.parametrize(
    "page",
    [
        {"name": "gamma", "added": [], "since": 1, "till": 1},
        {"added": {}, "since": 1, "till": 1},
        {"added": [], "removed": {}, "since": 1, "till": 1},
        {"added": ["\ud800"], "since": 1, "till": 1},
        {"added": [], "removed": [None], "since": 1, "till": 1},
        {"added": [], "since": 1, "till": "1"},
    ],
)
def test_malformed_segments(page: dict[str, Any]) -> None:
    """Half a segment never becomes one."""
    with pytest.raises(errors.MalformedResponseError, match="Split"):
        fetch(in_beta({"-1": page}))


@pytest.mark.parametrize("failing", ["", "s003"])
def test_segments_are_fetched_in_parallel(failing: str) -> None:
    """A bounded number of requests is in flight, and the first that fails ends the fetch."""
    names = [f"s{number:03d}" for number in range(100)]
    page, workers = serving(using(*names)), set()

    def response(path: str, query: dict[str, str]) -> Any:
        workers.add(threading.get_ident())
        time.sleep(0.005)
        return 503 if failing and path.endswith(failing) else page(path, query)

    client = Canned(response)
    if failing:
        with pytest.raises(errors.ProviderUnavailableError, match="503"):
            fetch(client)
        assert len(client.urls) < 40
    else:
        assert list(fetch(client).sections["segments"]) == names
        assert 2 < len(workers) <= 1 + split_api.THREADS


# -- ends ---------------------------------------------------------------------------------------


def endless(path: str, query: dict[str, str]) -> Any:
    """Respond with something newer each time."""
    since = int(query["since"])
    if path == "splitChanges":
        return {"ff": {"d": [], "s": since, "t": since + 1}}
    return {"name": "beta", "added": [f"k{since}"], "since": since, "till": since + 1}


def slowly(path: str, query: dict[str, str]) -> Any:
    """Do so at a pace that leaves the deadline behind."""
    time.sleep(0.02)
    return endless(path, query)


def test_pages_that_do_not_end() -> None:
    """Neither flags nor a segment are read without a limit, nor beyond the deadline, nor in a loop.

    Change numbers rise; following a lower one could loop.
    """
    client = Canned(endless)
    with pytest.raises(errors.ProviderUnavailableError, match="more of its flags"):
        fetch(client)
    assert len(client.urls) == split_api.MAX_PAGES
    uses = using("beta")
    client = Canned(lambda path, query: uses if path == "splitChanges" else endless(path, query))
    with pytest.raises(errors.ProviderUnavailableError, match="more of its segment 'beta'"):
        fetch(client)
    with pytest.raises(errors.ProviderUnavailableError, match=r"within 0\.3 s"):
        fetch(Canned(slowly, total_s=0.3))
    pages = {"-1": {"d": [], "s": -1, "t": 10}, "10": {"d": [], "s": 10, "t": 9}}
    with pytest.raises(errors.MalformedResponseError, match="not a later change number"):
        fetch(Canned(lambda _path, query: {"ff": pages[query["since"]]}))


@pytest.mark.parametrize(
    ("limit", "value", "unit"), [("MAX_KEYS", 2, "keys"), ("MAX_SEGMENT_BYTES", 100, "bytes")]
)
def test_too_large(monkeypatch: pytest.MonkeyPatch, limit: str, value: int, unit: str) -> None:
    """The message has the limit and the remedy, and no retry follows."""
    monkeypatch.setattr(split_api, limit, value)
    pages = {"-1": {"added": ["a", "b", "b"], "removed": [], "since": 1, "till": 1}}
    assert fetch(in_beta(pages)).sections["segments"]["beta"]["keys"] == ["a", "b"]
    pages["-1"]["added"] = ["a", "b", "c" * 100]
    remedy = rf"'prod'.*more than {value} {unit}.*limit.*sets.*sources/prod"
    with pytest.raises(errors.EndpointNotFoundError, match=remedy) as refused:
        fetch(in_beta(pages))
    assert not refused.value.retryable
    with pytest.raises(errors.MalformedResponseError, match="larger than 500 bytes"):
        fetch(Canned(endless, max_body_bytes=500))


@pytest.mark.parametrize(
    ("path", "status", "error", "match"),
    [
        ("", 403, errors.CredentialsRefusedError, r"403.*client-side.*credentials/prod"),
        ("", 404, errors.EndpointNotFoundError, r"segment 'beta'.*key.*/api.*credentials/prod"),
        ("splitChanges", 404, errors.EndpointNotFoundError, r"for flags.*key.*credentials/prod"),
    ],
)
def test_refusals(path: str, status: int, error: Any, match: str) -> None:
    """A refusal that an operator must fix names the parameter, and is not retried."""
    uses = using("beta")
    client = Canned(lambda at, _query: uses if at == "splitChanges" and not path else status)
    with pytest.raises(error, match=match) as refused:
        fetch(client)
    assert not refused.value.retryable
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"MATIAS_TEST", "TEST_MATIAS", "TEST_DOC", "TEST_RULO"}),
        ({"sets": "set_b"}, {"TEST_MATIAS"}),
    ],
)
def test_responses_of_the_synchronizers_tests(options: dict[str, str], names: set[str]) -> None:
    """Archived flags and flags that left the sets are gone; segments are whole."""
    recorded = json.loads(needed("split/sync-tools-responses.json").read_text(encoding="utf-8"))
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
