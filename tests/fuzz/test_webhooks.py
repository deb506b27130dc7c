"""Nothing forged is accepted, and nothing that a stranger sends is a flagstore error."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from contract import test_providers as contracts  # its classes by name would run here again
from simulators.deployment import Context, ShiftedClock, request
from simulators.ssm import Ssm
from storesync import providers, webhook
from storesync.config import WEBHOOKS_AGE_S, WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

DOSE, WHOLE = 2_000, 100_000
CURRENT, PREVIOUS = "canary-current-secret-01", "canary-previous-secret-02"
STRANGERS = "strangers-own-secret-03"
HEADER = "X-Webhook-Key"
SAMPLES = {
    "launchdarkly": contracts.TestLaunchDarkly.sample,
    "split": contracts.TestSplit.sample,
    "unleash": contracts.TestUnleash.sample,
}
METHODS = {name: providers.get(name).methods for name in SAMPLES}
REFUSED = {400, 401, 404, 413}
PREFIX = "/flagstore"
ODD: list[Any] = [None, True, 0, -1, 1e308, "", " ", "\x00", "\ud800", "é", [], {}, [[]]]
ODD += [{"a": None}, "null", "%", "a" * 10_000, "\u202e", "prod\n", "..", "%00"]
TOO_LARGE = "x" * 6_300_000


class Printed:
    """A stream that looks into each line, and keeps none."""

    def __init__(self, *canaries: str) -> None:
        self.lines = 0
        self._canaries = canaries

    def write(self, text: str) -> int:
        """See that a line is JSON and holds no secret."""
        for line in text.splitlines():
            self.lines += 1
            json.loads(line)
        for canary in self._canaries:
            assert canary not in text, f"a secret in what was printed: {text[:400]}"
        return len(text)

    def flush(self) -> None:
        pass


class Receiving:
    """A receiver with its parameters, its queue and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, printed: Printed) -> None:
        self.ssm, self.clock = Ssm(), ShiftedClock()
        self.printed = printed
        self.requests: list[str] = []
        clients: Any = {"ssm": self.ssm, "sqs": self}
        settings = WebhookSettings(PREFIX, "https://queue")
        receiver = webhook.Receiver(settings, **clients, clock=self.clock)
        monkeypatch.setattr(webhook, "receiver", lambda: receiver)
        monkeypatch.setattr(webhook.log.registered_handler, "stream", printed)
        monkeypatch.setattr("sys.stdout", printed)
        monkeypatch.setattr(webhook.log._logger, "level", 10)  # DEBUG
        monkeypatch.setattr(webhook.log._logger, "propagate", False)  # pytest would keep all lines

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        self.requests += [entry["MessageBody"] for entry in request["Entries"]]
        return {}

    def send(self, event: Any) -> tuple[int, str]:
        response = webhook.handler(event, Context())
        return response["statusCode"], response["body"]


def signed(provider: str, method: str, secret: str, *, encode: bool = False) -> dict[str, Any]:
    body, source = SAMPLES[provider], f"{provider}-{method}"
    headers: dict[str, str] = {}
    if method == "signature":
        headers["X-LD-Signature"] = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    elif method == "authorization":
        headers["Authorization"] = secret
    elif method == "header":
        headers[HEADER] = secret
    return request(source, body, headers, token=secret if method == "url" else "", encode=encode)


def receiving(monkeypatch: pytest.MonkeyPatch, *secrets: str) -> Receiving:
    """Start a receiver with a source for every method of every provider."""
    receiver = Receiving(monkeypatch, Printed(CURRENT, PREVIOUS, STRANGERS))
    receiver.ssm.put(f"{PREFIX}/webhooks", webhooks(*secrets))
    return receiver


def webhooks(*secrets: str) -> dict[str, Any]:
    return {
        f"{provider}-{method}": {
            "provider": provider,
            "method": method,
            "secrets": list(secrets),
            "header": HEADER if method == "header" else "",
        }
        for provider, methods in METHODS.items()
        for method in methods
    }


def mutated(event: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return an event with up to three changes; one in twenty has none."""
    event = copy.deepcopy(event)
    for _ in range(chance.choice([0, *[1] * 12, *[2] * 5, 3, 3])):
        chance.choice([_headers, _headers, _body, _body, _path, _others])(event, chance)
    return event


def text_like(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return chance.choice(
        [
            text[:at],
            text[at:],
            text[:at] + chr(chance.randrange(0x110000)) + text[at + 1 :],
            text[:at] + chance.choice("0123456789abcdefABCDEF -_/") + text[at:],
            text.swapcase(),
            f" {text}",
            f"{text} ",
            f"{text}, a",
            f"sha256={text}",
            f"Bearer {text}",
            text[::-1],
            text * 2,
            "0" * len(text),
        ]
    )


def _value_like(value: Any, chance: random.Random) -> Any:
    if isinstance(value, str) and chance.random() < 0.8:
        return text_like(value, chance)
    return copy.deepcopy(chance.choice(ODD))


def _headers(event: dict[str, Any], chance: random.Random) -> None:
    headers = event.get("headers")
    if not isinstance(headers, dict) or not headers:
        return
    name = chance.choice(sorted(headers))
    match chance.randrange(7):
        case 0:
            event["headers"] = _value_like(None, chance)
        case 1:
            other = chance.choice([name.upper(), name.title(), text_like(name, chance)])
            headers[other] = headers.pop(name)
        case 2:  # the same header again, in another case
            headers[name.upper()] = _value_like(headers[name], chance)
        case _:
            headers[name] = _value_like(headers[name], chance)


def _body(event: dict[str, Any], chance: random.Random) -> None:
    body = event.get("body")
    text = body if isinstance(body, str) else ""
    match chance.randrange(9):
        case 0:
            raw = text.encode("utf-8", "replace") * chance.randrange(2) + chance.randbytes(9)
            event |= {"body": base64.b64encode(raw).decode(), "isBase64Encoded": True}
        case 1:
            event["body"] = _value_like(None, chance)
        case 2:
            event["body"] = chance.choice(["[", '{"a":', "9"]) * chance.choice([100, 5_000])
        case 3:
            if chance.random() < 0.05:  # each costs milliseconds
                event["body"] = TOO_LARGE
        case 4 | 5:
            event["isBase64Encoded"] = chance.choice([True, True, False, None, 1, "yes"])
        case _:
            event["body"] = text_like(text, chance)


def _path(event: dict[str, Any], chance: random.Random) -> None:
    parameters = event.get("pathParameters")
    if isinstance(parameters, dict):
        name = chance.choice(["source", "token", "token"])
        parameters[name] = _value_like(parameters.get(name), chance)


def _others(event: dict[str, Any], chance: random.Random) -> None:
    if chance.random() < 0.5:
        name = chance.choice(["requestContext", "rawPath", "version", "routeKey", "cookies"])
        event[name] = _value_like(None, chance)
        return
    holder = chance.choice([event, *(v for v in event.values() if isinstance(v, dict))])
    if holder:
        del holder[chance.choice(sorted(holder, key=str))]


def is_good(event: Mapping[str, Any], secrets: tuple[str, ...]) -> bool:
    """Return whether an event carries a secret, in the simplest code, without flagstore's."""
    source, token = (event["pathParameters"].get(name) for name in ("source", "token"))
    given = event.get("headers")
    pairs = given.items() if isinstance(given, dict) else ()
    headers = {name.lower(): value for name, value in pairs if isinstance(value, str)}
    method = source.partition("-")[2]
    if method == "url":
        return token in secrets
    if method == "header":
        return headers.get(HEADER.lower()) in secrets
    if method == "authorization":
        accepted = [*secrets, *(f"Bearer {secret}" for secret in secrets)]
        return headers.get("authorization") in accepted
    text = event.get("body") or ""
    raw = base64.b64decode(text) if event.get("isBase64Encoded") else text.encode()
    return headers.get("x-ld-signature") in [
        hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest() for secret in secrets
    ]


def fuzz(receiver: Receiving, provider: str, count: int, seed: int) -> Counter[int]:
    chance, answered = random.Random(seed), Counter[int]()
    secrets = (CURRENT, PREVIOUS)
    for _ in range(count):
        method = chance.choice(METHODS[provider])
        signer = chance.choice([CURRENT, CURRENT, PREVIOUS, STRANGERS, ""])
        base = signed(provider, method, signer, encode=chance.random() < 0.3)
        event = mutated(base, chance)
        before = len(receiver.requests)
        status, body = receiver.send(event)
        answered[status] += 1
        left = len(receiver.requests) - before
        assert isinstance(json.loads(body), dict)
        for secret in (CURRENT, PREVIOUS, STRANGERS):
            assert secret not in body
        if status == providers.get(provider).accepted_status:
            assert is_good(event, secrets), repr(event)[:1500]
            assert left <= 1
        else:
            assert status in REFUSED, repr(event)[:1500]
            assert left == 0, event
        if event == base:  # what is good is not turned away either
            accepted = status == providers.get(provider).accepted_status
            assert accepted == (signer in secrets), event
    return answered


@pytest.mark.parametrize(
    "count", [DOSE, pytest.param(WHOLE, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
@pytest.mark.parametrize("provider", METHODS)
def test_forged_webhooks_are_refused(
    monkeypatch: pytest.MonkeyPatch, provider: str, count: int
) -> None:
    """Each mutated webhook is accepted with the secret or refused with 4xx, and nothing raises."""
    receiver = receiving(monkeypatch, CURRENT, PREVIOUS)
    answered = fuzz(receiver, provider, count, seed=11)
    lines, requests = receiver.printed.lines, len(receiver.requests)
    monkeypatch.undo()
    refused = sum(answered[status] for status in REFUSED)
    others = count - refused - answered[providers.get(provider).accepted_status]
    print(
        f"\n{provider}: {count:,} events, {requests:,} with a secret requested a sync, "
        f"{refused:,} refused, {others} got another response"
    )
    # A fuzzer that only ever meets one response proves nothing.
    assert answered[providers.get(provider).accepted_status] > count / 20
    assert answered[401] > count / 5
    assert answered[404] > count / 50
    assert answered[400] > count / 200
    assert answered[413] > 0
    assert lines > count / 2
    for secret in (CURRENT, PREVIOUS, STRANGERS):
        assert not any(secret in message for message in receiver.requests)


@pytest.mark.campaign
def test_no_secret_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a receiver at DEBUG, through good, forged and broken webhooks of all providers."""
    lines = 0
    for seed, provider in enumerate(METHODS):
        with monkeypatch.context() as patched:
            receiver = receiving(patched, CURRENT, PREVIOUS)
            fuzz(receiver, provider, 25_000, seed=19 + seed)  # Printed fails on a secret
            lines += receiver.printed.lines
    assert lines >= 100_000
    print(f"{lines:,} lines of WebhookFunction, 0 with a secret")


def test_every_provider_with_webhooks_is_fuzzed() -> None:
    """A new provider whose webhooks are checked comes with a sample."""
    assert set(METHODS) == {name for name in providers.names() if providers.get(name).methods}


OLD, BOTH, NEW = (PREVIOUS,), (CURRENT, PREVIOUS), (CURRENT,)
WAITS = {"cached": WEBHOOKS_AGE_S / 2 - 1, "read": WEBHOOKS_AGE_S, "ssm-down": 600}
"""How long after the secrets were changed the webhooks come."""


@pytest.mark.parametrize("state", WAITS)
@pytest.mark.parametrize(
    ("before", "after"),
    [(OLD, BOTH), (BOTH, NEW), (OLD, NEW), (NEW, BOTH)],
    ids=["add", "remove", "at-once", "back"],
)
@pytest.mark.parametrize(
    ("provider", "method"),
    [(provider, method) for provider, methods in METHODS.items() for method in methods],
)
def test_secret_is_accepted_exactly_while_active(
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    method: str,
    before: tuple[str, ...],
    after: tuple[str, ...],
    state: str,
) -> None:
    """A new one within a minute and a half, from when on an old one is not; no other ever is."""
    receiver = receiving(monkeypatch, *before)
    receiver.send(signed(provider, method, CURRENT))
    receiver.ssm.put(f"{PREFIX}/webhooks", webhooks(*after))
    receiver.ssm.down = "InternalServerError" if state == "ssm-down" else ""
    receiver.clock.advance(WAITS[state])
    accepted = {
        secret
        for secret in (CURRENT, PREVIOUS, STRANGERS, "")
        if receiver.send(signed(provider, method, secret))[0]
        == providers.get(provider).accepted_status
    }
    assert accepted == set(after if state == "read" else before)
