"""Tuning a generator through the gradient of a reward: DRaFT, AlignProp, ReFL, SRPO, Ctrl-U.

Every method is a function of a generator, its inputs and `reward(pixels, prompts)`, such as the
`score_tensor` of a loaded reward, and returns an `Outcome`: a loss and a reward per row. A trainer averages
and steps; none of the methods keeps anything, and equal arguments give equal numbers.
"""

from .consistency import ctrl_u
from .draft import align_prop, draft, draft_lv
from .outcome import Outcome, PixelReward, Visit
from .refl import refl
from .srpo import direct_align, relative

__all__ = [
    "Outcome",
    "PixelReward",
    "Visit",
    "align_prop",
    "ctrl_u",
    "direct_align",
    "draft",
    "draft_lv",
    "refl",
    "relative",
]
