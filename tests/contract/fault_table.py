"""Every fault of a provider, and the error that it must raise."""

from __future__ import annotations

from simulators import faults
from storesync import errors

_GONE = (errors.ProviderUnavailableError, None)
_FINAL = (errors.EndpointNotFoundError, None)
_RUBBISH = (errors.MalformedResponseError, None)
FAULTS: dict[str, tuple[faults.Fault, type[errors.ProviderError], float | None]] = {
    "401": (faults.status(401), errors.CredentialsRefusedError, None),
    "403": (faults.status(403), errors.CredentialsRefusedError, None),
    "404": (faults.status(404), *_FINAL),
    "405": (faults.status(405), *_FINAL),
    "408": (faults.status(408), *_GONE),
    "429 in seconds": (faults.status(429, retry_after="7"), errors.ProviderUnavailableError, 7.0),
    "429 with a date": (faults.too_many_requests_until(7), errors.ProviderUnavailableError, 7.0),
    **{str(code): (faults.status(code), *_GONE) for code in range(500, 505)},
    "503 for an hour": (
        faults.status(503, retry_after="3600"),
        errors.ProviderUnavailableError,
        900.0,
    ),
    "reset": (faults.reset(), *_GONE),
    "silence": (faults.silence(), *_GONE),
    "drip of headers": (faults.drip_headers(), *_GONE),
    "drip of the body": (faults.drip_body(), *_GONE),
    "wrong length": (faults.wrong_length(), *_GONE),
    "truncated gzip": (faults.truncated_gzip(), *_RUBBISH),
    "HTML with 200": (faults.html(), *_RUBBISH),
    "endless body": (faults.endless_body(), *_RUBBISH),
    "compression bomb": (faults.bomb(), *_RUBBISH),
    "malformed JSON": (faults.malformed_json(), *_RUBBISH),
    "no object": (faults.body(b"[]"), *_RUBBISH),
    "another object": (faults.body(b'{"message":"welcome"}'), *_RUBBISH),
    "204": (faults.status(204), *_RUBBISH),
    "304 without an ETag": (faults.status(304), *_RUBBISH),
    "redirect": (faults.redirect(), *_FINAL),
}
"""Each fault, the class of error that it is, and the wait that it asks for."""
ENDLESS = frozenset({"silence", "drip of headers", "drip of the body"})
"""Faults that never end on their own."""
