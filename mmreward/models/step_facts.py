"""Steps of a task as `mmreward fit perceptual` writes them and the reward `perceptual` reads them.

A step is a Gaussian in each of its features, all independent, as in naive Bayes. Its score is the mean
log-likelihood of its features against that of their means, at most 0, so that steps of unequal deviations can
be compared. Steps count twice as much as the one before; the first, where every demonstration begins, is not
counted. Imports no torch; knows nothing of how steps are found, which is `tune.fit_perceptual`.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import words

Floats = NDArray[np.float64]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Step(BaseModel):
    """One step: features by their place in the embedding, best first, with mean and deviation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    means: tuple[Number, ...]
    deviations: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]

    @model_validator(mode="after")
    def _equal(self) -> Self:
        if not len(self.features) == len(self.means) == len(self.deviations):
            raise ValueError("there are not as many means and deviations as features")
        return self


class Steps(BaseModel):
    """What `mmreward fit perceptual` writes.

    Args:
        kind: of the file.
        encoder: its name when the steps were found.
        content: hash of the encoder's weights, see `models.weights.content_of`.
        dtype, resize: of the encoder.
        width: of its embeddings.
        steps: in order, two at least.
        figures: of the fit, to read; nothing depends on them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["perceptual steps"] = "perceptual steps"
    encoder: str
    content: str
    dtype: str
    resize: str
    width: Annotated[int, Field(ge=1)]
    steps: tuple[Step, ...] = Field(min_length=2)
    figures: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _within(self) -> Self:
        if any(feature >= self.width for step in self.steps for feature in step.features):
            raise ValueError(f"a step has a feature beyond the {self.width} of an embedding")
        return self

    def scores(self, frames: Floats) -> Floats:
        """Scores of each step at each frame, (T, S), at most 0, of embeddings (T, D)."""
        return np.stack([_closeness(frames, step) for step in self.steps], 1)

    def values(self, scores: Floats) -> Floats:
        """Rewards of frames, (T,), of the steps' scores (T, S).

        >>> step = Step(features=(0,), means=(0.0,), deviations=(1.0,))
        >>> facts = {"encoder": "e", "content": "c", "dtype": "float32", "resize": "pil", "width": 1}
        >>> found = Steps(**facts, steps=(step,) * 3)
        >>> found.values(np.array([[-9.0, -3.0, 0.0], [0.0, -3.0, -6.0]])).tolist()
        [-1.0, -5.0]
        """
        weights = 2.0 ** np.arange(1, len(self.steps))
        found: Floats = scores[:, 1:] @ weights / weights.sum()
        return found


def _closeness(frames: Floats, step: Step) -> Floats:
    away = (frames[:, list(step.features)] - np.asarray(step.means)) / np.asarray(step.deviations)
    found: Floats = -0.5 * (away**2).mean(1)
    return found


def read_steps(file: str | Path) -> Steps:
    """The steps in a file.

    Raises:
        ValueError: no such file, or none that `mmreward fit perceptual` wrote.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"no file of steps at {file}: `mmreward fit perceptual` makes one")
    try:
        return Steps.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{file} has no steps of a task: {where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} has no steps of a task: {words(error)}") from None
