"""LaunchDarkly: the meaning of its webhooks, and valid documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulators.canned import Canned
from simulators.launchdarkly import audit_entry
from simulators.launchdarkly_flags import new_flag, new_segment
from storesync import errors
from storesync.model import FlagSet, Secret, Source
from storesync.providers.base import json_object
from storesync.providers.launchdarkly import LaunchDarkly

PROVIDER = LaunchDarkly()
OURS = {"project": "shop", "environment": "production"}
HERE = "proj/shop:env/production"


def required_by(body: Any, **options: str) -> tuple[str, ...] | None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return PROVIDER.webhook_event(json_object(raw), options).required


def touching(*resources: Any, kind: Any = "flag", action: str = "updateOn") -> dict[str, Any]:
    accesses = [{"action": action, "resource": resource} for resource in resources]
    return {"kind": kind, "accesses": accesses, "target": {"resources": list(resources)}}


def changed() -> dict[str, Any]:
    after = {**new_flag("dark-mode"), "version": 8}
    return audit_entry("flag", "dark-mode", "updateOn", after=after)


@pytest.mark.parametrize(
    ("resource", "requests"),
    [
        (f"{HERE}:flag/dark-mode", True),
        (f"{HERE}:segment/beta", True),
        ("proj/shop;web,team-a:env/production;live;{critical:true}:flag/dark-mode;ui", True),
        ("proj/*:env/*:flag/*", True),
        ("*", True),
        (HERE, True),
        ("proj/shop", True),
        ("proj/shop:aiconfig/chat", True),
        (f"{HERE}:something-new/x", True),
        ("proj/shop:env/test:flag/dark-mode", False),
        ("proj/other:env/production:flag/dark-mode", False),
        ("proj/shop:env/production2:flag/dark-mode", False),
        ("proj/other", False),
        (f"{HERE}:destination/warehouse", False),
        ("member/someone", False),
    ],
)
def test_touched_resources(resource: str, *, requests: bool) -> None:
    """An entry requests a sync if it touches our flags, segments, environment or project."""
    entry = touching("member/someone", resource)
    assert (required_by(entry, **OURS) is not None) is requests
    del entry["accesses"]  # an entry about all environments lists each as a target
    assert (required_by(entry, **OURS) is not None) is requests


@pytest.mark.parametrize("options", [{}, {"project": "shop"}, {"environment": "production"}])
def test_webhook_without_options(options: dict[str, str]) -> None:
    """Without a project or environment, entries of all of them request a sync."""
    assert required_by(touching(f"{HERE}:flag/dark-mode"), **options) == ()
    assert required_by(touching("proj/shop:metric/clicks", kind="metric"), **options) is None


@pytest.mark.parametrize(
    ("body", "required"),
    [
        *((body, ()) for body in (b"", b"\xff", b"[" * 100_000, [], {"kind": 5})),
        ({"kind": "segment", "accesses": "all", "target": 3}, ()),
        ({"kind": "flag", "accesses": [None, {"resource": 5}], "target": {"resources": 1}}, ()),
        (touching("nonsense", "", "::", "/", ";;"), ()),
        ({"kind": "something-new"}, ()),
        ({"kind": "metric"}, None),
    ],
)
def test_unexpected_body_requests_a_sync(body: Any, required: Any) -> None:
    """A check costs little, and missing a change would not. AI Configs are evaluated as flags."""
    assert required_by(body, **OURS) == required


@pytest.mark.parametrize(
    ("options", "required"),
    [
        ({"environment": "production"}, ("flag/dark-mode@8",)),
        ({"project": "shop"}, ()),
        (OURS | {"filter": "mobile"}, ()),
    ],
)
def test_required_version(options: dict[str, str], required: tuple[str, ...]) -> None:
    """Versions count per environment, and a payload filter may hide the flag for good."""
    assert options.keys() <= {*PROVIDER.webhook_options}
    assert required_by(changed(), **options) == required


def test_archived_or_deleted_flag_must_be_gone() -> None:
    """Neither is served; a deletion has no version, but the key is in its resources."""
    everywhere, here = changed(), changed()
    everywhere["currentVersion"]["archived"] = True
    here["currentVersion"]["environments"]["production"]["archived"] = True
    deleted = touching(f"{HERE}:flag/dark-mode", action="deleteFlag")
    for entry in (everywhere, here, deleted):
        assert required_by(entry, **OURS) == ("gone/dark-mode",)
        assert required_by(entry) == ()
    many = [f"{HERE}:flag/{number}" for number in range(11)]
    assert required_by(touching(*many, action="deleteFlag"), **OURS) == ()  # too large a message


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "segment"},
        {"currentVersion": []},
        {"currentVersion": {"environments": [1]}},
        {"currentVersion": {"environments": {"production": 1}}},
        *(
            {"currentVersion": {"environments": {"production": {"version": version}}}}
            for version in (None, "8", True, -1)
        ),
        touching(f"{HERE}:flag/a", f"{HERE}:flag/b"),
        touching(f"{HERE}:flag/*"),
        touching(f"{HERE}:flag/" + "k" * 300),
    ],
)
def test_entry_without_version(fields: Any) -> None:
    """A revision is helpful, never required."""
    assert required_by(changed() | fields, **OURS) == ()


@pytest.mark.parametrize(
    ("required", "satisfied"),
    [("flag/x@y/z@7", True), ("flag/x@y/z@8", False), ("flag/b@1", False), ("gone/b", True)],
)
def test_satisfied(required: str, *, satisfied: bool) -> None:
    """Keys may hold the notation's own characters; a missing flag has no version."""
    flags = {"x@y/z": {"version": 7}}
    assert PROVIDER.satisfied(required, 0, lambda s, k: {"flags": flags}[s].get(k)) is satisfied


def fetch(document: Any, base_url: str = "", **options: str) -> tuple[FlagSet, str]:
    """Fetch a document; return the set and the address it was asked from."""
    http: Any = Canned(lambda *_: document)
    source = Source("prod", "launchdarkly", base_url, Secret("sdk-1"), options)
    flag_set = PROVIDER.fetch(source, http, "").flag_set
    assert flag_set is not None
    return flag_set, http.urls[0]


@pytest.mark.parametrize(
    ("base_url", "options", "url"),
    [
        ("", {}, "https://sdk.launchdarkly.com/sdk/latest-all"),
        ("https://h/a/ ", {"filter": "x y&z"}, "https://h/a/sdk/latest-all?filter=x+y%26z"),
    ],
)
def test_url(base_url: str, options: dict[str, str], url: str) -> None:
    """The base URL is LaunchDarkly's unless configured, and the filter is escaped."""
    assert fetch({"flags": {}, "segments": {}}, base_url, **options)[1] == url


@pytest.mark.parametrize("base_url", ["https://h/?a=b", "https://h/#x", "https://h /"])
def test_invalid_base_url(base_url: str) -> None:
    """A base URL with a query would send requests elsewhere than it seems."""
    with pytest.raises(errors.ConfigurationError, match="'prod'"):
        fetch({}, base_url)


def test_flag_set() -> None:
    """Items stay verbatim, and deleted ones are left out."""
    flag = {**new_flag("a"), "some-day": {"new": [1]}}
    gone = {"key": "b", "version": 3, "deleted": True}
    segment = new_segment("s")
    document = {"flags": {"a": flag, "b": gone}, "segments": {"s": segment}, "configs": {}}
    assert fetch(document)[0] == FlagSet(
        "launchdarkly", {"flags": {"a": flag}, "segments": {"s": segment}}
    )


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ([], "'flags'"),
        ({"a": {"key": "b", "version": 1}}, "'a'"),
        ({"": {"key": "", "version": 1}}, "''"),
        ({"\ud800": {"key": "\ud800", "version": 1}}, "item"),
        *(
            ({"a": {"key": "a", "version": version}}, "'a' has no version")
            for version in ("1", True, 1.0)
        ),
    ],
)
def test_malformed_documents(flags: Any, match: str) -> None:
    """The message names the section, and the item if there is one."""
    with pytest.raises(errors.MalformedResponseError, match=match):
        fetch({"flags": flags, "segments": {}})


@pytest.mark.parametrize(
    ("old", "new", "is_older"),
    [
        ({"a": 1, "b": 9}, {"a": 5, "b": 8}, True),
        ({"a": 2}, {}, False),
        ({}, {"a": 1}, False),
    ],
)
def test_is_older(old: Any, new: Any, *, is_older: bool) -> None:
    """Any item with a lower version shows an older state; a removed or recreated one does not."""

    def flag_set(versions: dict[str, int], salt: str = "") -> FlagSet:
        return FlagSet(
            "launchdarkly",
            {"segments": {key: {"version": v, "salt": salt} for key, v in versions.items()}},
        )

    assert PROVIDER.is_older(flag_set(old), flag_set(new)) is is_older
    assert not PROVIDER.is_older(flag_set(old), flag_set(new, "another"))


def test_members() -> None:
    """Everyone listed counts, by kind, and separately for in and out."""
    segment = {
        "included": ["ann"],
        "excluded": ["bob", 7],
        "includedContexts": [{"contextKind": "org", "values": ["x"]}, {"values": ["y"]}, None],
        "excludedContexts": [{"contextKind": "org", "values": ["z"]}],
    }
    expected = {"+user:ann", "-user:bob", "-user:7", "+org:x", "+user:y", "-org:z"}
    assert PROVIDER.members(segment) == expected
