"""RoboReward (arXiv:2601.00675): a Qwen3-VL that marks the end of a robot's episode from 1 to 5.

Peers take an answer that cannot be read for a 1, "no progress". Here it is a failure with its reason, and
never a mark. The reasons begin with a word: truncated_reasoning, no_answer, non_integer, several_numbers,
out_of_range.
"""

import math
import re
from asyncio import gather
from typing import Any, Literal, NamedTuple

from ... import models
from ...engine.episodes import frames_of
from ...errors import Unscorable
from ...media import Media
from ...models.pinned import Pin
from ...models.vlms.answers import VLM
from ...registry import reward
from ...tracing import noted
from ...trajectories import check_rule
from ...types import Sample, Score
from ...verifiers.text import nfkc
from ..published.grammar import LONGEST, MINUS
from ..published.wording import Prompt, values_of, worded

LOW, HIGH = 1, 5
DIGITS = tuple(str(digit) for digit in range(LOW, HIGH + 1))
CUTS = (0.125, 0.375, 0.625, 0.875)
"""Progress at which the next label begins."""
THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
ANSWER = re.compile(
    r"\banswer[\s*_`]{0,8}:[\s*_`\[(]{0,8}([+-]?\d{1,9})(\.\d)?(?:\s{0,4}/\s{0,4}(\d{1,9}))?"
    r"(?P<more>[\s*_`]{0,8}(?:-|or\b|to\b|and\b|,)\s{0,8}\d)?",
    re.IGNORECASE,
)
ALONE = re.compile(r"(?<![\d.,/-])[1-5](?![\d/]|[.,-]\d)")

PROMPT = Prompt(
    # The publisher keeps the prompt on its model card alone; the copy is that of Robometer's evaluation.
    pins=(
        Pin("robometer/robometer", "c7f38e266e1c00ec1203f4f8dbfa64de36590a0c",
            "robometer/evals/baselines/roboreward.py", "RoboReward._build_prompt.prompt",
            "68e8322619e55795d51f9ca06d9b0b24ec89ee396b406e3b7e920268d7e76b9d"),
    ),
    fields={"{task}": "prompt"},
    own="The clip shows a robot that was told: {prompt}\nMark how the episode ends, whatever time it took. "
    "1: nothing that matters changed. 2: a little did. 3: much did, but the result is wrong in something "
    "important or in several things. 4: one small thing is missing. 5: all is as it was asked for.\n"
    "End with a line of this form: ANSWER: mark",
)  # fmt: skip


class Label(NamedTuple):
    """A mark from 1 to 5, the text before its digit, and what was odd about it."""

    value: int
    before: str = ""
    multiple: bool = False
    recovered: bool = False

    @property
    def progress(self) -> float:
        """The mark as a share, 0 to 1."""
        return (self.value - LOW) / (HIGH - LOW)


def read_label(text: Any, *, lenient: bool = False) -> Label:
    """The mark after the last ANSWER: of what the judge wrote, its thinking aside.

    Args:
        text: of the judge.
        lenient: where there is no ANSWER:, take the last digit from 1 to 5 that stands alone.

    Raises:
        Unscorable: "missing" without an answer, "unparsable" for one that is no whole number, leaves a choice
            or is of another scale than 5, and for thinking that was cut off; "out_of_range".
    """
    if not isinstance(text, str):
        raise Unscorable(f"no_answer: the judgement is {type(text).__name__}, not text", "missing")
    if len(text) > LONGEST:
        raise Unscorable(f"no_answer: {len(text)} characters; {LONGEST} are read", "unparsable")
    bare = THOUGHT.sub("", text)
    if "<think>" in bare.lower():
        raise Unscorable("truncated_reasoning: the thinking was never closed", "unparsable")
    plain = nfkc(bare).translate(MINUS)
    found = list(ANSWER.finditer(plain))
    if not found:
        digits = list(ALONE.finditer(plain)) if lenient else []
        if not digits:
            raise Unscorable(f"no_answer: no ANSWER: in {text.strip()[-200:]!r}", "missing")
        return Label(int(digits[-1][0]), plain[: digits[-1].start()], recovered=True)
    labels = [_label(one) for one in found]
    return labels[-1]._replace(multiple=len({one.value for one in labels}) > 1)


def _label(found: "re.Match[str]") -> Label:
    said = found[0].strip()[:60]
    if found[2]:
        raise Unscorable(f"non_integer: {said!r}", "unparsable")
    if found["more"]:
        raise Unscorable(f"several_numbers: {said!r} leaves a choice", "unparsable")
    if found[3] and int(found[3]) != HIGH:
        raise Unscorable(f"out_of_range: {said!r} is of another scale than {HIGH}", "out_of_range")
    value = int(found[1])
    if not LOW <= value <= HIGH:
        raise Unscorable(f"out_of_range: {said!r} is outside {LOW} to {HIGH}", "out_of_range")
    return Label(value, found.string[: found.start(1)])


def label_of(progress: float) -> int:
    """The mark of a progress from 0 to 1: cells of equal width round the marks, each with its lower end.

    Python's `round(4 * progress) + 1` goes to even numbers at the ends of cells: 0.125 and 0.375 give 1 and
    3, and the marks' cells have different widths.

    >>> [label_of(p) for p in (0.125, 0.375, 0.625, 0.875)]
    [2, 3, 4, 5]

    Raises:
        ValueError: outside 0 to 1.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}: from 0 to 1")
    return LOW + sum(progress >= cut for cut in CUTS)


async def expected(vlm: VLM, media: Media, text: str, before: str, system: str) -> tuple[float, float]:
    """Mean of the five marks by their probabilities in the place of the answer, and their mass together.

    Raises:
        Unscorable: as `VLM.logprob`.
    """
    read = await gather(*(vlm.logprob(media, text, d, given=before, system=system) for d in DIGITS))
    weights = [math.exp(one.total) for one in read]
    mass = math.fsum(weights)
    mean = math.fsum(int(digit) * weight for digit, weight in zip(DIGITS, weights, strict=True))
    return (mean / mass if mass > 0 else math.nan), mass


@reward(
    "roboreward",
    needs=("prompt", "episode"),
    range=(float(LOW), float(HIGH)),
    paper="arXiv:2601.00675",
    licence="of the weights: see the model card; the data set is CC-BY-4.0",
)
def roboreward(
    judge: str = "teetone/RoboReward-8B",
    how: Literal["label", "expected"] = "label",
    frames: str | int = "1 fps",
    max_frames: int = 16,
    view: str = "",
    lenient: bool = False,
    words: str = "published",
    max_tokens: int = 128,
    min_mass: float = 0.5,
    dtype: str = "float32",
) -> Any:
    """Mark of the end of a robot's episode, 1 (nothing changed) to 5 (all as asked), by RoboReward's judge.

    The prompt says the task. `parts` holds `progress`, (mark - 1) / 4, and the number of `frames`;
    `multiple_answers` is 1 where the judge changed its mind and the last answer counts.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        how: "label", the mark as written; "expected", the mean of the five marks by their probability in its
            place, with `parts["mass"]`, their probability together.
        frames: which frames are looked at, see `trajectories`; the last is always one.
        max_frames: evenly spaced ones of those, where they are more: of a whole clip each would be small.
        view: whose, where the steps have several.
        lenient: without an ANSWER: take the last digit that stands alone, as peers do; `parts["recovered"]`.
        words: "published", "own", or a file; see `published.wording.worded`.
        max_tokens: length at which a judgement is cut off.
        min_mass: smallest probability of the five marks together that is believed.
        dtype: of the judge.

    Raises:
        ValueError: `how` or `frames` is something else, or fewer than two frames.
    """
    if how not in ("label", "expected"):
        raise ValueError(f"how is {how!r}: label or expected")
    if max_frames < 2:
        raise ValueError(f"max_frames is {max_frames}: a clip has two frames at least")
    rule = check_rule(frames)
    wording = worded(words, PROMPT)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, rule, view=view, at_most=max_frames)
        clip = seen.evened().clip(1.0)  # as the judge was trained, whatever the distance of the frames
        text, _ = wording.filled(values_of((sample,)))
        said = await vlm.write(clip, text, max_tokens=max_tokens, system=wording.system)
        if not said.finished:
            raise Unscorable(f"no_answer: cut off after {said.tokens} tokens", "unparsable")
        label = read_label(said.text, lenient=lenient)
        noted("mark", "{} of 5", label.value)
        parts = {"label": float(label.value), "progress": label.progress, "frames": float(len(seen.numbers))}
        parts |= {"multiple_answers": float(label.multiple)}
        parts |= {"recovered": float(label.recovered)} if lenient else {}
        if how == "label":
            return Score(float(label.value), parts, note=said.text)
        mean, mass = await expected(vlm, clip, text, label.before, wording.system)
        parts |= {"mass": mass}
        if not mass >= min_mass:
            said_so = f"the marks have {mass:.3f} of the probability, less than {min_mass}"
            raise Unscorable(said_so, "unparsable", parts)
        return Score(mean, {**parts, "progress": (mean - LOW) / (HIGH - LOW)}, note=said.text)

    return score
