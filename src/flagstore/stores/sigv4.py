"""Sign a request for AWS (Signature Version 4). Pure.

By hand, because importing botocore costs a cold start more than everything else that a first flag
needs. Held against botocore's own signer in the tests.

Source of the rules: AWS, "Create a signed AWS API request".
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.stores.credentials import Credentials


def sign(  # noqa: PLR0913 - the parts of a request, keyword-only
    credentials: Credentials,
    *,
    region: str,
    service: str,
    host: str,
    timestamp: str,
    headers: Mapping[str, str],
    body: bytes,
) -> dict[str, str]:
    """Return the headers of a signed ``POST /``, the given ones among them.

    ``timestamp`` is UTC as ``YYYYMMDDTHHMMSSZ``; names of headers are given in lower case.
    """
    signed = {**headers, "host": host, "x-amz-date": timestamp}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    canonical = f"POST\n/\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    digest = sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={key.hex()}"
    )
    return signed
