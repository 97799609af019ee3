"""Robometer (arXiv:2603.02115): progress, success and preference of a robot's episodes, by heads on a
Qwen3-VL.

One task for all episodes shifts every score; here each sample's prompt says its own. Which frames are looked
at matters as much: 8 of 32 rounded and 8 of 32 cut off differ visibly, so the rule is an argument, and the
numbers are in the explanation.
"""

from typing import Any, Literal

from ... import models
from ...engine.episodes import frames_of
from ...errors import Unscorable
from ...models.pinned import Pin
from ...registry import reward
from ...tracing import noted
from ...trajectories import check_rule
from ...types import Sample, Score
from ..published.wording import Prompt, values_of, worded
from .values import curve_parts, voc

PROGRESS = Prompt(
    pins=(
        Pin("huggingface/lerobot", "7427f31801f944f5ec9ce53cda02862ce7d1638b",
            "src/lerobot/rewards/robometer/processor_robometer.py", "PROGRESS_PROMPT",
            "75e534d05ed26b274ecab2143b7874720139d2407df0be414642a5f96c291b0d"),
    ),
    fields={"{task}": "prompt"},
    own="The pictures show a robot that was told: {prompt} Say after each how much of it is done by then, "
    "from 0 to 1; 0 throughout if it does something else.",
)  # fmt: skip
EPISODE = "<episode>"
"""Mark of an episode's place in the words of a comparison."""
_HEADS = (
    "robometer/robometer",
    "c7f38e266e1c00ec1203f4f8dbfa64de36590a0c",
    "robometer/data/collators/rbm_heads.py",
)
COMPARED = Prompt(
    pins=(
        Pin(*_HEADS, "RBMBatchCollator._process_preference_batch.prompt",
            "594aa8eaa3defcb7f00bcdf5b982f1e7bb7c400c6b15c0a82eb45bdebeacde16"),
        Pin(*_HEADS, "before the first episode",
            "f7974b094e23993dcf07e592612ade7186cd67ec0ecc4457259d20d22b47834b"),
        Pin(*_HEADS, "before the second episode",
            "c4d6e1cb72641c09f609fb0d010ac6f3c2ed432477d53fec4b2165be08d9be2a"),
        Pin(*_HEADS, "at the end", "13d6ccd0f9f3a162e7f352da1a126d299c9a997189788fbe5e9b679a7376f4ff"),
    ),
    make=lambda pieces: EPISODE.join((pieces[0] + pieces[1], *pieces[2:])),
    fields={"{sample.chosen_trajectory.task}": "prompt"},
    own=f"Two episodes of a robot that was told: {{prompt}} One: {EPISODE} Two: {EPISODE} Which is better?",
)  # fmt: skip
WEIGHTS = "lerobot/Robometer-4B"


@reward("robometer", needs=("prompt", "episode"), range=(0.0, 1.0), paper="arXiv:2603.02115",
        licence="apache-2.0 (lerobot/Robometer-4B)")  # fmt: skip
def robometer(
    weights: str = WEIGHTS,
    base: str = "",
    how: Literal["progress", "success"] = "progress",
    frames: str = "8",
    view: str = "",
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Progress of an episode's last frame, or its probability of success, 0 to 1, by Robometer.

    `parts` holds both at the end (`progress`, `success`), progress at each frame as `frame_N`, success as
    `success_frame_N`, and `voc`. Demonstrations are recorded on after success, so progress is not linear in
    time near their end; the authors' threshold of success differs by data set (0.5 to 0.95).

    Args:
        weights: a folder or hub id in LeRobot's format.
        base: hub id or folder of tokenizer and processor; "" takes what the weights name.
        how: "progress" or "success".
        frames: which frames are looked at, see `trajectories`; the authors' is 8, evenly spaced.
        view: whose, where the steps have several.
        words: "published", "own", or a file; see `published.wording.worded`.
        dtype: of the body; the heads are in float32.

    Raises:
        ValueError: `how` or `frames` is something else.
    """
    if how not in ("progress", "success"):
        raise ValueError(f"how is {how!r}: progress or success")
    check_rule(frames)
    wording = worded(words, PROGRESS)
    net = models.robometer(weights, base, dtype=dtype)

    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, frames, view=view)
        text, _ = wording.filled(values_of((sample,)))
        found = await net.progress(seen.pictures, text)
        noted("progress", "{} at the frames", list(found.progress))
        noted("success", "{} at the frames", list(found.success))
        parts = {"progress": found.progress[-1], "success": found.success[-1]}
        if (order := voc(found.progress)) is not None:
            parts["voc"] = order
        parts |= curve_parts(seen.numbers, found.progress)
        successes = curve_parts(seen.numbers, found.success)
        parts |= {f"success_{name}": value for name, value in successes.items()}
        return Score(parts[how], parts)

    return score


@reward("robometer_pair", needs=("prompt", "episode"), range=(0.0, 1.0), arity="pair",
        paper="arXiv:2603.02115", licence="apache-2.0 (lerobot/Robometer-4B)")  # fmt: skip
def robometer_pair(
    weights: str = WEIGHTS,
    base: str = "",
    frames: str = "8",
    view: str = "",
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Probability that the first of two episodes of one task came further, 0 to 1, by Robometer's head.

    Each pair is asked in both orders by the engine, and a tie is 0.5. `parts` holds the difference of the
    two's progress at their ends as `progress`, as the heads read it within the comparison.

    Args:
        weights, base, frames, view, words, dtype: as for `robometer`.

    Raises:
        ValueError: `frames` is something else, or words without the two places of the episodes.
    """
    check_rule(frames)
    wording = worded(words, COMPARED, "preference")
    if wording.text and wording.text.count(EPISODE) != 2:  # there is no text where it is asked what to fetch
        raise ValueError(f"the words have {EPISODE} {wording.text.count(EPISODE)} times, for two episodes")
    net = models.robometer(weights, base, dtype=dtype)

    async def score(first: Sample, second: Sample) -> Score:
        if first.prompt != second.prompt:
            raise Unscorable("the two episodes have different tasks, and are not compared")
        one, other = [await frames_of(sample, frames, view=view) for sample in (first, second)]
        pieces = (wording._replace(text=piece) for piece in wording.text.split(EPISODE))
        texts = [piece.filled(values_of((first, second)))[0] for piece in pieces]
        found = await net.compared(one.pictures, other.pictures, texts)
        assert found.better is not None, "it was compared"
        noted("better", "{} is the probability that the first came further", found.better)
        ends = found.progress[len(one.pictures) - 1], found.progress[-1]
        return Score(found.better, {"progress": ends[0] - ends[1]})

    return score
