"""Differentiable rewards as terms of one loss: a transform each, a weight each, and their sum per picture.

The transforms are the constants that published code scatters over its loops, by name. Knows no generator.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import NamedTuple

import torch

ScoreTensor = Callable[[torch.Tensor, Sequence[str]], torch.Tensor]
"""Pixels in [0, 1], (N, 3, H, W) or (N, T, 3, H, W), and N prompts to N rewards; has a gradient."""


class Transform(NamedTuple):
    """A reward r as a loss: scale * (ceiling - r), and no less than 0 when `hinge`."""

    ceiling: float = 0.0
    scale: float = 1.0
    hinge: bool = False

    def __call__(self, rewards: torch.Tensor) -> torch.Tensor:
        loss = self.scale * (self.ceiling - rewards)
        return loss.relu() if self.hinge else loss


RAW = Transform()
TRANSFORMS: Mapping[str, Transform] = {
    "raw": RAW,
    "cosine": Transform(1.0),
    "reno-hps": Transform(1.0, 5.0),
    "reno-imagereward": Transform(2.0),
    "reno-clip": Transform(100.0, 0.01),
    "reno-pickscore": Transform(30.0, 0.05),
    "reno-aesthetic": Transform(10.0),
    "refl-imagereward": Transform(2.0, hinge=True),
    "pickscore/26": Transform(0.0, 1 / 26),
    "clip/30": Transform(0.0, 1 / 30),
    "unifiedreward/5": Transform(0.0, 1 / 5),
}
"""By name. "reno-..." are ReNO's (github.com/ExplainableML/ReNO), "refl-..." ImageReward's own; the divisors
are those of Flow-GRPO's rewards. CLIP and PickScore are expected as logits (100 x cosine), HPS as a cosine;
"cosine" does to a plain cosine what "reno-clip" does to a logit. Without a floor, the ceiling changes the
loss's value and not its gradient."""


@dataclass(frozen=True, slots=True)
class Term:
    """One reward in the loss.

    Args:
        score: the differentiable reward, such as `Reward.score_tensor`.
        weight: of its loss; negative to push the reward down.
        transform: from reward to loss.
    """

    score: ScoreTensor
    weight: float = 1.0
    transform: Transform = RAW

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"the weight of a term is {self.weight}; give a finite number")


def transform_named(name: str) -> Transform:
    """One of TRANSFORMS.

    Raises:
        ValueError: no such name; the message offers the nearest.
    """
    if name not in TRANSFORMS:
        near = get_close_matches(name, TRANSFORMS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TRANSFORMS)}"
        raise ValueError(f"no transform named {name!r}: {hint}")
    return TRANSFORMS[name]


def weighed(
    terms: Mapping[str, Term], pixels: torch.Tensor, prompts: Sequence[str]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of every picture, (N,), and the raw rewards by name, (N,) each without their graph.

    Raises:
        ValueError: a term does not give one reward per picture.
    """
    loss = torch.zeros(len(pixels), device=pixels.device)
    rewards = {}
    for name, term in terms.items():
        values = term.score(pixels, prompts).to(loss)
        if values.shape != loss.shape:
            raise ValueError(
                f"{name} gives rewards of shape {tuple(values.shape)} for {len(pixels)} pictures; "
                f"it must give ({len(pixels)},)"
            )
        loss = loss + term.weight * term.transform(values)
        rewards[name] = values.detach()
    return loss, rewards


@torch.no_grad()
def standardised(terms: Mapping[str, Term], pixels: torch.Tensor, prompts: Sequence[str]) -> dict[str, Term]:
    """The terms with their weights divided by their losses' standard deviations over some pictures.

    So weights say how much each term counts, whatever scale its reward comes on. Take pictures of fresh
    noises: what the generator varies by itself is the yardstick.

    Raises:
        ValueError: a term's losses are not finite, or do not differ from each other.
    """
    scaled = {}
    for name, term in terms.items():
        spread = float(term.transform(term.score(pixels, prompts)).double().std(unbiased=False))
        if not (math.isfinite(spread) and spread > 1e-12):
            raise ValueError(
                f"the losses of {name} have standard deviation {spread} over {len(pixels)} pictures; "
                "take more pictures, or leave the term out"
            )
        scaled[name] = replace(term, weight=term.weight / spread)
    return scaled
