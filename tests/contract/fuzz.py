"""Requests and bodies derived from good ones."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from storesync.model import WebhookRequest


@st.composite
def mutations(draw: st.DrawFn, request: WebhookRequest) -> tuple[WebhookRequest, bool]:
    """Draw a request like the given one, and whether it still is the very one."""
    headers, body, token = dict(request.headers), request.body, request.token
    for _ in range(draw(st.integers(0, 3))):
        what = draw(st.sampled_from(["value", "drop", "other", "body", "token"]))
        if what == "value" and headers:
            name = draw(st.sampled_from(sorted(headers)))
            headers[name] = draw(_texts_like(headers[name]))
        elif what == "drop" and headers:
            del headers[draw(st.sampled_from(sorted(headers)))]
        elif what == "other":
            headers[draw(st.text(max_size=8)).lower()] = draw(st.text(max_size=20))
        elif what == "body":
            body = draw(_texts_like(body.decode())).encode()
        elif what == "token":
            token = draw(_texts_like(token))
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
