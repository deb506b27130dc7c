"""LaunchDarkly: the meaning of its webhooks, and valid documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulators.canned import Canned
from simulators.launchdarkly import audit_entry, sign
from simulators.launchdarkly_flags import new_flag, new_segment
from storesync import errors
from storesync.model import FlagSet, Secret, Source, WebhookConfig, WebhookRequest
from storesync.providers.launchdarkly import LaunchDarkly

PROVIDER = LaunchDarkly()
SECRET = Secret("sample-webhook-secret")
OURS = {"project": "shop", "environment": "production"}
HERE = "proj/shop:env/production"


def request(body: Any, **headers: str) -> WebhookRequest:
    """Build a signed request."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WebhookRequest({"x-ld-signature": sign(raw, SECRET.reveal()), **headers}, raw)


def webhook(method: str = "signature", **options: str) -> WebhookConfig:
    """Build a webhook config with these options."""
    return WebhookConfig("prod", "launchdarkly", method, (SECRET,), options=options)


def sync_request(body: Any, **options: str) -> tuple[str, ...] | None:
    """Return the revisions that a body requires."""
    return PROVIDER.webhook_event(request(body), webhook(**options)).required


def touching(*resources: Any, kind: Any = "flag", action: str = "updateOn") -> dict[str, Any]:
    """Build an entry that touches these resources."""
    accesses = [{"action": action, "resource": resource} for resource in resources]
    return {"kind": kind, "accesses": accesses, "target": {"resources": list(resources)}}


def changed(**version: Any) -> dict[str, Any]:
    """Build the entry of a flag's change."""
    after = {**new_flag("dark-mode"), "version": 8, **version}
    return audit_entry(
        "flag",
        "dark-mode",
        "updateOn",
        number=1,
        date_ms=1,
        project="shop",
        environment="production",
        after=after,
    )


# -- verification -------------------------------------------------------------------------------


def test_missing_signature() -> None:
    """The message names the setting to select in LaunchDarkly."""
    with pytest.raises(errors.SignatureError, match="Sign this webhook"):
        PROVIDER.verify(WebhookRequest({}, b"{}"), webhook())


# -- sync requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "requests"),
    [
        (f"{HERE}:flag/dark-mode", True),
        (f"{HERE}:segment/beta", True),
        ("proj/shop;web,team-a:env/production;live:flag/dark-mode;ui", True),
        ("proj/shop:env/production;{critical:true}:flag/dark-mode", True),
        ("proj/shop:env/production;live;{critical:true}:segment/beta", True),
        ("proj/*:env/*:flag/*", True),
        ("proj/shop:env/*:flag/dark-mode", True),
        ("*", True),
        (HERE, True),
        (f"{HERE}:aiconfig/chat", True),
        ("proj/shop:aiconfig/chat", True),
        (f"{HERE}:something-new/x", True),
        ("proj/shop:env/test:aiconfig/chat", False),
        ("proj/other:aiconfig/chat", False),
        ("proj/shop", True),
        ("proj/shop:env/test:flag/dark-mode", False),
        ("proj/other:env/production:flag/dark-mode", False),
        ("proj/shop:env/production2:flag/dark-mode", False),
        ("proj/shop:env/test", False),
        ("proj/other", False),
        (f"{HERE}:destination/warehouse", False),
        ("proj/shop:metric/clicks", False),
        ("webhook/*", False),
        ("member/someone", False),
    ],
)
def test_touched_resources(resource: str, *, requests: bool) -> None:
    """An entry requests a sync if it touches our flags, segments, environment or project."""
    assert (sync_request(touching(resource), **OURS) is not None) is requests


def test_entry_of_several_environments() -> None:
    """An entry about all environments lists each; one that matches is sufficient."""
    entry = touching("proj/shop:env/test:flag/dark-mode", f"{HERE}:flag/dark-mode")
    assert sync_request(entry, **OURS) == ()
    del entry["accesses"]
    assert sync_request(entry, **OURS) == ()


@pytest.mark.parametrize("options", [{}, {"project": "shop"}, {"environment": "production"}])
def test_webhook_without_options(options: dict[str, str]) -> None:
    """Without a project or environment, entries of all of them request a sync."""
    assert sync_request(touching(f"{HERE}:flag/dark-mode"), **options) == ()
    assert sync_request(touching("proj/shop:metric/clicks", kind="metric"), **options) is None


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"not json", b"\xff", b"[" * 100_000, [], None, {}, {"kind": 5}),
        {"kind": "segment", "accesses": "all", "target": 3},
        {"kind": "environment", "accesses": [None, {"resource": 5}], "target": {"resources": 1}},
        touching("nonsense"),
        touching("", "::", "/", ";;"),
    ],
)
def test_unexpected_body_requests_a_sync(body: Any) -> None:
    """A signed body is authentic: a check costs little, and missing a change would not."""
    assert sync_request(body, **OURS) == ()


@pytest.mark.parametrize(
    ("kind", "required"),
    [("ai-config", ()), ("something-new", ()), *((kind, None) for kind in ("webhook", "metric"))],
)
def test_kinds(kind: str, required: tuple[str, ...] | None) -> None:
    """Unknown kinds may be evaluated as flags, as AI Configs are; known others are not."""
    assert sync_request({"kind": kind}, **OURS) == required


# -- revisions to reach -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "required"),
    [
        (OURS, ("flag/dark-mode@8",)),
        ({"environment": "production"}, ("flag/dark-mode@8",)),
        ({}, ()),
        ({"project": "shop"}, ()),
        (OURS | {"filter": "mobile"}, ()),
    ],
)
def test_required_version(options: dict[str, str], required: tuple[str, ...]) -> None:
    """Versions count per environment, and a payload filter may hide the flag for good."""
    assert sync_request(changed(), **options) == required


def archived(where: str) -> dict[str, Any]:
    """Build the entry of a flag that one of two fields marks as archived."""
    entry = changed()
    current = entry["currentVersion"]
    target = current if where == "flag" else current["environments"]["production"]
    target["archived"] = True
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        archived("flag"),
        archived("environment"),
        touching(f"{HERE}:flag/dark-mode", action="deleteFlag"),
    ],
)
def test_archived_or_deleted_flag_must_be_gone(entry: dict[str, Any]) -> None:
    """Neither is served; a deletion has no version, but the key is in its resources."""
    assert sync_request(entry, **OURS) == ("gone/dark-mode",)
    assert sync_request(entry) == ()


def test_mass_deletion_requires_no_revisions() -> None:
    """A sync request must fit into a message."""
    resources = [f"{HERE}:flag/{number}" for number in range(11)]
    assert sync_request(touching(*resources, action="deleteFlag"), **OURS) == ()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda entry: entry.pop("currentVersion"),
        lambda entry: entry.update(currentVersion=[]),
        lambda entry: entry["currentVersion"].pop("environments"),
        lambda entry: entry["currentVersion"].update(environments=[1]),
        lambda entry: entry["currentVersion"].update(environments={"production": 1}),
        lambda entry: entry["currentVersion"]["environments"]["production"].pop("version"),
        lambda entry: entry["currentVersion"]["environments"]["production"].update(version="8"),
        lambda entry: entry["currentVersion"]["environments"]["production"].update(version=True),
        lambda entry: entry["currentVersion"]["environments"]["production"].update(version=-1),
        lambda entry: entry.update(kind="segment"),
        lambda entry: entry.update(touching(f"{HERE}:flag/a", f"{HERE}:flag/b")),
        lambda entry: entry.update(touching(f"{HERE}:flag/*")),
        lambda entry: entry.update(touching(f"{HERE}:flag/" + "k" * 300)),
    ],
)
def test_entry_without_version(break_it: Any) -> None:
    """A revision is helpful, never required."""
    entry = changed()
    break_it(entry)
    assert sync_request(entry, **OURS) == ()


@pytest.mark.parametrize(
    ("required", "satisfied"),
    [
        ("flag/a@7", True),
        ("flag/a@6", True),
        ("flag/a@8", False),
        ("flag/b@1", False),
        ("flag/x@y/z@7", True),
        ("flag/x@y/z@8", False),
        ("gone/a", False),
        ("gone/b", True),
        ("flag/a", True),
        ("flag/a@", True),
        ("flag/a@²", True),
        ("", True),
        ("revision/9", True),
    ],
)
def test_satisfied(required: str, *, satisfied: bool) -> None:
    """That version or a later one, or gone; an unknown notation counts as reached."""
    flags = {"a": {"version": 7}, "x@y/z": {"version": 7}}
    assert PROVIDER.satisfied(required, 0, lambda s, k: {"flags": flags}[s].get(k)) is satisfied


# -- documents ----------------------------------------------------------------------------------


def fetch(document: Any, base_url: str = "", **options: str) -> tuple[FlagSet, str]:
    """Fetch a document; return the set and the address it was asked from."""
    http = Canned(lambda *_: document)
    source = Source("prod", "launchdarkly", base_url, Secret("sdk-1"), options)
    flag_set = PROVIDER.fetch(source, http, "").flag_set  # type: ignore[arg-type]
    assert flag_set is not None
    return flag_set, http.urls[0]


@pytest.mark.parametrize(
    ("base_url", "options", "url"),
    [
        ("", {}, "https://sdk.launchdarkly.com/sdk/latest-all"),
        ("https://sdk.example.com/", {"filter": ""}, "https://sdk.example.com/sdk/latest-all"),
        ("https://h/a", {"filter": "x y&z"}, "https://h/a/sdk/latest-all?filter=x+y%26z"),
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
    flag_set, _ = fetch(document)
    assert flag_set.sections == {"flags": {"a": flag}, "segments": {"s": segment}}
    assert (flag_set.meta, flag_set.revision) == ({}, 0)


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ({"flags": {}}, "'segments'"),
        ({"flags": [], "segments": {}}, "'flags'"),
        *(
            ({"flags": {key: item}, "segments": {}}, match)
            for key, item, match in (
                ("a", None, "'a'"),
                ("a", {"key": "b", "version": 1}, "'a'"),
                ("", {"key": "", "version": 1}, "''"),
                ("\ud800", {"key": "\ud800", "version": 1}, "item"),
                *(
                    ("a", {"key": "a", "version": version}, "'a' has no version")
                    for version in (None, "1", True, 1.0)
                ),
            )
        ),
    ],
)
def test_malformed_documents(document: Any, match: str) -> None:
    """The message names the section, and the item if there is one."""
    with pytest.raises(errors.MalformedResponseError, match=match):
        fetch(document)


@pytest.mark.parametrize(
    ("old", "new", "is_older"),
    [
        ({"flags": {"a": 2}}, {"flags": {"a": 1}}, True),
        ({"flags": {"a": 2}}, {"flags": {"a": 2}}, False),
        ({"flags": {"a": 2}}, {"flags": {}}, False),
        ({"flags": {}}, {"flags": {"a": 1}}, False),
        ({"flags": {"a": 1, "b": 9}}, {"flags": {"a": 5, "b": 8}}, True),
        ({"flags": {}, "segments": {"s": 2}}, {"flags": {}, "segments": {"s": 1}}, True),
    ],
)
def test_is_older(old: Any, new: Any, *, is_older: bool) -> None:
    """Any item with a lower version shows an older state; removed ones show nothing."""

    def flag_set(versions: dict[str, dict[str, int]]) -> FlagSet:
        sections = {
            name: {key: {"version": version} for key, version in items.items()}
            for name, items in versions.items()
        }
        return FlagSet("launchdarkly", sections)

    assert PROVIDER.is_older(flag_set(old), flag_set(new)) is is_older


def test_members() -> None:
    """Everyone listed counts, by kind, and separately for in and out."""
    segment = {
        **new_segment("s"),
        "included": ["ann"],
        "excluded": ["bob", 7],
        "includedContexts": [{"contextKind": "org", "values": ["x"]}, {"values": ["y"]}, None],
        "excludedContexts": [{"contextKind": "org", "values": ["z"]}],
    }
    expected = {"+user:ann", "-user:bob", "-user:7", "+org:x", "+user:y", "-org:z"}
    assert PROVIDER.members(segment) == expected
    assert PROVIDER.members(None) == PROVIDER.members({"included": 5}) == frozenset()
