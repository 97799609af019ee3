"""When something happens in a video."""

from typing import Any

from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.answer import segment
from ..verifiers.expected import Several, expect_one
from ..verifiers.matching import best_match, ramp
from ..verifiers.spans import Span, read_spans, spans_of, t_ious
from ..verifiers.verdict import Verdict, verified

PARTS = ("t_iou", "precision", "recall", "found", "true")


@reward(
    "temporal",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2503.13377",
    example={"response": "<answer>12.5s - 20s</answer>", "target": [12.0, 20.0]},
)
def temporal(
    threshold: float = 1.0,
    width: float = 1.0,
    several: Several = "refuse",
    empty_decay: float = 0.5,
    bare: bool = False,
) -> Any:
    """How well the time spans of an answer fit the true ones, by temporal IoU, 0 to 1.

    The answer is "12.5s - 20s", "1:02 to 1:10", [12.5, 20] or {"start": 12.5, "end": 20}, in seconds or clock
    times and with no other words. For one true span it is one span: several are worth 0 unless the first or
    the last is declared to count. For more the value is the F1 of the best one-to-one match. A span that ends
    before it starts matches nothing. Naming the whole video earns its overlap; with `threshold` 0.7 and
    `width` 0.4 it earns nothing where the event takes less than 0.3 of the video.

    Args:
        threshold: the temporal IoU from which a span counts in full.
        width: below the threshold, the span over which its worth falls to 0 (smoothstep).
        several: "refuse", "first" or "last".
        empty_decay: with no true spans the value is this to the power of the number of spans.
        bare: accept spans that are not inside `<answer>` tags.
    """
    if not 0 < threshold <= 1 or not 0 < width <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(
            f"threshold {threshold} and width {width} lie in (0, 1], empty_decay {empty_decay} in [0, 1)"
        )

    async def score(sample: Sample) -> Score:
        truth = _truth(sample.target)

        def check() -> Verdict:
            spans = read_spans(segment(sample.response or "", bare=bare).answer)
            counted = [expect_one(spans, several, "span")] if len(truth) == 1 else spans
            overlap = t_ious(counted, truth)
            match = best_match(ramp(overlap, threshold, width), decay=empty_decay)
            matched = float(overlap[match.rows, match.columns].sum())
            parts = {
                "t_iou": matched / len(truth) if truth else float(not spans),
                "precision": match.precision,
                "recall": match.recall,
                "found": float(len(spans)),
                "true": float(len(truth)),
            }
            return Verdict(match.f1, parts)

        return verified(check, PARTS)

    return score


def _truth(target: Any) -> list[Span]:
    spans = spans_of(target)
    truth = [span for span in spans if span is not None]
    if len(truth) < len(spans):
        raise Unscorable(
            f"a target span is not [start, end] in seconds with start < end: {str(target)[:200]}"
        )
    return truth
