"""MurmurHash3, 32 bits for x86, over bytes. No I/O.

The steps that need only the bytes are done once, since a context is hashed with one seed per flag.
The algorithm and its constants are public domain (Austin Appleby, 2011).
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
_CHUNK = 1024
"""Bytes; a multiple of 4."""


def mixed(data: bytes) -> tuple[tuple[int, ...], int, int]:
    """Return the input of :func:`murmur3_32`: mixed blocks of 4 bytes, mixed tail, length."""
    length = len(data)
    if length > _CHUNK:
        # A single number of all bytes would take quadratic time, and an attacker may choose the
        # length: Unleash does not limit user ids.
        chunks = [mixed(data[at : at + _CHUNK]) for at in range(0, length, _CHUNK)]
        return tuple(block for chunk in chunks for block in chunk[0]), chunks[-1][1], length
    number = int.from_bytes(data, "little")
    blocks = []
    for _ in range(length >> 2):
        # Bits above the 32nd are cut off once: they do not affect the lower ones.
        block = (number & _MASK) * 0xCC9E2D51 & _MASK
        blocks.append((block << 15 | block >> 17) * 0x1B873593 & _MASK)
        number >>= 32
    # Without a tail, this is 0 and stays 0.
    rest = number * 0xCC9E2D51 & _MASK
    return tuple(blocks), (rest << 15 | rest >> 17) * 0x1B873593 & _MASK, length


def murmur3_32(prepared: tuple[tuple[int, ...], int, int], seed: int) -> int:
    """Return the hash, unsigned; the seed is taken modulo 2**32."""
    blocks, rest, length = prepared
    value = seed & _MASK
    for block in blocks:
        value ^= block
        value = ((value << 13 | value >> 19) * 5 + 0xE6546B64) & _MASK
    value ^= rest ^ length
    value = (value ^ value >> 16) * 0x85EBCA6B & _MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & _MASK
    return value ^ value >> 16
