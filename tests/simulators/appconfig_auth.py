"""Check the signature of a request to AWS, as AWS does: sign it again and compare."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from .server import Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/[^,]+, SignedHeaders=(?P<names>[^,]+), .+"
)


def refusal(request: Request, access_key: str, secret_key: str, region: str) -> str:
    """Return the error that AWS AppConfig has for a request; empty if its signature is right."""
    given = request.headers.get("authorization", "")
    match = _AUTHORIZATION.fullmatch(given)
    if match is None:
        return "MissingAuthenticationTokenException"
    if match["key"] != access_key:
        return "UnrecognizedClientException"
    headers = {name: request.headers.get(name, "") for name in match["names"].split(";")}
    again = AWSRequest(request.method, f"http://{headers['host']}{request.path}", headers)
    again.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(access_key, secret_key), "appconfig", region)
    text = signer.string_to_sign(again, signer.canonical_request(again))
    signer._inject_signature_to_request(again, signer.signature(text, again))
    return "" if again.headers["Authorization"] == given else "InvalidSignatureException"
