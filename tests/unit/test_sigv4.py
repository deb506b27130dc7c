"""Request signatures, compared with those of AWS's own signer."""

from __future__ import annotations

import json
import random
import string
from datetime import UTC, datetime, timedelta

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from flagstore.stores.aws import Credentials, sign

REQUESTS = 2_000
REGIONS = ["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "ap-southeast-7", "local"]
HOSTS = [
    "dynamodb.{region}.amazonaws.com",
    "dynamodb.{region}.amazonaws.com.cn",
    "vpce-0a1b2c.dynamodb.{region}.vpce.amazonaws.com",
    "127.0.0.1:8000",
    "localhost:4566",
    "[::1]:8000",
]
ALPHABET = string.ascii_letters + string.digits + "/+="
VALUES = string.ascii_letters + string.digits + " \t;,=/.\"'()-_:"


def text(rng: random.Random, alphabet: str, low: int, high: int) -> str:
    """Return a random text."""
    return "".join(rng.choices(alphabet, k=rng.randint(low, high)))


class Request:
    """A random request for DynamoDB."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.credentials = Credentials(
            text(rng, string.ascii_uppercase, 16, 24),
            text(rng, ALPHABET, 30, 50),
            text(rng, ALPHABET, 100, 900) if rng.random() < 0.7 else "",
        )
        self.region = rng.choice(REGIONS)
        self.host = rng.choice(HOSTS).format(region=self.region)
        self.scheme = "http" if ":" in self.host else "https"
        self.service = rng.choice(["dynamodb", "dynamodb", "ssm"])
        moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**9))
        self.timestamp = moment.strftime("%Y%m%dT%H%M%SZ")
        self.headers = {
            "content-type": "application/x-amz-json-1.0",
            "x-amz-target": f"DynamoDB_20120810.{rng.choice(['GetItem', 'Query'])}",
        }
        for number in range(rng.choice([0, 0, 1, 3])):
            name = f"x-{text(rng, string.ascii_lowercase + '-', 1, 12)}{number}"
            self.headers[name] = text(rng, VALUES, 1, 40).strip() or "x"
        kind = rng.random()
        if kind < 0.1:
            self.body = b""
        elif kind < 0.3:
            self.body = rng.randbytes(rng.randint(1, 3_000))
        else:
            self.body = json.dumps({"TableName": text(rng, ALPHABET + "é😀", 1, 80)}).encode()

    def signed_by_hand(self) -> dict[str, str]:
        """Return our headers."""
        return sign(
            self.credentials,
            region=self.region,
            service=self.service,
            host=self.host,
            timestamp=self.timestamp,
            headers=self.headers,
            body=self.body,
        )

    def signed_by_botocore(self) -> dict[str, str]:
        """Return the headers of AWS's signer; its steps one by one, since it signs for now."""
        request = botocore.awsrequest.AWSRequest(
            "POST", f"{self.scheme}://{self.host}/", dict(self.headers), self.body
        )
        access_key, secret_key, token = self.credentials
        keys = botocore.credentials.Credentials(access_key, secret_key, token or None)
        signer = botocore.auth.SigV4Auth(keys, self.service, self.region)
        request.context["timestamp"] = self.timestamp
        signer._modify_request_before_signing(request)
        canonical = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        signer._inject_signature_to_request(request, signature)
        return {name.lower(): value for name, value in request.headers.items()}


def test_signatures_equal_botocores() -> None:
    """For 2,000 random requests."""
    for seed in range(REQUESTS):
        request = Request(seed)
        theirs = request.signed_by_botocore()
        assert request.signed_by_hand() == {**theirs, "host": request.host}, f"seed {seed}"


def test_credentials_never_show_their_secrets() -> None:
    """Neither key nor token appears in logs and tracebacks."""
    credentials = Credentials("AKIAEXAMPLE", "wJalrXUtnFEMI", "FwoGZXIvYXdzEXAMPLE")
    for shown in (repr(credentials), str(credentials), f"{credentials}", f"{[credentials]!r}"):
        assert credentials.secret_key not in shown
        assert credentials.token not in shown
        assert credentials.access_key not in shown
