"""The format rewards of other projects, reproduced with their defects, for comparison only.

Each gives the number that its project gives, in linear time; `form.judge` is what to train with.
"""

import re
from collections.abc import Callable, Mapping

ANSWER_AFTER_THINK = re.compile(r"</think>\s*<answer>")


def v_triune(text: str) -> float:
    """V-Triune (39bcf0d), of its mathverify verifier: 0.25 for each of four tags, with their line breaks.

    Defect: the order is not looked at, nor whether anything is inside.
    """
    tags = ("<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>")
    return sum(0.25 for tag in tags if text.count(tag) == 1)


def vlm_r1(text: str) -> float:
    """VLM-R1 (90052f4): 1 for thinking, spaces and an answer, from the first character to the last.

    Defect: both may be empty, and the tags may nest or repeat inside.
    """
    if not (text.startswith("<think>") and text.endswith("</answer>")):
        return 0.0
    joint = ANSWER_AFTER_THINK.search(text, len("<think>"))
    return float(joint is not None and joint.end() <= len(text) - len("</answer>"))


def trl(text: str) -> float:
    """TRL (`think_format_reward`): 1 for a text that opens with its only `<think>` and closes it.

    Defect: the thinking may be empty, and nothing need follow.
    """
    return float(text.startswith("<think>") and text.count("<think>") == 1 and "</think>" in text)


PEERS: Mapping[str, Callable[[str], float]] = {"v_triune": v_triune, "vlm_r1": vlm_r1, "trl": trl}
