"""Tokenizers of Llama and InternLM2 out of their published file (tokenizer.model), without the package that
wrote it.

The file is a SentencePiece model: a protocol buffer with one message for each piece, its text, score and
kind. Text is split into characters, the spaces written as a low line and, where the file says so, one put
before the whole; then, as long as there is one, the neighbours that make the piece of the highest score are
joined, the leftmost first. A character that is no piece is written as its bytes; a piece that the maker of
the file defined is never split or joined.

`transformers` reads the file with a package that is not among ours.
"""

import heapq
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

SPACE = "\u2581"
NORMAL, CONTROL, USER, BYTE = 1, 3, 4, 6
"""Kinds of pieces. Text is made of the others; control tokens come from text only by name, see `special`."""
BEGINNING = 1
"""Id of the beginning of a text in every Llama of the two first generations, and in InternLM2."""
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
"""Settings of a tokenizer's configuration that name special tokens."""


class Pieces:
    """Tokenizer of one file.

    Args:
        file: a tokenizer.model.
        special: tokens that stand for themselves wherever a text has them, and their ids; a name alone (None)
            takes the id of the file's own piece of this name.

    Raises:
        ValueError: the file is no SentencePiece model, or one of another kind than Llama's; it has no piece
            of a special token's name.
    """

    def __init__(self, file: Path, special: Mapping[str, int | None] | None = None) -> None:
        self._scores: dict[str, tuple[float, int]] = {}
        self._bytes: dict[str, int] = {}
        own: dict[str, int] = {}
        names: dict[str, int] = {}
        self._prefix = SPACE
        try:
            data = file.read_bytes()
            for number, (text, score, kind) in enumerate(_read(data)):
                names[text] = number
                if kind == NORMAL:
                    self._scores[text] = (score, number)
                elif kind == USER:
                    own[text] = number
                elif kind == BYTE:
                    self._bytes[text] = number
            for name, value in _rules(data):
                if name == "add_dummy_prefix" and not value:
                    self._prefix = ""
                elif name == "remove_extra_whitespaces" and value:
                    raise ValueError("it takes spaces out of texts, which is not done here")
        except (IndexError, ValueError, struct.error) as error:
            said = str(error) if "spaces" in str(error) else type(error).__name__
            raise ValueError(f"{file} is no SentencePiece model ({said})") from None
        if len(self._bytes) != 256:
            raise ValueError(f"{file} has {len(self._bytes)} pieces for bytes, where Llama's has 256")
        self._special: dict[str, int] = {}
        for token, known in (special or {}).items():
            if known is None and token not in names:
                raise ValueError(f"{file} has no piece {token!r}")
            self._special[token] = names[token] if known is None else known
        self._own = own
        self._split = _splitter(self._special)
        self._frozen = _splitter(own)

    def ids(self, text: str, beginning: bool = True) -> list[int]:
        """Ids of a text, with the beginning's before them where it is one."""
        found = [BEGINNING] if beginning else []
        for part in self._split.split(text) if self._special else [text]:
            if part in self._special:
                found.append(self._special[part])
            elif part:
                found += self._plain(self._prefix + part.replace(" ", SPACE))
        return found

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens; bytes that are no UTF-8 become U+FFFD."""
        found = bytearray()
        for number in ids:
            piece = self._pieces.get(number, "")
            byte = self._bytes.get(piece)
            found += bytes([int(piece[3:5], 16)]) if byte == number else piece.replace(SPACE, " ").encode()
        return found.decode("utf-8", errors="replace")

    @cached_property
    def _pieces(self) -> dict[int, str]:
        scored = {number: piece for piece, (_, number) in self._scores.items()}
        named = {number: piece for piece, number in (self._bytes | self._own).items()}
        special = set(self._special.values())
        return {number: piece for number, piece in (scored | named).items() if number not in special}

    @property
    def marks(self) -> tuple[str, ...]:
        """Tokens that stand for themselves wherever a text has them."""
        return (*self._special, *self._own)

    def id_of(self, token: str) -> int | None:
        """Id of a special token or of a piece; None where there is neither."""
        if token in self._special:
            return self._special[token]
        return self._own.get(token, self._scores.get(token, (0.0, None))[1])

    def _plain(self, text: str) -> list[int]:
        """Ids of a text without special tokens."""
        if not self._own:
            return self._joined(text)
        parts = self._frozen.split(text)
        return [n for part in parts for n in ([self._own[part]] if part in self._own else self._joined(part))]

    def _joined(self, text: str) -> list[int]:
        # A linked list of parts; every pair that is a piece waits in a heap, and is looked at again when it
        # comes out: one of its sides may have been joined to another since.
        parts: list[str] = list(text)
        after = [*range(1, len(parts)), -1] if parts else []
        before = list(range(-1, len(parts) - 1))
        waiting = [
            (-self._scores[a + b][0], at, a + b)
            for at, (a, b) in enumerate(pairwise(parts))
            if a + b in self._scores
        ]
        heapq.heapify(waiting)
        while waiting:
            _, at, whole = heapq.heappop(waiting)
            right = after[at] if parts[at] else -1
            if right < 0 or parts[at] + parts[right] != whole:
                continue
            parts[at], parts[right] = whole, ""
            after[at] = after[right]
            if after[at] >= 0:
                before[after[at]] = at
            for left in (before[at], at):
                if left >= 0 and after[left] >= 0:
                    pair = parts[left] + parts[after[left]]
                    if pair in self._scores:
                        heapq.heappush(waiting, (-self._scores[pair][0], left, pair))
        return [number for part in parts if part for number in self._numbers(part)]

    def _numbers(self, part: str) -> list[int]:
        if part in self._scores:
            return [self._scores[part][1]]
        return [self._bytes[f"<0x{byte:02X}>"] for byte in part.encode()]


def pieces_of(folder: Path) -> Pieces:
    """Tokenizer of a folder in transformers' format: tokenizer.model, with the tokens that its configuration
    and added_tokens.json add. Spaces beside an added token stay, as in transformers since 4.34.

    Raises:
        ValueError: as for `Pieces`.
    """
    special: dict[str, int | None] = {}
    config = _json(folder / "tokenizer_config.json")
    for setting in NAMED:
        token = config.get(setting)
        token = token.get("content") if isinstance(token, dict) else token
        if token:
            special[str(token)] = None
    for number, token in (config.get("added_tokens_decoder") or {}).items():
        special[str(token["content"])] = int(number)
    special |= {str(token): int(number) for token, number in _json(folder / "added_tokens.json").items()}
    return Pieces(folder / "tokenizer.model", special)


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def _splitter(tokens: Mapping[str, int]) -> re.Pattern[str]:
    """Pattern that splits a text at these tokens and keeps them, the longest first."""
    ordered = sorted(tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, ordered))})" if ordered else "(?!)")


def _rules(data: bytes) -> Iterator[tuple[str, int]]:
    """Settings of the file's normalizer, by their names in SentencePiece."""
    known = {3: "add_dummy_prefix", 4: "remove_extra_whitespaces"}
    for field, value in _fields(data):
        if field == 3 and isinstance(value, bytes):
            for own, inner in _fields(value):
                if own in known and isinstance(inner, int):
                    yield known[own], inner


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
