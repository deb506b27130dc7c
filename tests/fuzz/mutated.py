"""Webhooks that were good once: every part of the event that API Gateway hands over is changed."""

from __future__ import annotations

import base64
import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

ODD: list[Any] = [None, True, 0, -1, 1e308, "", " ", "\x00", "\ud800", "é", [], {}, [[]]]
ODD += [{"a": None}, "null", "%", "a" * 10_000, "\u202e", "prod\n", "..", "%00"]
TOO_LARGE = "x" * 6_300_000


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
