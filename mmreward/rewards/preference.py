"""Preference: a VLM looks at two pictures for one request, reasons, and says which fits better.

The engine asks about every pair in both orders, so a judge that always prefers what comes first gives two
opposite verdicts, which make a tie.
"""

from typing import Any, Literal

from .. import models
from ..failures import Unscorable
from ..judges.asking import QUESTION, SYSTEM, Asking, Sampling
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.branches import CRITERIA
from ..verifiers.which import TIE


@reward("preference", needs=("prompt", "image"), range=(0.0, 1.0), arity="pair", paper="arXiv:2503.05236")
def preference(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    turns: Literal[1, 2] = 1,
    question: str = QUESTION,
    system: str = SYSTEM,
    criteria: tuple[str, ...] = CRITERIA,
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    dtype: str = "float32",
) -> Any:
    """1 where the first of two pictures fits the request better, 0 where the second does, 0.5 for a tie.

    What a sample gets is the mean over both orders and over all others of its group, see `Engine.score`;
    `parts["swing"]` is the mean disagreement between the orders, 1 for a judge that goes by the place. A
    judgement without a readable verdict is "unparsable".

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one), such as one trained by
            `python -m mmreward.evals.judge_training`.
        turns: 1, or 2 for a judge that thinks twice (BR-RM, arXiv:2510.23596), see `judges.asking.Asking`.
        question: of one turn, with `{prompt}` where the request stands.
        system: the system message; "" for none.
        criteria: what the first of two turns chooses from.
        max_tokens: where each turn is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling.
        dtype: of the judge.
    """
    asking = Asking(turns=turns, question=question, system=system, criteria=criteria)
    vlm = models.vlm(judge, dtype=dtype)
    sampling = Sampling(max_tokens, temperature, seed)

    async def score(first: Sample, second: Sample) -> Score:
        if first.prompt != second.prompt:
            raise Unscorable(f"two requests in one group: {first.prompt[:60]!r} and {second.prompt[:60]!r}")
        pictures = tuple(one.image for one in (first, second) if one.image is not None)
        judged = await asking.ask(vlm, first.prompt, pictures, sampling)
        value = 0.5 if judged.verdict == TIE else float(judged.verdict == "1")
        return Score(value, note="\n\n".join(judged.turns))

    return score
