"""Plain text as two writers of the same words would write it, and the edit distance between two texts.

One Unicode form (NFKC), single spaces; case and punctuation by choice. Everything is linear in the text but
the edit distance, which is exact (Levenshtein, over characters or words) and packs a column of its table into
one integer.
"""

import re
import unicodedata
from collections.abc import Hashable, Sequence

MAX_MARKS = 30
"""Combining marks in a row that are kept, as in Unicode's stream-safe format (UAX 15): sorting a longer run
takes quadratic time, which a policy could find."""
MARKS = re.compile(rb"([^\0]{%d})[^\0]+" % MAX_MARKS)
EDGES = " \t\r\n.,:;!?'\"`*_()[]{}<>$\u2018\u2019\u201c\u201d\u3002"


def nfkc(text: str) -> str:
    """Unicode's NFKC form, in linear time: full-width letters and digits become plain, ligatures come
    apart."""
    if text.isascii():
        return text
    classes = bytes(map(unicodedata.combining, text))
    kept, at = [], 0
    for run in MARKS.finditer(classes):
        kept.append(text[at : run.end(1)])
        at = run.end()
    return unicodedata.normalize("NFKC", "".join([*kept, text[at:]])).replace("\u2212", "-")


def normalise(text: str, *, casefold: bool = True, punctuation: bool = True) -> str:
    """Text in NFKC with single spaces.

    Args:
        text: anything.
        casefold: make upper and lower case equal.
        punctuation: keep it; without, every character of Unicode's classes P is dropped.
    """
    normal = nfkc(text)
    if casefold:
        normal = normal.casefold()
    if not punctuation:
        normal = "".join(c for c in normal if not unicodedata.category(c).startswith("P"))
    return " ".join(normal.split())


def normalise_name(text: str) -> str:
    """Name in the form in which names are compared: no case, single spaces, no underscores or outer
    punctuation.

    `C++` and `C` stay two names, and so do `cat` and `cats`.
    """
    return normalise(text.replace("_", " ")).strip(EDGES)


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions between two sequences.

    A whole column of the table is one integer (Myers 1999, in Hyyro's form for the distance itself), so
    20,000 against 20,000 characters take a fifth of a second rather than minutes.
    """
    start = 0  # a shared beginning costs nothing, and is most of a transcription that is nearly right
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    a, b = a[start:], b[start:]
    if not a or not b:
        return len(a) + len(b)
    if len(a) > len(b):
        a, b = b, a
    places: dict[Hashable, int] = {}
    for position, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << position
    top, full = 1 << (len(a) - 1), (1 << len(a)) - 1
    rises, falls, distance = full, 0, len(a)  # of the table, from one row of the column to the next
    for item in b:
        equal = places.get(item, 0)
        down = equal | falls
        across = ((equal & rises) + rises) ^ rises | equal
        up = falls | full & ~(across | rises)
        back = rises & across
        distance += bool(up & top) - bool(back & top)
        up = up << 1 | 1
        rises = full & (back << 1 | ~(down | up))
        falls = up & down & full
    return distance
