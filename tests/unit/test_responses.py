"""The meaning of statuses, waiting times, ETags and bodies."""

from __future__ import annotations

import contextlib
import json
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storesync import errors
from storesync.responses import HttpResponse, etag, parse_object, raise_for_status, retry_after_s

NOW = 1_795_000_000.0


def response(status: int = 200, body: bytes = b"{}", **headers: str) -> HttpResponse:
    """Build a response; underscores in header names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, named, body)


@pytest.mark.parametrize(
    ("statuses", "error"),
    [
        ((401, 403), errors.CredentialsRefusedError),
        ((400, 404, 413, 302), errors.EndpointNotFoundError),
        ((408, 425, 429, 500, 504, 599), errors.ProviderUnavailableError),
        ((204, 304, 999), errors.MalformedResponseError),
    ],
)
def test_status_classes(statuses: tuple[int, ...], error: type[errors.ProviderError]) -> None:
    """A status means either a retry or an operator's action."""
    for status in statuses:
        with pytest.raises(error, match=str(status)):
            raise_for_status(response(status), "prod", "Provider")


def test_refusal_names_remedy() -> None:
    remedy = "credentials of source 'prod'.*<prefix>/credentials/prod"
    with pytest.raises(errors.CredentialsRefusedError, match=remedy):
        raise_for_status(response(401), "prod", "Provider")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("9" * 400, 900.0),
        (formatdate(NOW + 7, usegmt=True), 7.0),
        (formatdate(NOW - 7, usegmt=True), 0.0),
        ("", None),
        ("7.5", None),
        ("²", None),
        ("Wed, 99 Nov 2026 99:99:99 GMT", None),
        ("Wed, 18 Nov 99999999999 11:06:47 GMT", None),
    ],
)
def test_retry_after(text: str, expected: float | None) -> None:
    """Seconds, and dates by the provider's clock, are accepted up to a limit."""
    now = formatdate(NOW, usegmt=True)
    assert retry_after_s(response(429, retry_after=text, date=now)) == expected


@pytest.mark.parametrize(
    ("given_tag", "expected"),
    [
        ('"a:1:v1"', '"a:1:v1"'),
        (' W/"x" ', 'W/"x"'),
        ("", ""),
        ('"é"', ""),
        ('"a\nb"', ""),
        ("x" * 1025, ""),
    ],
)
def test_etag(given_tag: str, expected: str) -> None:
    assert etag(response(etag=given_tag)) == expected
    assert etag(response()) == ""


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b" \n", "empty"),
        (b"<!doctype html><p>canary", "web page"),
        (b"{", "cut off"),
        (b'{"a": canary}', "broken"),
        (b'"canary"', "str"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "number"),
        (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
        (b'{"a": {"b": 1, "b": 1}}', "repeats"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
    ],
)
def test_unusable_bodies(body: bytes, match: str) -> None:
    """Each kind has a short reason, without a part of the body."""
    with pytest.raises(errors.MalformedResponseError, match=match) as caught:
        parse_object(response(body=body), "Provider")
    assert "canary" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_login_page() -> None:
    """A page that begins with text is recognised by its type."""
    page = response(body=b"Please sign in", content_type="text/html")
    with pytest.raises(errors.MalformedResponseError, match="web page"):
        parse_object(page, "Provider")


@pytest.mark.parametrize("document", [{}, {"a": [1, 2.5, -0.0, None, True, "ü\u2028", "\ud83d"]}])
def test_object(document: dict[str, object]) -> None:
    """A good document is returned unchanged, with or without a byte order mark."""
    body = json.dumps(document).encode()
    assert parse_object(response(body=body), "Provider") == document
    assert parse_object(response(body=b"\xef\xbb\xbf" + body), "Provider") == document


@given(st.one_of(st.binary(), st.text(st.characters(codec="utf-8")).map(str.encode)))
def test_any_bytes(body: bytes) -> None:
    with contextlib.suppress(errors.MalformedResponseError):
        assert isinstance(parse_object(response(body=body), "Provider"), dict)
