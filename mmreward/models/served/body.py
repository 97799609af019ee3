"""Body of an answer from a server, read and unpacked piece by piece so that no more is held than its limit.

A megabyte of gzip can unpack to a gigabyte: each piece is unpacked only as far as the limit allows, so that
memory is never taken for what will be refused. Only gzip is asked for, and only what was asked for is read.
"""

import zlib

import httpx2

from ...errors import Unscorable
from ...limits import limits, most

ENCODING = "gzip"
"""Value of the Accept-Encoding header that a request carries."""
PIECE = 1 << 16
"""Bytes that are unpacked at once."""


async def read_body(response: httpx2.Response) -> bytes:
    """The body, unpacked.

    Args:
        response: whose head has come and whose body has not.

    Raises:
        Unscorable: longer than `Limits.answer_bytes`, packed or unpacked; damaged; or packed in a way that
            was not asked for.
    """
    allowed = limits().answer_bytes
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Unscorable(
            f"DecodingError: the answer is packed as {encoding[:40]!r}, and only {ENCODING} was asked for"
        )
    promised = response.headers.get("Content-Length", "")
    if promised.isdecimal() and (len(promised) > 18 or int(promised) > allowed):
        raise _too_long()
    unpacker = _Gunzip(allowed) if encoding.endswith("gzip") else None
    data, packed = bytearray(), 0
    async for chunk in response.aiter_raw():
        packed += len(chunk)
        if packed > allowed:
            raise _too_long()
        if unpacker is None:
            data += chunk
        else:
            unpacker.feed(chunk, data)
    if unpacker is not None and packed:
        unpacker.finish()
    return bytes(data)


class _Gunzip:
    """Unpacker of one body, of one member of gzip or several."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def feed(self, packed: bytes, data: bytearray) -> None:
        """Append what these bytes unpack to.

        Raises:
            Unscorable: no gzip, or more than the limit altogether.
        """
        while packed:
            if self._member.eof:
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                data += self._member.decompress(packed, PIECE)
            except zlib.error as error:
                raise Unscorable(f"DecodingError: the server's answer is no gzip ({error})") from None
            if len(data) > self.allowed:
                raise _too_long()
            packed = self._member.unconsumed_tail or self._member.unused_data

    def finish(self) -> None:
        """Refuse a body that broke off.

        Raises:
            Unscorable: the last member has no end.
        """
        if not self._member.eof:
            raise Unscorable("DecodingError: the server's answer is gzip that breaks off")


def _too_long() -> Unscorable:
    return Unscorable(f"the server's answer is longer than {most('answer_bytes', 'bytes')}")
