"""Comparisons and rationales as the rows of trainers that take chat messages and pictures, such as TRL's."""

from collections.abc import Iterable
from typing import Any

from .asking import Asking
from .comparison import Comparison
from .rationales import Rationale

SOURCE = "comparison"
Row = dict[str, Any]


def lessons(rationales: Iterable[Rationale], asking: Asking) -> list[Row]:
    """Rows of `prompt`, `completion` and `images` for supervised fine-tuning, one per turn.

    The prompt is what a judge will be asked, without any hint.

    Raises:
        Unscorable: a first of two turns that cannot be read.
    """
    rows = []
    for one in rationales:
        messages = _opened(one.comparison, asking)
        for place, said in enumerate(one.turns):
            if place:
                messages = [*messages, _message("user", asking.following(one.turns[place - 1]))]
            answer = _message("assistant", said)
            rows.append({"prompt": messages, "completion": [answer], "images": _pictures(one.comparison)})
            messages = [*messages, answer]
    return rows


def exercises(asked: Iterable[Comparison], asking: Asking) -> list[Row]:
    """Rows of `prompt`, `images`, `source` and `target` ("1" or "2") for reinforcement learning."""
    return [
        {
            "prompt": _opened(one, asking),
            "images": _pictures(one),
            "source": SOURCE,
            "target": one.better,
        }
        for one in asked
    ]


def _opened(one: Comparison, asking: Asking) -> list[dict[str, str]]:
    system = [_message("system", asking.system)] if asking.system else []
    return [*system, _message("user", asking.opening(one.request))]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _pictures(one: Comparison) -> list[Any]:
    return [picture.picture() for picture in one.pictures]
