"""Mutated judgements: 10,000 texts near a grammar, none of which may raise anything but a typed failure."""

import math
import random

from mmreward import Unscorable
from mmreward.errors import STATUSES

PIECES = (
    *(
        "\n",
        " ",
        "#",
        "*",
        ":",
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        "(",
        "/",
        "-",
        "\u2212",
        "\uff11",
        "\u0660",
        "\x00",
    ),
    *(
        "Score",
        "N/A",
        "nan",
        "inf",
        "1e9",
        "9" * 400,
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "```json",
    ),
    *("Image 1 is better", "Both images are equally good", "Winner", "\ud800", "\u202e", "=", "+"),
)


def mutated(text, rng):
    """The text with one to four edits: pieces put in, lines dropped, doubled or moved, ends cut off."""
    for _ in range(rng.randint(1, 4)):
        kind, at = rng.randrange(6), rng.randrange(len(text) + 1)
        if kind == 0:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 12) :]
        elif kind == 2:
            text = text[:at]
        else:
            lines = text.split("\n")
            row = rng.randrange(len(lines))
            line = lines.pop(row)
            if kind > 3:
                lines.insert(rng.randrange(len(lines) + 1), line)
            if kind == 5:
                lines.insert(rng.randrange(len(lines) + 1), line)
            text = "\n".join(lines)
    return text


def never_raise_nor_pay(read, texts, hedges, *, seed, count=5000, finite=lambda marks: marks.parts.values()):
    """Read `count` mutations: a typed failure or finite marks; and no text that still holds a hedge where a
    mark belongs is read.

    Args:
        hedges: words that leave a choice; texts that hold one are never to be read unmutated.
    """
    rng = random.Random(seed)
    for text in texts:
        if any(f" {hedge}\n" in text for hedge in hedges):
            try:
                marks = read(text)
            except Unscorable as failure:
                assert failure.status in STATUSES
            else:
                raise AssertionError(f"{marks} of a hedge: {text}")
    for _ in range(count):
        text = mutated(rng.choice(texts), rng)
        try:
            marks = read(text)
        except Unscorable as failure:
            assert failure.status in STATUSES and str(failure)
            continue
        assert all(math.isfinite(mark) for mark in finite(marks)), text
        read_part = text.rpartition("</think>")[2].partition("# Summary")[0]
        assert not any(f": {hedge}\n" in read_part for hedge in hedges), (text, marks)
