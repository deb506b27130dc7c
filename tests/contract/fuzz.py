"""Requests and bodies derived from good ones."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from storesync.model import WebhookRequest


@st.composite
def mutations(next_token: st.DrawFn, request: WebhookRequest) -> tuple[WebhookRequest, bool]:
    """Draw a request like the given one, and whether it still is the very one."""
    headers, body, token = dict(request.headers), request.body, request.token
    for _ in range(next_token(st.integers(0, 3))):
        what = next_token(st.sampled_from(["value", "drop", "other", "body", "token"]))
        if what == "value" and headers:
            name = next_token(st.sampled_from(sorted(headers)))
            headers[name] = next_token(_texts_like(headers[name]))
        elif what == "drop" and headers:
            del headers[next_token(st.sampled_from(sorted(headers)))]
        elif what == "other":
            headers[next_token(st.text(max_size=8)).lower()] = next_token(st.text(max_size=20))
        elif what == "body":
            body = next_token(_bytes_like(body))
        elif what == "token":
            token = next_token(_texts_like(token))
    mutated = WebhookRequest(headers, body, token)
    return mutated, mutated == request


def _texts_like(text: str) -> st.SearchStrategy[str]:
    cut = st.integers(0, len(text))
    return st.one_of(
        st.text(max_size=70),
        cut.map(lambda at: text[:at]),
        cut.map(lambda at: text[at:]),
        st.just(text.upper()),
        st.builds(lambda at, new: text[:at] + new + text[at + 1 :], cut, st.characters()),
    )


def _bytes_like(content: bytes) -> st.SearchStrategy[bytes]:
    cut = st.integers(0, len(content))
    return st.one_of(
        st.binary(max_size=50),
        cut.map(lambda at: content[:at]),
        st.builds(
            lambda at, new: content[:at] + new + content[at + 1 :], cut, st.binary(max_size=2)
        ),
    )


def documents(sample: bytes) -> st.SearchStrategy[bytes]:
    """Generate any JSON, or the sample with one value replaced."""
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    )
    document = json.loads(sample)
    replaced = st.builds(
        lambda key, value: {**document, key: value}, st.sampled_from(sorted(document)), values
    )
    return st.one_of(values, replaced).map(lambda value: json.dumps(value).encode())
