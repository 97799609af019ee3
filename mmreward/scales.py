"""Scales of rewards, by name: the divisors that trainers put under published numbers, with who uses each.

A reward gives its publisher's number. Trainers that sum several divide them by constants of their own, which
their papers seldom name, and a score of one suite then looks like nothing of another. Here such a constant is
an argument of the reward, `scale: pickscore/26`, never a default: the score is then the scaled one, and the
publisher's number is in its parts as `raw`. `weights` are for your own factors.

A scale is a factor, sometimes a floor, and in one case words that are put before each prompt: then `raw` is
the number with these words. It is part of the reward's fingerprint.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .errors import nearest
from .registry import Reward
from .types import Sample, Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class Scale(NamedTuple):
    """A factor of one reward's values, with who uses it.

    `floor` is the least value after it, and `prefix` stands before each prompt, with a space between.
    `offset` is added to a judge's value, which is mapped to [0, 1]; such a scale is of pictures alone, and of
    these `forms`.
    """

    reward: str
    factor: float
    users: str
    floor: float | None = None
    prefix: str = ""
    offset: float = 0.0
    forms: tuple[str, ...] = ()

    def prompt(self, prompt: str) -> str:
        """The prompt that the reward reads."""
        return f"{self.prefix} {prompt}" if self.prefix else prompt


SCALES = {
    "aesthetic/10": Scale("aesthetic", 1 / 10, "VBench's aesthetic quality, on the v1 head"),
    "clipscore/2.5": Scale(
        "clipscore",
        2.5,
        "CLIPScore's paper (arXiv:2104.08718), 2.5 max(cosine, 0), without its words before the prompt",
        0.0,
    ),
    "clipscore/30": Scale(
        "clipscore",
        100 / 30,
        "flow_grpo, Flow-Factory, UniRL: the logit of OpenAI's CLIP (100 times the cosine) over 30",
    ),
    "clipscore/pyiqa": Scale(
        "clipscore",
        2.5,
        "pyiqa and CLIPScore's authors: 2.5 max(cosine, 0), 'A photo depicts' standing before the prompt",
        0.0,
        "A photo depicts",
    ),
    "clipscore/torchmetrics": Scale("clipscore", 100.0, "torchmetrics: max(100 cosine, 0)", 0.0),
    "deqa/5": Scale("deqa", 1 / 5, "flow_grpo: grades from 1 to 5 over 5, of which the least is 0.2"),
    "hpsv2/100": Scale("hpsv2", 100.0, "the tables of HPSv2's papers, in which 28 is a cosine of 0.28"),
    "hpsv3/10": Scale("hpsv3", 1 / 10, "verl-omni"),
    "jpeg_compressibility/500": Scale("jpeg_compressibility", 1 / 500, "flow_grpo"),
    "pickscore/26": Scale("pickscore", 1 / 26, "flow_grpo, Flow-Factory, UniRL"),
    "unifiedreward/5": Scale(
        "unifiedreward",
        4 / 5,
        "flow_grpo: a picture's mark from 1 to 5 over 5, which is 0.2 + 0.8 times the value",
        offset=1 / 5,
        forms=("final", "axes"),
    ),
}
"""Name -> scale. A new one is a line here: the reward, a slash, and the divisor or whose it is."""


def scales_of(reward: str) -> dict[str, Scale]:
    """The named scales of one reward."""
    return {name: scale for name, scale in SCALES.items() if scale.reward == reward}


def scaled(reward: Reward, name: object) -> Reward:
    """The reward on a named scale; its range, and its gradient where it has one, follow.

    Raises:
        ValueError: no such scale, that of another reward, or of another form of this one.
    """
    own = reward.info.name
    known = scales_of(own)
    if not isinstance(name, str) or name not in known:
        if isinstance(name, str) and name in SCALES:
            reason = f"it is of {SCALES[name].reward}"
        elif not known:
            reason = f"{own} has none; a factor of your own is a weight"
        else:
            reason = nearest(str(name), known, otherwise="it has")
        raise ValueError(f"{own} has no scale {name!r}: {reason}")
    scale = known[name]
    if scale.forms and (form := reward.args.get("form")) not in scale.forms:
        raise ValueError(f"{name} is of the forms {', '.join(scale.forms)}, not of {form}")
    floor = -float("inf") if scale.floor is None else scale.floor

    async def score(sample: Sample) -> Score:
        if scale.prefix:
            sample = replace(sample, prompt=scale.prompt(sample.prompt))
        found: Score = await reward(sample)
        if not found.ok:
            return found
        value = max(floor, scale.factor * found.value + scale.offset)
        return replace(found, value=value, parts={**found.parts, "raw": found.value})

    def score_tensor(pixels: "torch.Tensor", prompts: "Sequence[str]") -> "torch.Tensor":
        values = scale.factor * reward.score_tensor(pixels, [scale.prompt(prompt) for prompt in prompts])
        return values if scale.floor is None else values.clamp(min=scale.floor)

    low, high = (max(floor, scale.factor * end + scale.offset) for end in reward.info.range)
    needs = reward.info.needs
    if scale.forms:
        needs = tuple("image" if need == "shown" else need for need in needs)
    return replace(
        reward,
        info=replace(reward.info, range=(low, high), needs=needs),
        args={**reward.args, "scale": name},
        fn=score,
        tensor_fn=score_tensor if reward.tensor_fn is not None else None,
    )
