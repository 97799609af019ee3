"""How other projects read what a judge wrote, reproduced with their defects, for comparison only.

`grade.parse_grade` and the probabilities of the reward `consistency` are what to use.
"""

import re
from collections.abc import Iterator

BOXED = re.compile(r"\\box(?:es)?\{([01](?:\.\d)?)\}")
TAGGED = re.compile(r"<answer>\s*([01](?:\.\d)?)\s*</answer>")
FIRST = re.compile(r"\b([01](?:\.\d)?)\b")
AFTER_THINKING = (
    re.compile(r"</think>\s*<answer>\s*([\d.]+)\s*</answer>"),
    re.compile(r"</think>\s*([\d.]+)"),
)
COUNTED = (re.compile(r"Total Wrong Steps\*\*:\s*(\d+)"), re.compile(r"\*\*(\d+)\s+wrong steps\*\*"))


def sophia_grade(text: str) -> float:
    """SophiaVL-R1 (a818494), the thinking reward model's grade: 0 to 1.

    Defects: one decimal is read at most, so 0.85 and .7 are 0 and so is whatever cannot be read; any 0 or 1
    of the text comes before the number after the thinking; and three wrong steps are a grade of 1.
    """
    first = next(_numbers(text), "0")
    try:
        return min(float(first), 1.0)
    except ValueError:  # such as 1.2.3, where theirs fails ten times and gives 0
        return 0.0


def _numbers(text: str) -> Iterator[str]:
    """What each of their expressions finds, in their order."""
    for expression in (BOXED, TAGGED, FIRST, *AFTER_THINKING, *COUNTED):
        if match := expression.search(text):
            yield match[1]


def r1_reward_referee(text: str) -> float:
    """R1-Reward (3693413), whether the referee finds reasoning and answer consistent: 1, -1, or 0 if unread.

    Defect: a 0 anywhere comes first, so that "1.0" and "10 of 10" are a no.
    """
    if "0" in text:
        return -1.0
    return float("1" in text)
