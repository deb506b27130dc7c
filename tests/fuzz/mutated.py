"""Webhooks that were good once: every part of the event that API Gateway hands over is changed.

``random`` with a seed, not Hypothesis: a hundred thousand events in a minute.
"""

from __future__ import annotations

import base64
import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

ODD: list[Any] = [None, True, False, 0, -1, 1e308, "", " ", "\x00", "\ud800", "é", [], {}, [[]]]
ODD += [{"a": None}, "null", "%", "=", "a" * 10_000, "\u202e", "prod\n", "..", "%00"]
TOO_LARGE = "x" * 6_300_000


def mutated(event: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return an event with up to three changes; one in twenty has none."""
    event = copy.deepcopy(event)
    for _ in range(chance.choice([0, *[1] * 12, *[2] * 5, 3, 3])):
        chance.choice(MUTATIONS)(event, chance)
    return event


def text_like(text: str, chance: random.Random) -> str:
    """Return a text much like another."""
    at = chance.randrange(len(text) + 1)
    return chance.choice(
        [
            text[:at],
            text[at:],
            text[:at] + chr(chance.randrange(0x110000)) + text[at + 1 :],
            text[:at] + chance.choice("0123456789abcdefABCDEF -_/") + text[at:],
            text.upper(),
            text.swapcase(),
            f" {text}",
            f"{text} ",
            f"{text},{text}",
            f"{text}, a",
            f"sha256={text}",
            f"Bearer {text}",
            f"bearer {text}",
            text[::-1],
            text * 2,
            "0" * len(text),
        ]
    )


def _odd(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(ODD))


def _header_value(event: dict[str, Any], chance: random.Random) -> None:
    headers = event.get("headers")
    if isinstance(headers, dict) and headers:
        name = chance.choice(sorted(headers))
        value = headers[name]
        likely = isinstance(value, str) and chance.random() < 0.8
        headers[name] = text_like(value, chance) if likely else _odd(chance)


def _header_name(event: dict[str, Any], chance: random.Random) -> None:
    headers = event.get("headers")
    if isinstance(headers, dict) and headers:
        name = chance.choice(sorted(headers))
        headers[chance.choice([name.upper(), name.title(), text_like(name, chance)])] = headers.pop(
            name
        )


def _second_header(event: dict[str, Any], chance: random.Random) -> None:
    """Say the same header again, in another case and with another value."""
    headers = event.get("headers")
    if isinstance(headers, dict) and headers:
        name = chance.choice(sorted(headers))
        value = headers[name]
        headers[name.upper()] = text_like(value, chance) if isinstance(value, str) else "x"


def _headers(event: dict[str, Any], chance: random.Random) -> None:
    event["headers"] = _odd(chance)


def _body_text(event: dict[str, Any], chance: random.Random) -> None:
    body = event.get("body")
    if isinstance(body, str):
        event["body"] = text_like(body, chance)


def _body_bytes(event: dict[str, Any], chance: random.Random) -> None:
    raw = chance.randbytes(chance.randrange(64))
    if isinstance(event.get("body"), str) and chance.random() < 0.5:
        raw = event["body"].encode("utf-8", "replace") + raw
    event |= {"body": base64.b64encode(raw).decode(), "isBase64Encoded": True}


def _body_odd(event: dict[str, Any], chance: random.Random) -> None:
    event["body"] = _odd(chance)


def _body_deep(event: dict[str, Any], chance: random.Random) -> None:
    event["body"] = chance.choice(["[", '{"a":', "9"]) * chance.choice([100, 5_000])


def _body_huge(event: dict[str, Any], chance: random.Random) -> None:
    if chance.random() < 0.02:  # each costs milliseconds
        event["body"] = TOO_LARGE


def _flag(event: dict[str, Any], chance: random.Random) -> None:
    event["isBase64Encoded"] = chance.choice([True, True, False, None, 1, "yes"])


def _path(event: dict[str, Any], chance: random.Random) -> None:
    parameters = event.get("pathParameters")
    if isinstance(parameters, dict):
        name = chance.choice(["source", "token", "token"])
        value = parameters.get(name)
        likely = isinstance(value, str) and chance.random() < 0.8
        parameters[name] = text_like(value, chance) if likely else _odd(chance)


def _dropped(event: dict[str, Any], chance: random.Random) -> None:
    holders = [event, *(v for v in event.values() if isinstance(v, dict))]
    holder = chance.choice(holders)
    if holder:
        del holder[chance.choice(sorted(holder, key=str))]


def _gateway(event: dict[str, Any], chance: random.Random) -> None:
    name = chance.choice(["requestContext", "rawPath", "version", "routeKey", "cookies"])
    event[name] = _odd(chance)


MUTATIONS: list[Callable[[dict[str, Any], random.Random], None]] = [
    *[_header_value] * 4,
    _header_name,
    _second_header,
    _headers,
    *[_body_text] * 3,
    _body_bytes,
    _body_odd,
    _body_deep,
    _body_huge,
    *[_flag] * 2,
    *[_path] * 3,
    _dropped,
    _gateway,
]
