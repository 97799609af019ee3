"""The options of a multiple-choice question: letters, and what stands behind them where that is known."""

import re
from collections.abc import Mapping
from math import comb
from string import ascii_uppercase
from typing import Any

from ..failures import Unscorable
from .plain import name_of

Options = Mapping[str, str]
"""Capital letter -> the option's words as `name_of` gives them."""
PREFIXED = re.compile(r"\s*\(?([A-Za-z])[).:]\s*(\S.*)", re.DOTALL)


def options_of(given: Any) -> Options | None:
    """Read the options of a sample, None where there are none: texts in order (the first is A), or letter ->
    text.

    "A. cat" in a list loses its letter where all have theirs. A letter without text (null, as Arrow fills
    in) is no option.

    Raises:
        Unscorable: neither of these, or fewer than two options, or more than 26.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        letters = [str(key).strip(" ().").upper() for key, text in given.items() if text is not None]
        strange = [key for key in letters if len(key) != 1 or key not in ascii_uppercase]
        if strange or len(set(letters)) < len(letters):
            raise Unscorable(f"options are named by the letters A to Z, each once, not {strange or letters}")
        found = dict(zip(letters, (text for text in given.values() if text is not None), strict=True))
    elif isinstance(given, list | tuple):
        found = dict(zip(ascii_uppercase, _unprefixed([str(text) for text in given]), strict=False))
    else:
        raise Unscorable(f"options are a list of texts or letter -> text, not {type(given).__name__}")
    if len(found) < 2 or len(given) > len(ascii_uppercase):
        raise Unscorable(f"a question has 2 to {len(ascii_uppercase)} options: {str(given)[:200]}")
    return {letter: name_of(str(text)) for letter, text in found.items()}


def _unprefixed(texts: list[str]) -> list[str]:
    matches = [PREFIXED.fullmatch(text) for text in texts]
    letters = [match[1].upper() if match else "" for match in matches]
    if letters != list(ascii_uppercase[: len(texts)]):
        return texts
    return [match[2] for match in matches if match]


def chance(options: int, right: int, select: str) -> float:
    """What a blind guess earns on average: a letter for "one", else a set drawn from all that are not
    empty; 0 when the number of options is not known (0).

    The set of all options earns nothing under "jaccard" unless all are right, as in `choice.judge`.
    """
    if not options:
        return 0.0
    if select == "one":
        return 1 / options
    sets: int = 2**options - 1
    if select == "all":
        return 1 / sets
    wrong = options - right
    worth: float = sum(
        comb(right, hits) * comb(wrong, misses) * hits / (right + misses)
        for hits in range(right + 1)
        for misses in range(wrong + 1)
        if hits + misses
    )
    return (worth - (right / options if wrong else 0.0)) / sets
