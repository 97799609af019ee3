"""TOPReward (arXiv:2602.19313): how likely a VLM finds the word True after the statement that an episode
completes its task.

The raw logarithm stays beside the curve that goes from 0 to 1 in every episode: after min and max a failed
episode has the same range as a good one, so that only the raw number compares episodes. The statement asserts
what it asks, and a model that agrees with whatever it reads says True; `probe` asks the opposite too.
"""

import math
from asyncio import gather
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from ... import models
from ...engine.episodes import Episode, frames_of
from ...errors import Unscorable
from ...media import Media
from ...models.pinned import Pin
from ...registry import reward
from ...tracing import noted
from ...trajectories import check_rule
from ...types import Sample, Score
from ..published.wording import Prompt, values_of, worded
from .values import Curve, curve_parts, voc

FPS = 2.0
TRUE, FALSE = (("True", " True", "true", " true", "TRUE", " TRUE"), ("False", " False", "false", " false"))
ASSERTED, DENIED = "completes", "does not complete"
"""The statement's verb in the published words and in ours, and what stands there in the probe."""
How = Literal["published", "spellings", "log_odds"]
_LEROBOT = (
    "huggingface/lerobot",
    "7427f31801f944f5ec9ce53cda02862ce7d1638b",
    "src/lerobot/rewards/topreward/configuration_topreward.py",
)
PROMPT = Prompt(
    pins=(
        Pin(*_LEROBOT, "DEFAULT_PROMPT_PREFIX",
            "bf19278b8eef82746f171beb0addbe629c791e9531f28f59193ccbfa4220ea59"),
        Pin(*_LEROBOT, "DEFAULT_PROMPT_SUFFIX_TEMPLATE",
            "06f550b1c26c9e0675efd35f75d2f3da90abba0acd88ad26ffd0ce5e6f23410f"),
    ),
    # The last word is the one that is scored.
    make=lambda pieces: "".join(pieces).removesuffix(" True"),
    fields={"{instruction}": "prompt"},
    own="The clip above shows a robot that completes this task: {prompt} Is that statement True or False? "
    "It is:",
)  # fmt: skip


def normalised(values: Sequence[float]) -> list[float]:
    """A curve brought to 0..1 by its own least and largest value; of equal ones, or one alone, all 1."""
    low, high = min(values), max(values)
    return [1.0 if high - low < 1e-12 else (value - low) / (high - low) for value in values]


def prefixes(count: int, wanted: int) -> list[int]:
    """Lengths of the beginnings of an episode of `count` frames, evenly spaced from 1, the whole one last.

    >>> prefixes(16, 4)
    [1, 6, 11, 16]
    """
    return sorted({int(round_) for round_ in np.round(np.linspace(1, count, wanted))} | {count})


def log_sum(values: Sequence[float]) -> float:
    """Logarithm of the sum of probabilities given by their logarithms."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


@reward("topreward", needs=("prompt", "episode"), range=(-math.inf, math.inf), paper="arXiv:2602.19313")
def topreward(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    how: How = "published",
    frames: str | int = "2 fps",
    max_frames: int = 16,
    beginnings: int = 0,
    view: str = "",
    probe: bool = False,
    chat: bool = False,
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Log-probability of True after "this episode completes the task", in nats, at most 0; no training.

    `parts` holds `probability` and, with `beginnings`, the value of each beginning of the episode as
    `frame_N` by its last frame, the same brought to 0..1 in this episode as `normalised_frame_N`, and `voc`.
    Compare episodes by the value, never by what is normalised.

    Args:
        judge: a VLM in this process (hub id, folder, "mini-vlm").
        how: "published", the one token " True"; "spellings", of all spellings of it together; "log_odds",
            these against those of False, which takes off how readily the model says either, any number.
        frames: which frames are looked at, see `trajectories`.
        max_frames: the last ones of those, or of a beginning, that the model sees.
        beginnings: number of them that are scored besides (the authors' is 15); 0 for none.
        view: whose, where the steps have several.
        probe: ask of the opposite statement too: `parts["denied"]` is its value, `parts["margin"]` how much
            more likely True is after the statement. Near 0, the model agrees with anything.
        chat: end the question's turn and read the answer's first word, as for any chat; by default the word
            follows the question in its own turn, as published, which takes a model in this process.
        words: "published", "own", or a file; see `published.wording.worded`.
        dtype: of the judge.

    Raises:
        ValueError: `how` or `frames` is something else, `max_frames` below 2, `beginnings` below 0, or a
            probe of words without "completes".
    """
    if how not in get_args(How):
        raise ValueError(f"how is {how!r}: one of {', '.join(get_args(How))}")
    if max_frames < 2 or beginnings < 0:
        raise ValueError(f"max_frames is {max_frames} and beginnings {beginnings}: at least 2 and 0")
    rule = check_rule(frames)
    wording = worded(words, PROMPT)
    if probe and wording.text and ASSERTED not in wording.text:
        raise ValueError(f"the words have no {ASSERTED!r}, in whose place a probe says {DENIED!r}")
    vlm = models.vlm(judge, dtype=dtype)
    spellings = (" True",) if how == "published" and not chat else ("True",) if how == "published" else TRUE

    async def read(clip: Media, text: str, words_: Sequence[str]) -> float:
        found = await gather(
            *(vlm.logprob(clip, text, word, system=wording.system, open=not chat) for word in words_),
            return_exceptions=True,
        )
        known: dict[Any, float] = {}
        for place, one in enumerate(found):
            if isinstance(one, BaseException) and not (isinstance(one, Unscorable) and len(words_) > 1):
                raise one
            if not isinstance(one, BaseException) and one.tokens == 1:
                # A tokenizer that knows no case has one token for several spellings, which counts once.
                known[one.ids or place] = one.total
        if not known:
            raise Unscorable(f"no spelling of {words_[0].strip()} is one token of {vlm.name}")
        return log_sum(list(known.values()))

    async def value(seen: Episode, length: int, text: str) -> float:
        begin = max(0, length - max_frames)
        part = seen._replace(
            pictures=seen.pictures[begin:length], numbers=seen.numbers[begin:length], times=None
        )
        clip = part.evened().clip(FPS)
        sure = await read(clip, text, spellings)
        return sure - await read(clip, text, FALSE) if how == "log_odds" else sure

    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, rule, view=view)
        text, _ = wording.filled(values_of((sample,)))
        count = len(seen.pictures)
        lengths = prefixes(count, beginnings) if beginnings else [count]
        values = list(await gather(*(value(seen, length, text) for length in lengths)))
        raw = values[-1]
        noted("True", "{} nats after the whole episode", raw)
        parts = {"probability": math.exp(raw)} if how != "log_odds" else {}
        if beginnings:
            ends = [seen.numbers[length - 1] for length in lengths]
            brought = curve_parts(ends, normalised(values))
            parts |= curve_parts(ends, values) | {f"normalised_{name}": one for name, one in brought.items()}
            known: Curve = values
            if (order := voc(known)) is not None:
                parts["voc"] = order
        if probe:
            opposite = wording._replace(text=wording.text.replace(ASSERTED, DENIED))
            denied = await value(seen, count, opposite.filled(values_of((sample,)))[0])
            parts |= {"denied": denied, "margin": raw - denied}
        return Score(raw, parts)

    return score
