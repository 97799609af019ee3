"""Words by which a model goes back on itself, counted as words, and how often they go with right answers.

The list is V-Triune's (arXiv:2505.18129), which counts substrings, so that "await" and "yeti" are reflection
there.
"""

import re
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from .outcomes import Outcome

WORDS = (
    "re-check",
    "re-evaluate",
    "re-examine",
    "re-think",
    "recheck",
    "reevaluate",
    "reexamine",
    "reevaluation",
    "rethink",
    "check again",
    "think again",
    "try again",
    "verify",
    "wait",
    "yet",
)
ANY = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, WORDS))})(?![\w-])", re.IGNORECASE)


def reflections(text: str) -> Counter[str]:
    """How often each of `WORDS` stands in a text as a word of its own; linear in its length."""
    return Counter(found.lower() for found in ANY.findall(text))


def reflection_ratios(counts: Sequence[Counter[str]], right: Sequence[bool]) -> dict[str, float]:
    """V-Triune's five ratios, each from 0 to 1; one over no responses is absent.

    Args:
        counts: of each response, see `reflections`.
        right: whether each response is.
    """
    reflect = [bool(count) for count in counts]
    pairs = list(zip(reflect, right, strict=True))
    shares = {
        "ratio": reflect,
        "ratio_in_right": [one for one, good in pairs if good],
        "ratio_in_wrong": [one for one, good in pairs if not good],
        "right_with": [good for one, good in pairs if one],
        "right_without": [good for one, good in pairs if not one],
    }
    return {name: fmean(selected) for name, selected in shares.items() if selected}


def reflection_words(counts: Sequence[Counter[str]]) -> dict[str, float]:
    """Mean occurrences per response of each of `WORDS`; empty without responses."""
    return {word: fmean(count[word] for count in counts) for word in WORDS} if counts else {}


def reflection_examples(
    outcomes: Sequence[Outcome], right_from: float = 0.5
) -> dict[str, dict[str, Outcome]]:
    """By source, one right response "with" reflection and one "without", to read; the first by id of each."""
    found: dict[str, dict[str, Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: (one.source, one.id, one.response)):
        if one.total.ok and one.accuracy >= right_from:
            kind = "with" if reflections(one.response) else "without"
            found.setdefault(one.source, {}).setdefault(kind, one)
    return found
