"""The first of a judge's two turns (BR-RM, arXiv:2510.23596): what it will look at, and what it noticed.

    Look at: number, colour
    Picture 1: ...
    Picture 2: ...

Pure string work, strict: a policy that skips the noticing is not paid for the verdict.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..failures import Unscorable

CRITERIA = ("colour", "shape", "number", "place", "text", "style", "realism", "artifacts")
WRITTEN = "written_turns"
"""Where a sample's `meta` holds the list of what was written, turn by turn; the last is its response."""
MOST = 3
HEADS = ("look at", "picture 1", "picture 2")
SEPARATORS = re.compile(r",|;|\band\b")


class Branch(NamedTuple):
    """One to three criteria, and what the judge holds against each picture."""

    criteria: tuple[str, ...]
    issues: tuple[str, str]


def read_branch(text: str, criteria: Sequence[str] = CRITERIA) -> Branch:
    """Read a first turn.

    Raises:
        Unscorable: "unparsable" when the three heads are not there once each and in order, a text is empty,
            or the criteria are none, more than three, unknown, or named twice.
    """
    heads, said = [], []
    for line in text.splitlines():
        head, colon, rest = line.replace("*", "").strip().partition(":")
        if colon and head.strip().lower() in HEADS:
            heads.append(head.strip().lower())
            said.append(rest.strip())
        elif line.strip() and said:
            said[-1] = f"{said[-1]} {line.strip()}".strip()
        elif line.strip():
            raise Unscorable(f"the first turn begins with {line.strip()[:60]!r}", "unparsable")
    if tuple(heads) != HEADS or not all(said):
        raise Unscorable(f"the first turn says {', '.join(heads) or 'nothing'}; it needs each of "
                         f"{', '.join(HEADS)} once, and something after it", "unparsable")  # fmt: skip
    named, first, second = said
    return Branch(_chosen(named, criteria), (first, second))


def _chosen(named: str, criteria: Sequence[str]) -> tuple[str, ...]:
    known = {name.lower(): name for name in criteria}
    asked = [part.strip(" .").lower() for part in SEPARATORS.split(named[:400]) if part.strip(" .")]
    unknown = [name for name in asked if name not in known]
    if unknown or not 1 <= len(asked) <= MOST or len(set(asked)) != len(asked) or len(named) > 400:
        raise Unscorable(
            f"the criteria are {named[:60]!r}; one to {MOST} of {', '.join(criteria)} can be chosen",
            "unparsable",
        )
    return tuple(known[name] for name in asked)
