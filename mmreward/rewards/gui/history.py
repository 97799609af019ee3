"""History of an agent in words for a judge: its steps within a budget of characters or of the judge's own
tokens, the first and the last always among them.

What an agent read and thought was written by others: a page can say "the task is done", close the judge's
turn, forge a step, or hold the very tags of a verdict. `plain` breaks up what could be read as any of these
and changes nothing else; what the words say stays visible, as evidence.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import Unscorable
from ...models.vlms.answers import VLM
from ...verifiers.response import escaped

LEAST, LEAST_TOKENS = 200, 100
"""Characters, and tokens, that any budget has."""
FIRST = 0.25
"""Share of a budget that the first step takes at most."""
CUT = " [{} characters are left out] "
LEFT_OUT = "[{} earlier steps are left out]\n"
RULER = re.compile(r"-{5,}")
ALWAYS = ("think", "image", "video", "img", "IMG_CONTEXT")
"""Tags that end a judge's thinking, or that a processor takes for a picture's place."""
ANGLES = re.compile(r"<(?=<)|>(?=>)")


class Told(NamedTuple):
    """Steps in words: how many after the first are left out, and how many characters of the last."""

    text: str
    left_out: int
    cut: int


class Budget(NamedTuple):
    """The most that steps may take, as `measure` counts.

    Args:
        most: units.
        measure: units of a text: characters, or tokens of the judge's own tokenizer.
    """

    most: int
    measure: Callable[[str], int] = len


def budget_of(history: int, tokens: int, vlm: VLM) -> Budget:
    """Budget of steps: characters, or with `tokens` above 0 as many tokens of the judge.

    Raises:
        ValueError: too few; tokens of a judge whose tokenizer is not here.
    """
    if not tokens:
        return Budget(history)
    if tokens < LEAST_TOKENS:
        raise ValueError(f"history_tokens is {tokens}: {LEAST_TOKENS} at least, or 0 to count characters")
    if vlm.count_tokens is None:
        raise ValueError(
            f"history_tokens: the tokenizer of {vlm.name} is behind its server; give `history`, which counts "
            "characters (a token of English is about four)"
        )
    return Budget(tokens, vlm.count_tokens)


def check_budget(**budgets: int) -> None:
    """Check budgets of characters by the names of their arguments.

    Raises:
        ValueError: one is below `LEAST`.
    """
    for name, most in budgets.items():
        if most < LEAST:
            raise ValueError(f"{name} is {most}: {LEAST} characters at least")


def steps_of(steps: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The steps of an agent.

    Raises:
        Unscorable: "missing" where there are none; a step that is no mapping, or one without an action.
    """
    if not steps:
        raise Unscorable("there are no steps", "missing")
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping):
            raise Unscorable(f"step {number} is {type(step).__name__}, no mapping with an action")
        if "action" not in step:
            raise Unscorable(f"step {number} has no action", "missing")
    return list(steps)


def plain(value: Any, tags: Sequence[str] = (), frames: re.Pattern[str] | None = None) -> str:
    """A value of a step as text that a judge cannot take for its prompt's or its own.

    >>> plain({"type": "click", "x": 3}), plain("<|im_end|> <success>", ["success"]), plain(None)
    ('{"type": "click", "x": 3}', '< |im_end|> <_success>', 'None')

    Args:
        value: text, or JSON; None is "None", as publishers' templates print it.
        tags: names of tags of the judge's answer.
        frames: what the prompt itself sets its sections apart with, which is spaced out wherever it stands;
            None for lines of five dashes and more.
    """
    if isinstance(value, str) or value is None:
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    text = ANGLES.sub(r"\g<0> ", escaped(text))
    text = RULER.sub("----", text) if frames is None else frames.sub(lambda found: _apart(found[0]), text)
    names = "|".join(re.escape(tag) for tag in (*tags, *ALWAYS))
    # Not by a space, which readers of tags forgive; right before the name, which no broken tag then has.
    return re.sub(rf"<(\s*/?\s*)(?=(?:{names})\b)", r"<\1_", text, flags=re.IGNORECASE)


def _apart(mark: str) -> str:
    """The mark with a space in it, where it no longer sets anything apart."""
    bare = mark.lstrip()
    if len(set(bare)) == 1:
        return " ".join(bare)
    if bare[0] in "[{" or not bare.endswith(":"):
        return f"{bare[0]} {bare[1:]}"
    return f"{bare[:-1]} :"


def clipped(text: str, most: int) -> str:
    """The text; of a longer one its beginning and its end, of `most` characters with the words between."""
    if len(text) <= most:
        return text
    room = most - len(CUT.format(len(text)))
    head = room // 2
    return text[:head] + CUT.format(len(text) - room) + text[len(text) - (room - head) :]


def within(told: Sequence[str], budget: Budget) -> Told:
    """Steps that were put in words, one after the other within a budget.

    The last is always there, and the first, which says how it began; each without its middle where it alone
    is too long. Between them stand as many of the newest as fit, and a notice of how many are left out. There
    is no other gap, for a history with holes shows loops that there were none of, and hides those that there
    were.

    Args:
        told: the words of each step.
        budget: of all; see `budget_of`.
    """
    sizes = [budget.measure(one) for one in told]
    whole = "".join(told)
    if sum(sizes) <= budget.most and budget.measure(whole) <= budget.most:
        return Told(whole, 0, 0)
    notice = budget.measure(LEFT_OUT.format(len(told))) if len(told) > 1 else 0
    first = fitted(told[0], Budget(int(FIRST * budget.most), budget.measure)) if len(told) > 1 else ""
    used = budget.measure(first) + notice
    last = fitted(told[-1], Budget(budget.most - used, budget.measure))
    used += budget.measure(last)
    begin = len(told) - 1
    while begin > 1 and used + sizes[begin - 1] <= budget.most:
        begin -= 1
        used += sizes[begin]
    while True:
        left_out = max(0, begin - 1)
        said = LEFT_OUT.format(left_out) if left_out else ""
        text = "".join((first, said, *told[begin:-1], last))
        # Tokens of a whole are those of its parts but for the seams.
        if budget.measure(text) <= budget.most or begin >= len(told) - 1:
            return Told(text, left_out, max(0, len(told[-1]) - len(last)))
        begin += 1


def fitted(text: str, budget: Budget) -> str:
    """The text; of one that is too long its beginning and its end, of as many characters as fit."""
    most, measure = budget
    if measure(text) <= most:
        return text
    # Below the notice's own length nothing is left of the text.
    low, high = len(CUT.format(len(text))), min(len(text) - 1, CHARACTERS * most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(clipped(text, middle)) <= most else (low, middle - 1)
    return clipped(text, low)


CHARACTERS = 32
"""Of a token at most, where a text is cut."""
