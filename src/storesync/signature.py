"""Compare signatures and secrets as bytes, in constant time.

Nothing here raises, whatever the sender puts into a request: ``hmac.compare_digest`` refuses
non-ASCII *strings* with a ``TypeError``, so everything is encoded first. Every active secret is
always compared, so the time taken does not reveal which one matched, nor how far.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storesync.model import Secret

SIGNATURE_HEADER = "X-LD-Signature"
"""Header of signed webhooks, as LaunchDarkly writes it; requests have it in lower case."""


def hmac_sha256_matches(body: bytes, given_hex: str | None, secrets: Iterable[Secret]) -> bool:
    """Return whether *given_hex* is the HMAC-SHA256 of *body* in lower-case hex."""
    given = _to_bytes(given_hex)
    matched = False
    for secret in secrets:
        key = _to_bytes(secret.reveal())
        expected = hmac.new(key, body, hashlib.sha256).hexdigest().encode("ascii")
        matched |= hmac.compare_digest(expected, given) and bool(key)
    return matched


def secret_matches(given: str | None, secrets: Iterable[Secret]) -> bool:
    """Return whether *given* is one of the secrets.

    Digests are compared instead of the strings, so as not to reveal the length of a secret.
    """
    digest = hashlib.sha256(_to_bytes(given)).digest()
    matched = False
    for secret in secrets:
        expected = hashlib.sha256(_to_bytes(secret.reveal())).digest()
        matched |= hmac.compare_digest(expected, digest) and bool(secret)
    return matched


def _to_bytes(text: str | None) -> bytes:
    """Encode a header's value, even with lone surrogates, which no header can carry."""
    return (text or "").encode("utf-8", "surrogatepass")
