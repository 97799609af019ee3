"""Critique: a VLM explains what is right and wrong with a picture, aspect by aspect, before it gives numbers.

The layout and the 1-to-4 scale follow RationalRewards (arXiv:2604.11626). `parse_aspects` reads the scores
out of the layouts judges really write: headings with #, *, numbers or a colon; "Score: 3", "**Score:** 3.5",
"Score" with the number on the next line, "3/4" when 4 is the best score, N/A. Scores that are missing, out of
range or contradict each other are typed failures; no value is guessed or filled in for them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import media_of
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.text import nfkc
from .looking import equipment
from .tools import case_of

VALUE = re.compile(r"([+-]?\d{1,6}(?:\.\d{1,6})?)(?:\s*(?:/|out of)\s*(\d{1,6}(?:\.\d{1,6})?))?\.?")
NOT_APPLICABLE = ("n/a", "na", "not applicable", "none")
ORNAMENT = "#*_`>- \t"


def parse_aspects(text: str, names: Sequence[str], low: float, high: float) -> dict[str, float]:
    """Read scores by aspect, on the judge's scale; aspects marked N/A are left out.

    Raises:
        Unscorable: "missing" when an aspect has no score, "unparsable" when one has two different ones or one
            that is no number, "out_of_range" when one lies outside [low, high].
    """
    found: dict[str, float | None] = {}
    known = {_plain(name): name for name in names}
    current, awaiting = "", False
    for line in text.rpartition("</think>")[2].splitlines():
        # A heading selects the aspect; its score stands beside it, after "Score", or on the next line that
        # says anything. Every other line is justification, whose numbers mean nothing.
        words = re.sub(r"^\d+[.)]\s*", "", _plain(line))
        head, colon, rest = (_bare(part) for part in words.partition(":"))
        if head in known:
            current, awaiting = known[head], False
            words = rest
            if not rest or not VALUE.fullmatch(rest):
                continue
        elif head == "score" or head.startswith("score ("):
            awaiting = True
            words = rest if colon else ""
        elif not awaiting:
            continue
        if not words or not current:
            continue
        awaiting = False
        score = _value(words, low, high, current)
        if current in found and found[current] != score:
            raise Unscorable(f"{current} has two scores, {found[current]} and {score}", "unparsable")
        found[current] = score
    absent = [name for name in names if name not in found]
    if absent:
        raise Unscorable(f"no score for {', '.join(absent)} in: {text[:200]}", "missing")
    return {name: score for name in names if (score := found[name]) is not None}


def _plain(text: str) -> str:
    normal = nfkc(text).replace("**", "")
    return " ".join(_bare(normal.casefold()).split())


def _bare(text: str) -> str:
    """Text without ornament around it; a minus right before a digit is no ornament."""
    bare = text.strip(ORNAMENT)
    negative = bare[:1].isdigit() and text[: len(text.rstrip(ORNAMENT)) - len(bare)].endswith("-")
    return f"-{bare}" if negative else bare


def _value(words: str, low: float, high: float, name: str) -> float | None:
    if words.rstrip(".") in NOT_APPLICABLE:
        return None
    match = VALUE.fullmatch(words)
    if match is None or (match[2] and float(match[2]) != high):
        raise Unscorable(
            f"{name} has the score {words[:40]!r}, which is no number up to {high:g}", "unparsable"
        )
    score = float(match[1])
    if not low <= score <= high:
        raise Unscorable(f"{name} has the score {score:g}, outside {low:g} to {high:g}", "out_of_range")
    return score


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
    tools: tuple[str, ...] = (),
    calls: int = 8,
    tokens: int = 8192,
    seconds: float = 300.0,
    dtype: str = "float32",
) -> Any:
    """Mean score over the aspects that apply, mapped from [low, high] to [0, 1]; the critique is in the note.

    `parts` holds each aspect's score on the judge's own scale. The score is "unparsable" when the text was
    cut off or gives two different scores for an aspect, "missing" when an aspect has none, "out_of_range"
    when one lies outside [low, high], and "na" when no aspect applies.

    Args:
        aspects: name -> its question; default text faithfulness and visual quality.
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        low: the worst score the judge may give.
        high: the best.
        max_tokens: length at which a critique is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling.
        tools: that the judge may use before it writes: crop, frames, search and page (of the texts in
            `meta["pages"]`), calculate, ocr; see `judged.tools`. Every call stands in the note.
        calls: most calls of tools.
        tokens: most that a judge with tools writes in all its turns.
        seconds: most that a judge with tools takes.
        dtype: of the judge.
    """
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    wanted = dict(aspects or ASPECTS)
    vlm = models.vlm(judge, dtype=dtype)
    equipped = equipment(tools, calls, tokens, seconds)
    listing = "\n".join(f"- {name}: {text}" for name, text in wanted.items())

    async def score(sample: Sample) -> Score:
        fields = {"prompt": sample.prompt, "low": f"{low:g}", "high": f"{high:g}", "aspects": listing}
        prompt = PROMPT.format(**fields)
        looking = equipped and equipped.on(vlm, case_of(sample, media_of(sample.shown)))
        written = await (looking or vlm).write(
            sample.shown, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        if not written.finished:
            raise Unscorable(f"cut off after {written.tokens} tokens: {written.text[:200]}", "unparsable")
        parts = parse_aspects(written.text, list(wanted), low, high)
        if not parts:
            raise Unscorable(f"no aspect applies: {written.text[:200]}", "na")
        mean = sum(parts.values()) / len(parts)
        note = f"{looking.note}{written.text}" if looking else written.text
        return Score((mean - low) / (high - low), parts, note=note)

    return score
