"""Critique: a VLM explains what is right and wrong with a picture, aspect by aspect, before it gives numbers.

The layout and the 1-to-4 scale follow RationalRewards (arXiv:2604.11626). Scores that are missing, out of
range or contradict each other are typed failures; no value is filled in for them.
"""

from collections.abc import Mapping
from typing import Any

from .. import models
from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.aspects import parse_aspects

PROMPT = """Judge how well this picture answers the request.
Request: {prompt}
For each aspect write a heading, one line of justification and a score from {low} (worst) to {high} (best), \
or N/A if it does not apply:
{aspects}
Use exactly this layout for every aspect:
## <aspect>
Justification: <one line>
Score: <number or N/A>"""
ASPECTS = {
    "Text faithfulness": "the picture shows everything the request names, and nothing else",
    "Visual quality": "the picture is clean and free of artifacts",
}


@reward("critique", needs=("prompt", "shown"), range=(0.0, 1.0), paper="arXiv:2604.11626")
def critique(
    aspects: Mapping[str, str] | None = None,
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    low: float = 1.0,
    high: float = 4.0,
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    dtype: str = "float32",
) -> Any:
    """Mean score over the aspects that apply, mapped from [low, high] to [0, 1]; the critique is in the note.

    `parts` holds each aspect's score on the judge's own scale. The score is "unparsable" when the text was
    cut off or gives two different scores for an aspect, "missing" when an aspect has none, "out_of_range"
    when one lies outside [low, high], and "na" when no aspect applies.

    Args:
        aspects: name -> what it asks; default text faithfulness and visual quality.
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        low: the worst score the judge may give.
        high: the best.
        max_tokens: where a critique is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling.
        dtype: of the judge.
    """
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    wanted = dict(aspects or ASPECTS)
    vlm = models.vlm(judge, dtype=dtype)
    listing = "\n".join(f"- {name}: {text}" for name, text in wanted.items())

    async def score(sample: Sample) -> Score:
        fields = {"prompt": sample.prompt, "low": f"{low:g}", "high": f"{high:g}", "aspects": listing}
        prompt = PROMPT.format(**fields)
        written = await vlm.write(
            sample.shown, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        if not written.finished:
            raise Unscorable(f"cut off after {written.tokens} tokens: {written.text[:200]}", "unparsable")
        parts = parse_aspects(written.text, list(wanted), low, high)
        if not parts:
            raise Unscorable(f"no aspect applies: {written.text[:200]}", "na")
        mean = sum(parts.values()) / len(parts)
        return Score((mean - low) / (high - low), parts, note=written.text)

    return score
