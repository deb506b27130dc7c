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
    """Start each test without secrets."""
    monkeypatch.setattr(telemetry, "_known", {})


def test_registered_secret_is_redacted() -> None:
    """Anywhere in a string, any number of times."""
    register_secret(Secret("canary-secret"))
    assert redact("a canary-secret and canary-secrets") == "a *** and ***s"


@pytest.mark.parametrize("first", ["webhook-secret", "webhook-secret-2"])
def test_secret_that_begins_with_another(first: str) -> None:
    """The longer one is redacted first, in any order of registration."""
    register_secret(Secret(first))
    register_secret(Secret("webhook-secret"))
    register_secret(Secret("webhook-secret-2"))
    assert redact("webhook-secret-2, webhook-secret") == "***, ***"


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
    """A process that sees many secrets forgets the oldest."""
    monkeypatch.setattr(telemetry, "MAX_KNOWN", 10)
    for number in range(100):
        register_secret(Secret(f"secret-{number:04}"))
    assert redact("secret-0099") == "***"
    assert len(telemetry._known) == 10


def test_secret_in_use_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is registered again counts as new."""
    monkeypatch.setattr(telemetry, "MAX_KNOWN", 2)
    for secret in ("secret-in-use", "secret-0001", "secret-in-use", "secret-0002"):
        register_secret(Secret(secret))
    assert redact("secret-in-use") == "***"


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are synced in parallel, and each registers its secrets."""
    monkeypatch.setattr(telemetry, "MAX_KNOWN", 10)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            work = [pool.submit(_register_secrets, thread) for thread in range(4)]
        assert [each.exception() for each in work] == [None] * 4
    finally:
        sys.setswitchinterval(interval)
    assert len(telemetry._known) == 10


def _register_secrets(thread: int) -> None:
    for number in range(5_000):
        register_secret(Secret(f"secret-{thread}-{number}"))
        redact("nothing to hide")
