"""The body of an HTTP response, chunk by chunk: as it was sent, inflated, and within a cap.

Each function passes chunks on before it takes the next, so that no response, however it was made,
fills the memory before it meets its cap.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from storesync.errors import MalformedResponseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import Response

CHUNK_BYTES: Final = 64 * 1024
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
"""The largest window, with the header and checksum of gzip (zlib's manual, ``inflateInit2``)."""


def wire(response: Response) -> Iterator[bytes]:
    """Yield the body as it was sent; a wrong Content-Length raises in urllib3."""
    while chunk := response.raw.read(CHUNK_BYTES, decode_content=False):
        yield chunk


def capped(chunks: Iterator[bytes], limit: int, where: str) -> Iterator[bytes]:
    """Pass on at most *limit* bytes.

    Raises:
        MalformedResponseError: if there are more; *where* is for the message.
    """
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            message = (
                f"the response is larger than {limit} bytes {where}: choose fewer flags by the "
                f"source's options, or by what its key may see"
            )
            raise MalformedResponseError(message)
        yield chunk


def inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate gzip in steps of bounded size, so that a bomb meets the cap and not the memory.

    Raises:
        MalformedResponseError: if it is damaged or cut off.
    """
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    for chunk in chunks:
        rest = chunk
        while rest:
            if inflater.eof:  # A gzip body may have several members (RFC 1952, 2.2).
                inflater = zlib.decompressobj(_GZIP_WINDOW)
            try:
                yield inflater.decompress(rest, CHUNK_BYTES)
            except zlib.error:
                message = "the response is damaged: it does not inflate"
                raise MalformedResponseError(message) from None
            # Output that the step's size held back comes with the next step: there always is one,
            # since the checksum at the end is not read before everything is out.
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if not inflater.eof:
        message = "the response is cut off within its compressed body"
        raise MalformedResponseError(message)
