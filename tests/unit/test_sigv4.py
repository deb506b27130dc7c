"""Request signatures, compared with those of AWS's own signer."""

from __future__ import annotations

import random
import string
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from flagstore.stores.aws import Credentials, sign

HOSTS = ["dynamodb.{region}.amazonaws.com", "127.0.0.1:8000", "[::1]:8000"]
ALPHABET = string.ascii_letters + string.digits + "/+="
VALUES = string.ascii_letters + string.digits + " \t;,=/.\"'()-_:"


def text(rng: random.Random, alphabet: str, low: int, high: int) -> str:
    return "".join(rng.choices(alphabet, k=rng.randint(low, high)))


def request(rng: random.Random) -> dict[str, Any]:
    region = rng.choice(["us-east-1", "cn-north-1", "us-gov-west-1", "local"])
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**9))
    headers = {"x-amz-target": f"DynamoDB_20120810.{rng.choice(['GetItem', 'PutItem'])}"}
    for number in range(rng.choice([0, 0, 1, 3])):
        name = f"x-{text(rng, string.ascii_lowercase + '-', 1, 12)}{number}"
        headers[name] = text(rng, VALUES, 1, 40).strip() or "x"
    return {
        "credentials": Credentials(
            text(rng, string.ascii_uppercase, 16, 24),
            text(rng, ALPHABET, 30, 50),
            text(rng, ALPHABET, 100, 900) if rng.random() < 0.7 else "",
        ),
        "region": region,
        "service": rng.choice(["dynamodb", "ssm"]),
        "host": rng.choice(HOSTS).format(region=region),
        "timestamp": moment.strftime("%Y%m%dT%H%M%SZ"),
        "headers": headers,
        "body": rng.randbytes(rng.choice([0, 40, 3_000])),
    }


def signed_by_botocore(asked: dict[str, Any]) -> dict[str, str]:
    """Return the headers of AWS's signer; its steps one by one, since it signs for now."""
    scheme = "http" if ":" in asked["host"] else "https"
    request = botocore.awsrequest.AWSRequest(
        "POST", f"{scheme}://{asked['host']}/", dict(asked["headers"]), asked["body"]
    )
    access_key, secret_key, token = asked["credentials"]
    keys = botocore.credentials.Credentials(access_key, secret_key, token or None)
    signer = botocore.auth.SigV4Auth(keys, asked["service"], asked["region"])
    request.context["timestamp"] = asked["timestamp"]
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    signer._inject_signature_to_request(request, signature)
    return {name.lower(): value for name, value in request.headers.items()}


def test_signatures_equal_botocores() -> None:
    for seed in range(500):
        asked = request(random.Random(seed))
        theirs = signed_by_botocore(asked) | {"host": asked["host"]}
        assert sign(asked.pop("credentials"), **asked) == theirs, f"seed {seed}"


def test_credentials_never_show_their_secrets() -> None:
    credentials = Credentials("AKIAEXAMPLE", "wJalrXUtnFEMI", "FwoGZXIvYXdzEXAMPLE")
    for shown in (str(credentials), f"{[credentials]!r}"):
        assert credentials.secret_key not in shown
        assert credentials.token not in shown
        assert credentials.access_key not in shown
