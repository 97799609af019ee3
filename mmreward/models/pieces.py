"""Llama's tokenizer out of its published file (tokenizer.model), without the package that wrote it.

The file is a SentencePiece model: a protocol buffer with one message for each piece, its text, score and
kind. Text is split into characters, the spaces written as a low line and one put before the whole; then, as
long as there is one, the neighbours that make the piece of the highest score are joined, the leftmost first.
A character that is no piece is written as its bytes.

`transformers` reads the file with a package that is not among ours. Scorers that ask one fixed question need
no more than this of it.
"""

import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

SPACE = "\u2581"
NORMAL, USER, BYTE = 1, 4, 6
"""Kinds of pieces that text is made of; control tokens never come from text."""
BEGINNING = 1
"""Id of the beginning of a text in every Llama of the two first generations."""


class Pieces:
    """Tokenizer of one file.

    Args:
        file: a tokenizer.model.

    Raises:
        ValueError: the file is no SentencePiece model, or one of another kind than Llama's.
    """

    def __init__(self, file: Path) -> None:
        self._scores: dict[str, tuple[float, int]] = {}
        self._bytes: dict[str, int] = {}
        try:
            for number, (text, score, kind) in enumerate(_read(file.read_bytes())):
                if kind in (NORMAL, USER):
                    self._scores[text] = (score, number)
                elif kind == BYTE:
                    self._bytes[text] = number
        except (IndexError, ValueError, struct.error) as error:
            raise ValueError(f"{file} is no SentencePiece model ({type(error).__name__})") from None
        if len(self._bytes) != 256:
            raise ValueError(f"{file} has {len(self._bytes)} pieces for bytes, where Llama's has 256")

    def ids(self, text: str) -> list[int]:
        """Ids of a text with the beginning's before them, as Llama's tokenizer makes them."""
        parts = list(SPACE + text.replace(" ", SPACE)) if text else []
        while True:
            joined = ((self._scores.get(a + b), at) for at, (a, b) in enumerate(pairwise(parts)))
            known = [(-found[0], at) for found, at in joined if found is not None]
            if not known:
                break
            at = min(known)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [BEGINNING, *(number for part in parts for number in self._numbers(part))]

    def _numbers(self, part: str) -> list[int]:
        if part in self._scores:
            return [self._scores[part][1]]
        return [self._bytes[f"<0x{byte:02X}>"] for byte in part.encode()]


def _read(data: bytes) -> Iterator[tuple[str, float, int]]:
    """(text, score, kind) of each piece, in the order of their ids."""
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            text, score, kind = "", 0.0, NORMAL
            for own, inner in _fields(value):
                if own == 1 and isinstance(inner, bytes):
                    text = inner.decode()
                elif own == 2 and isinstance(inner, float):
                    score = inner
                elif own == 3 and isinstance(inner, int):
                    kind = inner
            yield text, score, kind


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """(number, value) of a message's fields.

    Raises:
        ValueError: a field of a kind that such a file has not; IndexError: the message ends within one.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield field, value
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise IndexError("the message ends within a field")
            yield field, data[at : at + size]
            at += size
        elif kind == 5:
            yield field, float(struct.unpack("<f", data[at : at + 4])[0])
            at += 4
        elif kind == 1:
            at += 8
        else:
            raise ValueError(f"field {field} is of kind {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
