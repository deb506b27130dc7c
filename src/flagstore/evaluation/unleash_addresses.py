"""Addresses and networks as Unleash's engine reads them from text. Pure.

The engine, yggdrasil 2.0.0, is written in Rust; the rules here are those of ``IpAddr`` of its
standard library and of the crate ipnetwork 0.21.1. Imported when a flag first asks for an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.evaluation.unleash_operators import Predicate

_V4_BITS, _V6_BITS, _GROUPS = 32, 128, 8
_MAX_V4_TEXT: Final = 15


def in_networks(name: str, values: list[str]) -> Predicate:
    """Return what says whether a field is an address in one of some networks."""
    networks = [found for found in map(_network, values) if found is not None]
    read = _address

    def check(context: Mapping[str, Any]) -> bool:
        value = context[name]
        found = None if value is None else read(value)
        if found is None:
            return False
        bits, width = found
        for base, mask, of in networks:  # noqa: SIM110 - any() with a generator is slower
            if of == width and bits & mask == base:
                return True
        return False

    return check


def _address(text: str) -> tuple[int, int] | None:
    """Read an address: its bits, and how many there are: 32 or 128."""
    if ":" in text:
        found = _v6(text)
        return None if found is None else (found, _V6_BITS)
    found = _v4(text)
    return None if found is None else (found, _V4_BITS)


def _network(text: str) -> tuple[int, int, int] | None:
    """Read an address with a prefix's length or a mask, as ``(bits, mask, 32 or 128)``.

    Bits behind the prefix are allowed; masks are for version 4, and no host masks.
    """
    base, slash, prefix = text.partition("/")
    found = _address(base)
    if found is None:
        return None
    bits, width = found
    length = _prefix(prefix, width) if slash else width
    if length is None:
        return None
    mask = ((1 << length) - 1) << (width - length)
    return bits & mask, mask, width


def _prefix(text: str, width: int) -> int | None:
    mask = _v4(text) if width == _V4_BITS else None
    if mask is not None:
        host = mask ^ 0xFFFF_FFFF
        return None if host & (host + 1) else _V4_BITS - host.bit_length()
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return None
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= 3 and int(digits) <= width else None  # noqa: PLR2004 - of an u8


def _v4(text: str) -> int | None:
    parts = text.split(".")
    if len(parts) != 4 or len(text) > _MAX_V4_TEXT:  # noqa: PLR2004 - octets
        return None
    bits = 0
    for part in parts:
        if not (part.isascii() and part.isdigit()) or (part[0] == "0" and part != "0"):
            return None
        octet = int(part)
        if octet > 255:  # noqa: PLR2004
            return None
        bits = bits << 8 | octet
    return bits


def _v6(text: str) -> int | None:
    """Read groups of hexadecimal digits; ``::`` stands for one group of zeros or more."""
    head, gap, tail = text.partition("::")
    before = _groups(head, last=not gap)
    after = _groups(tail, last=True)
    if before is None or after is None:
        return None
    missing = _GROUPS - len(before) - len(after)
    if (missing < 1) if gap else missing:
        return None
    bits = 0
    for group in (*before, *([0] * missing), *after):
        bits = bits << 16 | group
    return bits


def _groups(text: str, *, last: bool) -> list[int] | None:
    """Read groups between colons; at the end of all, the last two may be a version 4 address."""
    groups: list[int] = []
    parts = text.split(":") if text else []
    for index, part in enumerate(parts):
        if last and index == len(parts) - 1 and "." in part:
            bits = _v4(part)
            if bits is None:
                return None
            groups += (bits >> 16, bits & 0xFFFF)
        elif 1 <= len(part) <= 4 and all(digit in "0123456789abcdefABCDEF" for digit in part):  # noqa: PLR2004 - digits
            groups.append(int(part, 16))
        else:
            return None
    return groups
