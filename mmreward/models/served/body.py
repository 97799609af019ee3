"""Body of an answer from a server, read and unpacked piece by piece so that no more is held than its limit.

A megabyte of gzip can unpack to a gigabyte: each piece is unpacked only as far as the limit allows, so that
memory is never taken for what will be refused. Only gzip is asked for, and only what was asked for is read.
"""

import zlib

import httpx2

from ...errors import Unscorable

ENCODING = "gzip"
"""Value of the Accept-Encoding header that a request carries."""
PIECE = 1 << 16
"""Bytes that are unpacked at once."""


async def read_body(response: httpx2.Response, most: int) -> bytes:
    """The body, unpacked.

    Args:
        response: whose head has come and whose body has not.
        most: bytes, packed and unpacked; a longer one is given up in the middle.

    Raises:
        Unscorable: too long, damaged, or packed in a way that was not asked for.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Unscorable(
            f"DecodingError: the answer is packed as {encoding[:40]!r}, and only {ENCODING} was asked for"
        )
    promised = response.headers.get("Content-Length", "")
    if promised.isdecimal() and (len(promised) > 18 or int(promised) > most):
        raise _too_long(most)
    unpacker = _Gunzip(most) if encoding.endswith("gzip") else None
    data, packed = bytearray(), 0
    async for chunk in response.aiter_raw():
        packed += len(chunk)
        if packed > most:
            raise _too_long(most)
        if unpacker is None:
            data += chunk
        else:
            unpacker.feed(chunk, data)
    if unpacker is not None and packed:
        unpacker.finish()
    return bytes(data)


class _Gunzip:
    """Unpacker of one body, of one member of gzip or several."""

    def __init__(self, most: int) -> None:
        self.most = most
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
            if len(data) > self.most:
                raise _too_long(self.most)
            packed = self._member.unconsumed_tail or self._member.unused_data

    def finish(self) -> None:
        """Refuse a body that broke off.

        Raises:
            Unscorable: the last member has no end.
        """
        if not self._member.eof:
            raise Unscorable("DecodingError: the server's answer is gzip that breaks off")


def _too_long(most: int) -> Unscorable:
    return Unscorable(f"the server's answer is longer than {most >> 20} MiB")
