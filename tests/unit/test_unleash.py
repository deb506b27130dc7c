"""Unleash: the meaning of its webhooks, and valid documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulators.canned import Canned
from simulators.unleash import event
from simulators.unleash_flags import new_flag, new_segment
from storesync import errors
from storesync.model import FlagSet, Secret, Source, WebhookConfig, WebhookRequest
from storesync.providers.unleash import Unleash

PROVIDER = Unleash()
SECRET = Secret("sample-webhook-secret")


def webhook(method: str = "authorization", header: str = "", **options: str) -> WebhookConfig:
    """Build a webhook config."""
    return WebhookConfig("prod", "unleash", method, (SECRET,), header, options)


def request(body: Any, **options: str) -> tuple[str, ...] | None:
    """Return the revisions that a body requires."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return PROVIDER.webhook_event(WebhookRequest({}, raw), webhook(**options)).required


def webhook_event(kind: str, **fields: Any) -> dict[str, Any]:
    """Build an event of number 42."""
    base = {"created_at": "", "flag": "dark-mode", "project": "default", "environment": None}
    return event(42, kind, **{**base, **fields})


# -- verification -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "headers", "token"),
    [
        ("authorization", {"authorization": "sample-webhook-secret"}, ""),
        ("authorization", {"authorization": "Bearer sample-webhook-secret"}, ""),
        ("header", {"x-webhook-key": "sample-webhook-secret"}, ""),
        ("url", {}, "sample-webhook-secret"),
    ],
)
def test_configured_method_only(method: str, headers: dict[str, str], token: str) -> None:
    """The secret is accepted in the configured place, and in no other."""
    right = WebhookRequest(headers, b"{}", token)
    for configured in PROVIDER.methods:
        if configured == method:
            PROVIDER.verify(right, webhook(configured, "X-Webhook-Key"))
        else:
            with pytest.raises(errors.SignatureError):
                PROVIDER.verify(right, webhook(configured, "X-Webhook-Key"))


def test_secret_with_bearer() -> None:
    """A stored secret may be the header's whole value."""
    whole = WebhookConfig(
        "prod", "unleash", "authorization", (Secret("Bearer " + SECRET.reveal()),)
    )
    PROVIDER.verify(WebhookRequest({"authorization": "Bearer " + SECRET.reveal()}, b""), whole)
    with pytest.raises(errors.SignatureError):
        PROVIDER.verify(WebhookRequest({"authorization": SECRET.reveal()}, b""), whole)


# -- sync requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"text", b"\xff", [], None, 7, {"text": "x"}, {"id": "42"}, b"[" * 100_000]
)
def test_any_body_requests_a_sync(body: Any) -> None:
    """Operators write the body's template, so no field is required."""
    assert request(body, environment="production") == ()
    assert PROVIDER.webhook_event(WebhookRequest({}, b"text"), webhook()).delivery == ""


@pytest.mark.parametrize(
    ("environment", "requests"),
    [("production", True), ("development", False), (None, True), ("", True), (5, True)],
)
def test_other_environments(environment: Any, *, requests: bool) -> None:
    """Events of another environment are ignored; ones without an environment may concern us."""
    body = webhook_event("feature-strategy-update", environment=environment)
    assert (request(body, environment="production") is not None) is requests
    assert request(body) is not None


def test_unconfigured_environment() -> None:
    """Without our environment's name, the revision of some environment's event is not required."""
    assert request(webhook_event("feature-strategy-add", environment="production")) == ()


@pytest.mark.parametrize(
    ("kind", "flag", "revises"),
    [
        ("feature-created", "dark-mode", True),
        ("feature-environment-enabled", "dark-mode", True),
        ("feature-strategy-add", "dark-mode", True),
        ("feature-tagged", "dark-mode", True),
        ("feature-deleted", "dark-mode", True),
        ("strategy-order-changed", "dark-mode", True),
        ("segment-updated", None, True),
        ("features-imported", None, True),
        ("segment-created", None, False),
        ("segment-deleted", None, False),
        ("project-environment-added", None, False),
        ("feature-favorited", "dark-mode", False),
        ("feature-unfavorited", "dark-mode", False),
        ("feature-link-added", "dark-mode", False),
        ("change-request-applied", "dark-mode", False),
        ("change-added", "dark-mode", False),
        ("feature-created", "", False),
    ],
)
def test_events_with_a_revision(kind: str, flag: str | None, *, revises: bool) -> None:
    """Only a revision that the server makes is required."""
    expected = ("revision/42",) if revises else ()
    assert request(webhook_event(kind, flag=flag), environment="production") == expected
    assert request(webhook_event(kind, flag=flag)) == expected


@pytest.mark.parametrize("number", [None, True, -1, 1.0, "1", 2**53])
def test_invalid_revision(number: Any) -> None:
    """Only a number that Unleash could have counted is required."""
    assert request({**webhook_event("feature-created"), "id": number}) == ()


@pytest.mark.parametrize(
    ("required", "revision", "satisfied"),
    [
        ("revision/42", 42, True),
        ("revision/42", 43, True),
        ("revision/42", 41, False),
        ("revision/42", 0, True),
        ("revision/x", 1, True),
        ("flag/a@9", 1, True),
        ("", 1, True),
    ],
)
def test_satisfied(required: str, revision: int, *, satisfied: bool) -> None:
    """That revision or a later one; a set without one counts as reached."""
    assert PROVIDER.satisfied(required, revision, lambda _section, _key: None) is satisfied


# -- documents ----------------------------------------------------------------------------------


def fetch(document: Any, base_url: str = "http://unleash", **options: str) -> FlagSet:
    """Fetch a document."""
    source = Source("prod", "unleash", base_url, Secret("*:p.1"), options, allow_http=True)
    flag_set = PROVIDER.fetch(source, Canned(lambda *_: document), "").flag_set  # type: ignore[arg-type]
    assert flag_set is not None
    return flag_set


def document(**parts: Any) -> dict[str, Any]:
    """Build a small good document."""
    query = {"environment": "production", "inlineSegmentConstraints": False}
    meta = {"revisionId": 7, "etag": '"a1:7:v1"', "queryHash": "a1"}
    good = {"version": 2, "features": [], "query": query, "segments": [], "meta": meta}
    return good | parts


@pytest.mark.parametrize("path", ["", "/", "/api", "/api/", "/api/client/features"])
def test_request(path: str) -> None:
    """The base URL may be an SDK's, the browser's, or the whole address."""
    http = Canned(lambda *_: document())
    source = Source("prod", "unleash", f"http://unleash/x{path}", Secret("*:p.1"), allow_http=True)
    PROVIDER.fetch(source, http, '"a1:6:v1"')  # type: ignore[arg-type]
    assert http.urls == ["http://unleash/x/api/client/features"]
    assert http.headers == {
        "Authorization": "*:p.1",
        "If-None-Match": '"a1:6:v1"',
        "Unleash-Client-Spec": "5.2.0",
        "unleash-appname": "flagstore",
    }


def test_missing_base_url() -> None:
    """There is no sensible default."""
    with pytest.raises(errors.ConfigurationError, match="credentials/prod"):
        fetch(document(), "")


def test_context() -> None:
    """Readers find the source's app_name and environment next to the flags."""
    query = {"environment": "production"}
    given = {"app_name": "shop", "environment": "production"}
    flag_set = fetch(document(features=[new_flag("a")], query=query), **given)
    assert flag_set.meta["context"] == {"appName": "shop", "environment": "production"}
    assert "context" not in fetch(document(features=[new_flag("a")], query=query)).meta


def test_flag_set() -> None:
    """Items stay verbatim; fields that change with every event are omitted, except the revision."""
    flag = {**new_flag("a"), "future": {"x": 1}}
    flag["strategies"][0]["segments"] = [3]
    segment = new_segment(3)
    flag_set = fetch(document(features=[flag], segments=[segment]))
    assert flag_set.sections == {"flags": {"a": flag}, "segments": {"3": segment}}
    query = {"environment": "production", "inlineSegmentConstraints": False}
    assert flag_set.meta == {"version": 2, "query": query, "queryHash": "a1"}
    assert flag_set.revision == 7


@pytest.mark.parametrize("meta", [None, {}, {"revisionId": None}, {"revisionId": "7"}, [], -1])
def test_no_revision(meta: Any) -> None:
    """Unleash Edge may send no meta."""
    flag_set = fetch({"version": 2, "features": [], "segments": [], "meta": meta})
    assert (flag_set.revision, dict(flag_set.meta)) == (0, {"version": 2})


@pytest.mark.parametrize(
    "query", [{}, {"inlineSegmentConstraints": True}, {"environment": None}, {"environment": ""}]
)
@pytest.mark.parametrize("options", [{}, {"environment": "production"}])
def test_admin_token_is_refused(query: Any, options: dict[str, str]) -> None:
    """It is served the default environment's flags; the refusal names the remedy."""
    remedy = r"'prod'.*backend \(client\) token of the environment.*credentials/prod"
    with pytest.raises(errors.CredentialsRefusedError, match=remedy) as refused:
        fetch(document(features=[new_flag("a")], query=query), **options)
    assert not refused.value.retryable


def test_token_of_another_environment_is_refused() -> None:
    """The refusal names both environments."""
    assert fetch(document(), environment="production").revision == 7
    both = r"'production' instead of 'staging'.*credentials/prod"
    with pytest.raises(errors.CredentialsRefusedError, match=both):
        fetch(document(), environment="staging")


@pytest.mark.parametrize("query", [None, [], "production"])
def test_no_query(query: Any) -> None:
    """Unleash Edge may omit it, so there is nothing to compare."""
    parts = document(query=query)
    assert fetch(parts, environment="staging").revision == 7
    del parts["query"]
    assert fetch(parts, environment="staging").revision == 7


def test_no_segments() -> None:
    """An older server copies segments into strategies."""
    parts = document(features=[new_flag("a")])
    del parts["segments"]
    assert fetch(parts).sections["segments"] == {}


def strategies(*listed: Any) -> dict[str, Any]:
    """Build a document of one feature with these strategies."""
    return document(features=[{**new_flag("a"), "strategies": list(listed)}])


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (document(features={}), "features"),
        (document(features=[None]), "feature without 'name'"),
        *(
            (document(features=[{"name": name, "strategies": []}]), "feature without 'name'")
            for name in (None, "", 7, "\ud800")
        ),
        (document(features=[{"name": "a"}]), "'a' has no list of strategies"),
        (document(features=[new_flag("a"), new_flag("a")]), "'a' twice"),
        (document(segments=None), "segments"),
        (document(segments=[{"id": None, "constraints": []}]), "segment without 'id'"),
        (document(segments=[{"id": 1}]), "'1' has no list of constraints"),
        (document(segments=[new_segment(1), new_segment(1)]), "'1' twice"),
        (strategies(None), "'a' has a strategy that is not an object"),
        (
            strategies({"name": "default", "segments": "1"}),
            "'a' has a strategy without a list of segments",
        ),
        (strategies({"name": "default", "segments": [1]}), "'a' needs a segment"),
    ],
)
def test_malformed_documents(broken: Any, match: str) -> None:
    """The message names the missing field, and the feature if there is one."""
    with pytest.raises(errors.MalformedResponseError, match=match):
        fetch(broken)


@pytest.mark.parametrize(
    ("old", "new", "is_older"),
    [
        ((7, "a"), (6, "a"), True),
        ((7, "a"), (7, "a"), False),
        ((7, "a"), (8, "a"), False),
        ((7, "a"), (6, "b"), False),
        ((7, "a"), (0, "a"), False),
        ((0, "a"), (6, "a"), False),
        ((7, None), (6, None), True),
    ],
)
def test_is_older(old: Any, new: Any, *, is_older: bool) -> None:
    """Revisions are compared if both are of the same query."""

    def flag_set(revision: int, query: str | None) -> FlagSet:
        return FlagSet("unleash", {}, {"queryHash": query} if query else {}, revision)

    assert PROVIDER.is_older(flag_set(*old), flag_set(*new)) is is_older


def test_members() -> None:
    """Every value of every constraint counts, with its field."""
    segment = {
        "constraints": [
            {"contextName": "userId", "values": ["1", "2"]},
            {"contextName": "age", "values": [], "value": "18"},
            None,
            {"contextName": "x", "values": "odd"},
        ]
    }
    assert PROVIDER.members(segment) == {"userId=1", "userId=2", "age=18"}
    assert PROVIDER.members(None) == PROVIDER.members({"constraints": 1}) == frozenset()
