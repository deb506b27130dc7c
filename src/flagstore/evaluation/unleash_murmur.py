"""MurmurHash3 for 32 bits (Austin Appleby, public domain), as Unleash and Split use it. Pure."""

from __future__ import annotations

from struct import unpack_from

_MASK = 0xFFFF_FFFF
_C1 = 0xCC9E_2D51
_C2 = 0x1B87_3593
_FORMATS = tuple(f"<{count}I" for count in range(64))


def murmur3_32(data: bytes, seed: int) -> int:
    """Return the x86 variant's hash as an unsigned number."""
    length = len(data)
    blocks = length >> 2
    value = seed
    for block in unpack_from(_FORMATS[blocks] if blocks < 64 else f"<{blocks}I", data):  # noqa: PLR2004
        block = block * _C1 & _MASK  # noqa: PLW2901 - a hash in steps
        value ^= (block << 15 | block >> 17) * _C2 & _MASK
        value = (value << 13 | value >> 19) * 5 + 0xE654_6B64 & _MASK
    tail = data[blocks << 2 :]
    if tail:
        block = int.from_bytes(tail, "little") * _C1 & _MASK
        value ^= (block << 15 | block >> 17) * _C2 & _MASK
    value ^= length
    value = (value ^ value >> 16) * 0x85EB_CA6B & _MASK
    value = (value ^ value >> 13) * 0xC2B2_AE35 & _MASK
    return value ^ value >> 16
