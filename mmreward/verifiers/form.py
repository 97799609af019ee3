"""Whether a response has the declared form: what must be there, once, in order, and not empty.

Knows nothing of the answer's content. An empty shell of tags, which peers pay in full, earns the least.
"""

from dataclasses import dataclass
from typing import Literal

from .answer import boxed as inside_box
from .verdict import Verdict

PARTS = ("think", "answer", "boxed", "thought")


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What is declared.

    Args:
        think: `<think>` ... `</think>` comes first.
        answer: `<answer>` ... `</answer>` comes last, and holds something.
        boxed: exactly one `\\boxed{...}`, which holds something: in the answer, or after the thinking where
            no answer tags are declared.
        min_think_chars: characters, spaces not counted, from which the thinking counts in full.
        prefilled: the template opens `<think>` in the prompt, so that the response only closes it.

    Raises:
        ValueError: nothing is declared, or a negative number, or `prefilled` without `think`.
    """

    think: bool | Literal["optional"] = True
    answer: bool = True
    boxed: bool = False
    min_think_chars: int = 32
    prefilled: bool = False

    def __post_init__(self) -> None:
        if not (self.think is True or self.answer or self.boxed):
            raise ValueError("a form without thinking, answer and box declares nothing")
        if self.min_think_chars < 0 or (self.prefilled and self.think is not True):
            raise ValueError("min_think_chars is at least 0, and prefilled needs think")


def judge(text: str, form: Form) -> Verdict:
    """The fraction of the declared items that are there, each exactly once and in its place.

    Items are the thinking's tags, the thinking itself (min(1, characters / min_think_chars), counted where
    min_think_chars is above 0), the answer's tags with something inside, and the box. Text beside the
    declared tags costs the item that it stands next to.
    """
    thought, body, think = _thinking(text, form)
    inside, answer = _answer(body) if form.answer else (body, False)
    content = inside_box(inside) if inside.count("\\boxed") + inside.count("\\fbox") == 1 else None
    size = len("".join(thought.split()))
    parts = {
        "think": float(think),
        "answer": float(answer),
        "boxed": float(form.boxed and bool(content)),
        "thought": min(1.0, size / form.min_think_chars) if form.min_think_chars and think else 0.0,
    }
    declared = [name for name in ("think", "answer", "boxed") if getattr(form, name) is True]
    if form.think is True and form.min_think_chars:
        declared.append("thought")
    lacking = [name for name in declared if parts[name] < 1]
    note = f"not as declared: {', '.join(lacking)}" if lacking else ""
    return Verdict(sum(parts[name] for name in declared) / len(declared), parts, note)


def _thinking(text: str, form: Form) -> tuple[str, str, bool]:
    """The thinking, what follows it, and whether its tags are there as declared."""
    if not form.think or (form.think == "optional" and "think>" not in text):
        return "", text, False
    head, closed, body = text.partition("</think>")
    opened = 0 if form.prefilled else 1
    right = bool(closed) and text.count("<think>") == opened and text.count("</think>") == 1
    if not right or (opened and not head.lstrip().startswith("<think>")):
        return "", text, False
    return head.lstrip().removeprefix("<think>"), body, True


def _answer(body: str) -> tuple[str, bool]:
    """What the only answer holds, and whether it stands alone and is not empty."""
    text = body.strip()
    once = text.count("<answer>") == text.count("</answer>") == 1
    if not once or not text.startswith("<answer>") or not text.endswith("</answer>"):
        return "", False
    inside = text.removeprefix("<answer>").removesuffix("</answer>").strip()
    return inside, bool(inside)
