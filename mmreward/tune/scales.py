"""The rescalings that published recipes put on rewards, by name.

No reward changes its scale by itself. `aggregate`'s zscore_sum needs none of these; they are for repeating a
raw_sum of somebody else's, and for reading its curves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .groups import Floats


@dataclass(frozen=True, slots=True)
class Scale:
    """(value - mean) / std, and whose it is."""

    mean: float
    std: float
    source: str

    def __call__(self, values: ArrayLike) -> Floats:
        """Rescaled values in the shape given; a failed score stays NaN."""
        return (np.asarray(values, dtype=np.float64) - self.mean) / self.std


SCALES: Mapping[str, Scale] = {
    "pickscore/26": Scale(
        0.0, 26.0, "flow_grpo, Flow-Factory, UniRL, miles: logits of 18 to 24 to 0.7 to 0.9"
    ),
    "clip/30": Scale(0.0, 30.0, "flow_grpo, Flow-Factory, UniRL: ViT-L/14 logits of 15 to 40 to about 1"),
    "unified_reward/5": Scale(0.0, 5.0, "flow_grpo: grades of 1 to 5"),
    "deqa/5": Scale(0.0, 5.0, "flow_grpo's server: grades of 1 to 5"),
    "hps*100": Scale(0.0, 0.01, "the tables of HPSv2: cosines of 0.2 to 0.37 in percent"),
    "jpeg_kb/-500": Scale(0.0, -500.0, "flow_grpo: size of the file in kB, smaller is better"),
    "videoreward_vq": Scale(3.6757, 2.2476, "VideoAlign: visual quality"),
    "videoreward_mq": Scale(1.1646, 1.3811, "VideoAlign: motion quality"),
    "prefpaint": Scale(0.4064, 2.3021, "PrefPaint: output of the reward head"),
}
