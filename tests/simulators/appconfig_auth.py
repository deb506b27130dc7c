"""Checks the signature of a request to AWS, from the other side than botocore's signer does it.

Source of the rules: AWS, "Create a signed AWS API request" (Signature Version 4).
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

if TYPE_CHECKING:
    from .server import Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>[^,]+), "
    r"SignedHeaders=(?P<headers>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)
_UNRESERVED = "-_.~"
_MAX_SKEW_S = 300


def refusal(request: Request, access_key: str, secret_key: str, scope: tuple[str, str]) -> str:
    """Return the error that AWS has for a request; empty for one that is signed as it should be.

    The scope is region and service.
    """
    match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    moment = request.headers.get("x-amz-date", "")
    if match is None or not re.fullmatch(r"\d{8}T\d{6}Z", moment):
        return "MissingAuthenticationTokenException"
    if match["key"] != access_key:
        return "UnrecognizedClientException"
    signed_at = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    skew = abs((datetime.now(UTC) - signed_at).total_seconds())
    names = match["headers"].split(";")
    if skew > _MAX_SKEW_S or not {"host", "x-amz-date"} <= set(names):
        return "InvalidSignatureException"
    if match["scope"] != "/".join((moment[:8], *scope, "aws4_request")):
        return "InvalidSignatureException"
    path, _, query = request.path.partition("?")
    pairs = sorted(
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    canonical = "\n".join(
        (
            request.method,
            quote(path, safe="/" + _UNRESERVED),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in names),
            "",
            match["headers"],
            sha256(request.body).hexdigest(),
        )
    )
    text = f"AWS4-HMAC-SHA256\n{moment}\n{match['scope']}\n{sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in (*match["scope"].split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    return "" if hmac.compare_digest(key.hex(), match["signature"]) else "InvalidSignatureException"
