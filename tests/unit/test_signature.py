"""Comparing signatures and secrets."""

from __future__ import annotations

import ast
import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import storesync
from storesync import signature
from storesync.model import Secret
from storesync.signature import hmac_sha256_matches, secret_matches

BODY = b'{"kind":"flag"}'
CURRENT, PREVIOUS = Secret("current-webhook-secret"), Secret("previous-webhook-secret")


def signed(body: bytes, secret: Secret) -> str:
    return hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()


def test_documented_vector() -> None:
    """The signature is plain HMAC-SHA256 in lower-case hex, as in RFC 4231's second case."""
    digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hmac_sha256_matches(b"what do ya want for nothing?", digest, [Secret("Jefe")])


@pytest.mark.parametrize(
    "given_hex",
    [
        None,
        "",
        signed(BODY, CURRENT)[:-1],
        signed(BODY, CURRENT).upper(),
        "sha256=" + signed(BODY, CURRENT),
        signed(BODY + b" ", CURRENT),
        signed(BODY, Secret("retired-webhook-secret")),
        "\ud800",
    ],
)
def test_invalid_signatures(given_hex: str | None) -> None:
    """A signature that is missing, malformed, of other bytes or by another secret is False."""
    assert not hmac_sha256_matches(BODY, given_hex, (CURRENT, PREVIOUS))
    assert not secret_matches(given_hex, (CURRENT, PREVIOUS))


def test_empty_secret() -> None:
    empty = Secret("")
    assert not hmac_sha256_matches(BODY, signed(BODY, empty), (empty,))
    for given_secret in ("", None):
        assert not secret_matches(given_secret, (empty,))


def test_all_secrets_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first match does not end the comparison, so time does not reveal which it was."""
    compared = []

    def counting(left: bytes, right: bytes) -> bool:
        compared.append(left)
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", counting)
    secret_matches(CURRENT.reveal(), (CURRENT, PREVIOUS))
    hmac_sha256_matches(BODY, signed(BODY, CURRENT), (CURRENT, PREVIOUS))
    assert len(compared) == 4


@given(st.one_of(st.none(), st.text()), st.binary(), st.lists(st.text(min_size=1), max_size=3))
def test_forged_requests_neither_pass_nor_raise(
    text: str | None, body: bytes, secrets: list[str]
) -> None:
    """True only for exactly a secret or its signature."""
    active = [Secret(secret) for secret in secrets]
    assert secret_matches(text, active) == (text in secrets)
    right = text in [
        hmac.new(s.encode("utf-8", "surrogatepass"), body, hashlib.sha256).hexdigest()
        for s in secrets
    ]
    assert hmac_sha256_matches(body, text, active) == right


def test_no_secret_is_compared_elsewhere() -> None:
    found = [
        f"{path.name}: {ast.unparse(node)}"
        for path in sorted(Path(storesync.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and "reveal()" in ast.unparse(node)
    ]
    assert found == []
    source = Path(signature.__file__).read_text(encoding="utf-8")
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare)]
    assert source.count("hmac.compare_digest(") == 2
