"""Our metrics under the names V-Triune logs, for dashboards made for it.

The numbers stay ours: right means an accuracy from a threshold on (there: exactly 1), words are counted as
words (there: substrings), and precision at an IoU is that of an optimal match. What V-Triune does not log
keeps its name.
"""

import re
from collections.abc import Mapping

from .metrics import OVERALL, SOURCES

PAY = {"score": "final_reward", "accuracy": "accuracy_reward", "format": "format_reward"}
FIGURES = {
    "advantage": "rews/advantage",
    "return": "rews/return",
    "reward": "rews/total_rew",
    "value": "training/vf_value",
    "explained_variance": "training/vf_explained_var",
}
"""Of the trainer: `reward` is what is left of the score after its penalties."""
LENGTHS = {
    "length/mean": "mean_length",
    "length/clip_ratio": "length_clip_ratio",
    "length/right/mean": "mean_correct_length",
    "length/right/clip_ratio": "length_correct_clip_ratio",
    "length/wrong/mean": "mean_wrong_length",
    "length/wrong/clip_ratio": "length_wrong_clip_ratio",
}
RATIOS = {
    "reflection/ratio": "reflection_ratio",
    "reflection/ratio_in_right": "reflection_ratio_in_correct_answers",
    "reflection/ratio_in_wrong": "reflection_ratio_in_incorrect_answers",
    "reflection/right_with": "correct_ratio_in_reflection_texts",
    "reflection/right_without": "correct_ratio_in_no_reflection_texts",
}
WORD = "reflection/word/"
BOXES = re.compile(r"component/iou_(\d\d)/(precision|recall)")


def vtriune_names(metrics: Mapping[str, float], split: str = "") -> dict[str, float]:
    """The same values under V-Triune's names.

    Args:
        metrics: of `source_metrics`.
        split: "val" or "test" gives the names of a validation, which are means by source and nothing else.
    """
    renamed: dict[str, float] = {}
    for name, value in metrics.items():
        block, _, figure = name.partition("/")
        if split:
            source, _, figure = figure.partition("/")
            if block == SOURCES and (pay := _pay(figure)):
                renamed[f"{split}_{pay}/{source}"] = value
        elif block == SOURCES:
            source, _, figure = figure.partition("/")
            renamed[_of_source(source, figure) or name] = value
        else:
            renamed[(block == OVERALL and _overall(figure)) or name] = value
    if not split and f"{OVERALL}/score" in metrics:
        renamed["rews/total_score"] = metrics[f"{OVERALL}/score"]
    return renamed


def _overall(figure: str) -> str:
    if figure in LENGTHS:
        return f"response_length/{LENGTHS[figure]}"
    if figure.startswith("prompt_length/"):
        return figure
    if figure.removeprefix("figure/") in FIGURES and figure.startswith("figure/"):
        return FIGURES[figure.removeprefix("figure/")]
    pay = _pay(figure)
    return f"rews/{pay}" if pay else ""


def _of_source(source: str, figure: str) -> str:
    if figure in LENGTHS:
        return f"response_length_{source}/{LENGTHS[figure]}"
    if figure in RATIOS:
        return f"reflection_ratios_{source}/{RATIOS[figure]}"
    if figure.startswith(WORD):
        return f"reflection_words_{source}/{figure.removeprefix(WORD)}"
    pay = _pay(figure)
    return f"rews_{pay}/{source}" if pay else ""


def _pay(figure: str) -> str:
    """What V-Triune calls a reward or a part of one; empty where it has none."""
    if boxes := BOXES.fullmatch(figure):
        return f"report_iou_{boxes[1]}_label_match_{boxes[2]}_reward"
    return PAY.get(figure, "")
