"""Redaction of secrets in logs and responses."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from storesync import telemetry
from storesync.model import Secret
from storesync.telemetry import redact, register_secret


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_known", {})


@pytest.mark.parametrize("first", ["webhook-secret", "webhook-secret-2"])
def test_registered_secrets_are_redacted(first: str) -> None:
    """Anywhere, any number of times; the longer one first, in any order of registration."""
    for secret in (first, "webhook-secret", "webhook-secret-2"):
        register_secret(Secret(secret))
    assert redact("a webhook-secret-2, webhook-secrets") == "a ***, ***s"


@pytest.mark.parametrize(
    "secret", ['quote"and\\backslash', "line\nbreak-secret", "umläut-secret", "a/b c?d&e=f-secret"]
)
def test_encoded_forms(secret: str) -> None:
    """A secret is redacted as it is, within JSON, and as part of a URL."""
    register_secret(Secret(secret))
    line = json.dumps({"text": f"<{secret}>"}, ensure_ascii=False)
    assert json.loads(redact(line)) == {"text": "<***>"}
    assert redact(secret) == "***"


def test_password_of_url() -> None:
    """Libraries quote the decoded parts of a URL."""
    register_secret(Secret("rediss://sync:pass%2Fword-1@cache.internal:6379/0"))
    assert redact("AUTH pass/word-1 refused") == "AUTH *** refused"
    assert redact("cache.internal") == "cache.internal"


@pytest.mark.parametrize("text", ["", "short", "http://[::1"])
def test_short_strings_are_not_redacted(text: str) -> None:
    """Short strings are parts of words, and a broken URL is no error."""
    register_secret(Secret(text))
    assert redact("short words, and http") == "short words, and http"


def test_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that sees many secrets forgets the oldest, but none that is used again."""
    monkeypatch.setattr(telemetry, "MAX_KNOWN", 10)
    for number in range(100):
        register_secret(Secret("secret-in-use"), Secret(f"secret-{number:04}"))
    assert redact("secret-in-use secret-0099 secret-0000") == "*** *** secret-0000"
    assert len(telemetry._known) == 10


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are synced in parallel, and each registers its secrets."""
    monkeypatch.setattr(telemetry, "MAX_KNOWN", 10)

    def register(thread: int) -> None:
        for number in range(5_000):
            register_secret(Secret(f"secret-{thread}-{number}"))
            redact("nothing to hide")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(register, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert len(telemetry._known) == 10
