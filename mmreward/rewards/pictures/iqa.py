"""Classical and learned quality measures of a picture, by their names in pyiqa: musiq, niqe, brisque, ..."""

import math
from typing import Any

from ... import models
from ...errors import Unscorable
from ...models.wants import noting
from ...registry import amend, reward
from ...tracing import noted
from ...types import Sample, Score


@reward(
    "iqa",
    needs=("image",),
    range=(-math.inf, math.inf),
    uses_prompt=False,
    paper="https://github.com/chaofengc/IQA-PyTorch",
    licence="pyiqa: PolyForm Noncommercial 1.0.0 and NTU S-Lab; each measure's weights have their own",
)
def iqa(metric: str) -> Any:
    """Quality of a picture by a measure of pyiqa (IQA-PyTorch), in the measure's own unit and direction.

    Range and direction are pyiqa's, and so is what it fetches: most measures download weights at first use.
    Ends that pyiqa writes with "~" are open, and so are all of a measure with a reference. One that needs a
    reference (psnr, ssim, lpips) compares with the one picture in `inputs`, of the same size. Pictures are
    measured one by one, as they are, so that neighbours change nothing. Measures of sets (fid) and of
    captions are refused.

    pyiqa is no dependency of this package: `pip install pyiqa`, or, as its own dependencies are many, in an
    environment of its own that has mmreward too, named by `python`: `iqa: {metric: musiq, python:
    /path/to/bin/python}`.

    Args:
        metric: a name of `pyiqa.list_models()`.

    Raises:
        ValueError: pyiqa is not installed, or has no such measure of a single picture.
    """
    net = models.measure(metric)
    if not noting():
        amend(range=net.facts.bounds, higher_is_better=not net.facts.lower_better)
        if net.facts.reference:
            amend(needs=("image", "inputs"))

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        reference = None
        if net.facts.reference:
            if len(sample.inputs) != 1:
                raise Unscorable(f"{metric} compares with one picture, and inputs has {len(sample.inputs)}")
            reference = sample.inputs[0]
        value = await net.value(sample.image, reference)
        noted("measured", "{} by {}, whose range pyiqa gives as {}", value, metric, net.facts.range)
        return Score(value)

    return score
