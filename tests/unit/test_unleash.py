"""Unleash: the meaning of its webhooks, valid documents, and the document built from a snapshot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.encode import unleash_document
from flagstore.errors import ConfigurationError
from simulators.canned import Canned
from simulators.reader_rig import Rig
from simulators.unleash import event
from simulators.unleash_flags import new_flag, new_segment
from storesync import errors
from storesync.model import FlagSet, Secret, Source, WebhookConfig, WebhookRequest
from storesync.providers.base import json_object
from storesync.providers.unleash import Unleash

if TYPE_CHECKING:
    from flagstore.snapshot import Snapshot

PROVIDER = Unleash()
SECRET = "sample-webhook-secret"
HERE = {"environment": "production"}
QUERY = {"environment": "production", "inlineSegmentConstraints": False}


@pytest.mark.parametrize(
    ("method", "headers", "token"),
    [
        ("authorization", {"authorization": SECRET}, ""),
        ("authorization", {"authorization": f"Bearer {SECRET}"}, ""),
        ("header", {"x-webhook-key": SECRET}, ""),
        ("url", {}, SECRET),
    ],
)
def test_configured_method_only(method: str, headers: dict[str, str], token: str) -> None:
    request = WebhookRequest(headers, b"{}", token)
    for configured in PROVIDER.methods:
        webhook = WebhookConfig("prod", "unleash", configured, (Secret(SECRET),), "X-Webhook-Key")
        if configured == method:
            PROVIDER.verify(request, webhook)
        else:
            with pytest.raises(errors.SignatureError):
                PROVIDER.verify(request, webhook)


def test_secret_with_bearer() -> None:
    """A stored secret may be the header's whole value."""
    whole = WebhookConfig("prod", "unleash", "authorization", (Secret(f"Bearer {SECRET}"),))
    PROVIDER.verify(WebhookRequest({"authorization": f"Bearer {SECRET}"}, b""), whole)
    with pytest.raises(errors.SignatureError):
        PROVIDER.verify(WebhookRequest({"authorization": SECRET}, b""), whole)


def required_by(body: Any, **options: str) -> tuple[str, ...] | None:
    return PROVIDER.webhook_event(json_object(json.dumps(body).encode()), options).required


@pytest.mark.parametrize(
    ("environment", "options", "required"),
    [
        ("production", HERE, ("revision/42",)),
        (None, HERE, ("revision/42",)),
        ("", HERE, ()),
        (5, HERE, ()),
        ("development", HERE, None),
        ("production", {}, ()),
    ],
)
def test_other_environments(environment: Any, options: Any, required: Any) -> None:
    """Events of another environment are ignored, and their revisions are not waited for."""
    body = event(42, "feature-strategy-update", flag="dark-mode", environment=environment)
    assert required_by(body, **options) == required


@pytest.mark.parametrize(
    ("kind", "flag", "revises"),
    [
        ("feature-created", "dark-mode", True),
        ("feature-environment-enabled", "dark-mode", True),
        ("segment-updated", None, True),
        ("features-imported", None, True),
        ("segment-created", None, False),
        ("project-environment-added", None, False),
        ("feature-favorited", "dark-mode", False),
        ("feature-link-added", "dark-mode", False),
        ("change-request-applied", "dark-mode", False),
        ("change-added", "dark-mode", False),
        ("feature-created", "", False),
    ],
)
def test_events_with_a_revision(kind: str, flag: str | None, *, revises: bool) -> None:
    """Only a revision that the server makes is required."""
    expected = ("revision/42",) if revises else ()
    assert required_by(event(42, kind, flag=flag), **HERE) == expected


@pytest.mark.parametrize("number", [None, True, -1, 1.0, "1", 2**53])
def test_invalid_revision(number: Any) -> None:
    """Only a number that Unleash could have counted is required."""
    assert required_by({**event(42, "feature-created", flag="dark-mode"), "id": number}) == ()


def fetch(document: Any, base_url: str = "http://unleash", **options: str) -> FlagSet:
    source = Source("prod", "unleash", base_url, Secret("*:p.1"), options, allow_http=True)
    http: Any = Canned(lambda *_: document)
    flag_set = PROVIDER.fetch(source, http, "").flag_set
    assert flag_set is not None
    return flag_set


def document(**parts: Any) -> dict[str, Any]:
    meta = {"revisionId": 7, "etag": '"a1:7:v1"', "queryHash": "a1"}
    return {"version": 2, "features": [], "query": QUERY, "segments": [], "meta": meta} | parts


@pytest.mark.parametrize("path", ["", "/", "/api", "/api/"])
def test_request(path: str) -> None:
    """The base URL may be an SDK's or the browser's."""
    http: Any = Canned(lambda *_: document())
    source = Source("prod", "unleash", f"http://unleash/x{path}", Secret("*:p.1"), allow_http=True)
    PROVIDER.fetch(source, http, '"a1:6:v1"')
    assert http.urls == ["http://unleash/x/api/client/features"]
    assert http.headers == {
        "Authorization": "*:p.1",
        "If-None-Match": '"a1:6:v1"',
        "Unleash-Client-Spec": "5.2.0",
        "unleash-appname": "flagstore",
    }
    with pytest.raises(errors.ConfigurationError, match="credentials/prod"):
        fetch(document(), "")  # there is no sensible default


def test_flag_set() -> None:
    """Items stay verbatim; fields that change with every event are omitted, except the revision.

    Readers find the source's app_name and environment next to the flags.
    """
    flag = {**new_flag("a"), "future": {"x": 1}}
    flag["strategies"][0]["segments"] = [3]
    segment = new_segment(3)
    whole = document(features=[flag], segments=[segment])
    flag_set = fetch(whole)
    assert flag_set.sections == {"flags": {"a": flag}, "segments": {"3": segment}}
    assert flag_set.meta == {"version": 2, "query": QUERY, "queryHash": "a1"}
    assert flag_set.revision == 7
    context = {"appName": "shop", "environment": "production"}
    assert fetch(whole, app_name="shop", **HERE).meta == {**flag_set.meta, "context": context}


@pytest.mark.parametrize("meta", [None, {}, {"revisionId": "7"}, []])
def test_no_revision(meta: Any) -> None:
    """Unleash Edge may send no meta and no query, and an older server no segments."""
    flag_set = fetch({"version": 2, "features": [], "meta": meta})
    assert (flag_set.revision, flag_set.meta) == (0, {"version": 2})
    assert fetch({"features": [], "meta": meta}, environment="staging").meta.keys() == {"context"}
    assert flag_set.sections["segments"] == {}
    assert PROVIDER.satisfied("revision/42", flag_set.revision, lambda _section, _key: None)


@pytest.mark.parametrize(
    ("query", "options", "match"),
    [
        ({}, {}, r"'prod'.*backend \(client\) token of the environment.*credentials/prod"),
        ({"environment": ""}, HERE, "names no environment, as for an admin token"),
        (QUERY, {"environment": "staging"}, r"'production' instead of 'staging'.*credentials/prod"),
    ],
)
def test_token_of_another_environment_is_refused(query: Any, options: Any, match: str) -> None:
    """An admin token is served the default environment's flags."""
    assert fetch(document(), **HERE).revision == 7
    with pytest.raises(errors.CredentialsRefusedError, match=match) as refused:
        fetch(document(features=[new_flag("a")], query=query), **options)
    assert not refused.value.retryable


def strategies(*listed: Any) -> dict[str, Any]:
    return document(features=[{**new_flag("a"), "strategies": list(listed)}])


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (document(features={}), "features"),
        *(
            (document(features=[{"name": name, "strategies": []}]), "feature without 'name'")
            for name in ("", 7, "\ud800")
        ),
        (document(features=[{"name": "a"}]), "'a' has no list of strategies"),
        (document(features=[new_flag("a"), new_flag("a")]), "'a' twice"),
        (document(segments=None), "segments"),
        (document(segments=[{"id": None, "constraints": []}]), "segment without 'id'"),
        (document(segments=[{"id": 1}]), "'1' has no list of constraints"),
        (strategies(None), "'a' has an invalid strategy"),
        (strategies({"segments": "1"}), "'a' has an invalid strategy"),
        (strategies({"segments": [1]}), "'a' needs a segment"),
    ],
)
def test_malformed_documents(broken: Any, match: str) -> None:
    """The message names the missing field, and the feature if there is one."""
    with pytest.raises(errors.MalformedResponseError, match=match):
        fetch(broken)


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


def published(provider: str, meta: Any, **sections: Any) -> Snapshot:
    """Publish a flag set, and return a reader's snapshot of it."""
    rig = Rig(provider=provider)
    rig.publish(sections.pop("flags"), meta, **sections)
    return rig.client.snapshot()


def test_document_of_a_snapshot() -> None:
    """It holds what the response did, except ``meta``: large segments too, and in order."""
    large = new_segment(2)
    large["constraints"][0]["values"] = [f"user-{number}" for number in range(5_000)]
    flags = {name: new_flag(name) for name in ("b", "a")}
    segments = {"2": large, "1": new_segment(1)}
    meta = {"version": 2, "query": QUERY, "queryHash": "18502bea"}
    snapshot = published("unleash", meta, flags=flags, segments=segments)
    assert snapshot._body.large.keys() == {"2"}
    assert json.loads(unleash_document(snapshot)) == {
        "version": 2,
        "query": QUERY,
        "features": [flags["a"], flags["b"]],
        "segments": [segments["1"], large],
    }
    empty: dict[str, Any] = {"flags": {}, "segments": {}}
    assert unleash_document(published("unleash", {}, **empty)) == '{"features":[],"segments":[]}'
    with pytest.raises(ConfigurationError, match="'prod' holds flags of 'launchdarkly'"):
        unleash_document(published("launchdarkly", {}, **empty))
