"""Blotting out secrets in what is printed and responded."""

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


def test_a_concealed_text_is_blotted_out() -> None:
    """Wherever it stands in a text, and no matter how often."""
    register_secret(Secret("canary-secret"))
    assert redact("a canary-secret and canary-secrets") == "a *** and ***s"


@pytest.mark.parametrize("first", ["webhook-secret", "webhook-secret-2"])
def test_of_a_secret_that_begins_with_another_nothing_is_left(first: str) -> None:
    """Whoever rotates a secret may only add to it; in whichever order they were read."""
    register_secret(Secret(first))
    register_secret(Secret("webhook-secret"))
    register_secret(Secret("webhook-secret-2"))
    assert redact("webhook-secret-2, webhook-secret") == "***, ***"


@pytest.mark.parametrize(
    "secret", ['quote"and\\backslash', "line\nbreak-secret", "umläut-secret", "a/b c?d&e=f-secret"]
)
def test_every_form_of_it_is_blotted_out(secret: str) -> None:
    """As it is, within JSON, and as part of a URL."""
    register_secret(Secret(secret))
    line = json.dumps({"text": f"<{secret}>"}, ensure_ascii=False)
    assert json.loads(redact(line)) == {"text": "<***>"}
    assert redact(secret) == "***"


def test_the_password_of_a_url_is_blotted_out_alone() -> None:
    """A library quotes the parts of a URL, decoded."""
    register_secret(Secret("rediss://sync:pass%2Fword-1@cache.internal:6379/0"))
    assert redact("AUTH pass/word-1 refused") == "AUTH *** refused"
    assert redact("cache.internal") == "cache.internal"


@pytest.mark.parametrize("text", ["", "short", "http://[::1"])
def test_what_is_no_secret_blots_nothing_else(text: str) -> None:
    """Short texts are parts of words, and a broken URL is no error."""
    register_secret(Secret(text))
    assert redact("short words, and http") == "short words, and http"


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that sees many secrets forgets the oldest."""
    monkeypatch.setattr(telemetry, "MAX_KNOWN", 10)
    for number in range(100):
        register_secret(Secret(f"secret-{number:04}"))
    assert redact("secret-0099") == "***"
    assert len(telemetry._known) == 10


def test_a_secret_that_is_still_in_use_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is concealed again at each sync counts as new, however many come in between."""
    monkeypatch.setattr(telemetry, "MAX_KNOWN", 2)
    for secret in ("secret-in-use", "secret-0001", "secret-in-use", "secret-0002"):
        register_secret(Secret(secret))
    assert redact("secret-in-use") == "***"


def test_threads_may_conceal_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are synced in parallel: a thread that forgets the oldest disturbs no other."""
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
