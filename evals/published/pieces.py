"""A tiny SentencePiece model as InternLM2 has it: pieces with scores, bytes, pieces of the maker's own, and a
normalizer that puts no space before a text.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPACE = "\u2581"
WORDS = ("how", "many", "shapes", "yes", "no", "two", "red", "circle", "is", "user", "assistant", "system")


def merges() -> list[tuple[str, str]]:
    found = [(SPACE + "i", "t"), ("t", "h"), ("th", "e")]
    for word in WORDS:
        for whole in (SPACE + word, word):
            found += [(whole[:end], whole[end]) for end in range(1, len(whole))]
    return list(dict.fromkeys(found))


def vocabulary(own: Sequence[str] = ()) -> list[str]:
    letters = [SPACE, "\n", *map(chr, range(33, 127))]
    joined = dict.fromkeys(first + second for first, second in merges())
    return ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *joined, *own]


def _message(field: int, inner: bytes) -> bytes:
    size, length = len(inner), b""
    while True:
        length += bytes([size & 127 | (128 if size > 127 else 0)])
        size >>= 7
        if not size:
            return bytes([field << 3 | 2]) + length + inner


def save_pieces(
    file: Path, own: Sequence[str] = (), prefix: bool = False, rules: bool = True
) -> dict[str, int]:
    """Write the model; returns ids by piece."""
    ranks = {first + second: rank for rank, (first, second) in reversed(list(enumerate(merges())))}
    data, names = b"", vocabulary(own)
    for number, piece in enumerate(names):
        kind = 2 if number == 0 else 3 if number < 3 else 6 if number < 259 else 4 if piece in own else 1
        score = struct.pack("<f", -float(ranks.get(piece, 5000 + number)))
        data += _message(1, _message(1, piece.encode()) + b"\x15" + score + b"\x18" + bytes([kind]))
    data += _message(2, b"\x18\x02\x98\x02\x01")  # a trainer's settings: BPE, bytes for what is no piece
    if rules:
        data += _message(3, _message(1, b"identity") + b"\x18" + bytes([prefix]) + b"\x20\x00")
    file.write_bytes(data)
    return {piece: number for number, piece in enumerate(names)}


def tokenizer(own: Sequence[str] = (), prefix: bool = False) -> Any:
    """The same by the package `tokenizers`, a second writing."""
    from tokenizers import Tokenizer, models, normalizers

    names = {piece: number for number, piece in enumerate(vocabulary(own))}
    # SentencePiece joins any two neighbours that make a piece: each piece stands for all its cuts in two.
    whole = list(dict.fromkeys(first + second for first, second in merges()))
    cuts = [(piece[:end], piece[end:]) for piece in whole for end in range(1, len(piece))]
    known = [(first, second) for first, second in cuts if first in names and second in names]
    made = Tokenizer(
        models.BPE(vocab=names, merges=known, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    made.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend(SPACE)] if prefix else []), normalizers.Replace(" ", SPACE)]
    )
    return made
