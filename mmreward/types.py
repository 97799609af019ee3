"""Core types: Sample, Score, RewardInfo, and the checks of a sample before it is scored.

Knows nothing of networks, batches or files' contents.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

from .errors import STATUSES, Status
from .limits import limits, most
from .media import Kind, Media
from .trajectories import excessive, seen_in, with_media

Arity = Literal["point", "pair", "group"]
FIELDS_OF_MEDIA: tuple[tuple[str, Kind], ...] = (("image", "image"), ("video", "video"))
"""Fields of `Sample` that hold one picture or clip, and its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One thing to score.

    >>> sample = Sample(prompt="What is 2 + 2?", response="4", target="4")
    >>> Sample(prompt="a red square", image="square.png").image
    Media(square.png, 'image')

    Args:
        id: names the row in results; must be unique within one run.
        prompt: what was asked for, or the question put to a model.
        image: the picture to score: a `Media`, or a path, bytes, PIL image, array or tensor to make one of.
        video: the clip to score, in the same way.
        response: text a model wrote.
        inputs: condition, reference or question media, in the same way.
        steps: a trajectory, for robots, GUIs and step rewards; see `trajectories` for what a step holds. Its
            pictures are given as the image is.
        target: the ground truth; its form is stated by each reward that needs it.
        source: where the row comes from, for metrics by source.
        group: the GRPO group it belongs to.
        meta: anything else, handed through.

    Raises:
        ValueError: an image, video, input or observation that is none, such as a number or another sample.
    """

    id: str = ""
    prompt: str = ""
    image: Media | None = None
    video: Media | None = None
    response: str | None = None
    inputs: tuple[Media, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    target: Any = None
    source: str = ""
    group: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Media of the sources that were given in their place.

        Raises:
            ValueError: what is no picture or clip, with the field's name.
        """
        for name, kind in FIELDS_OF_MEDIA:
            value = getattr(self, name)
            if value is not None and not isinstance(value, Media):
                object.__setattr__(self, name, Media.of(value, kind, name))
        # Most samples have none of either, and an agent makes one at every step.
        if type(self.inputs) is not tuple or self.inputs:
            self._take_inputs()
        if type(self.steps) is not tuple or self.steps:
            self._take_steps()

    def _take_inputs(self) -> None:
        if isinstance(self.inputs, str | bytes | Media) or not isinstance(self.inputs, Iterable):
            raise ValueError(f"inputs is {type(self.inputs).__name__}, not a list of pictures")
        if not all(isinstance(value, Media) for value in self.inputs):
            inputs = tuple(Media.of(value, "image", f"inputs[{n}]") for n, value in enumerate(self.inputs))
            object.__setattr__(self, "inputs", inputs)
        elif not isinstance(self.inputs, tuple):
            object.__setattr__(self, "inputs", tuple(self.inputs))

    def _take_steps(self) -> None:
        if isinstance(self.steps, str | bytes | Mapping) or not isinstance(self.steps, Iterable):
            raise ValueError(f"steps is {type(self.steps).__name__}, not a list of steps")
        if not isinstance(self.steps, tuple) or not all(
            isinstance(one.media, Media) for one in seen_in(self.steps)
        ):
            steps = with_media(tuple(self.steps), lambda value, name: Media.of(value, "image", name))
            object.__setattr__(self, "steps", steps)

    def _repr_html_(self) -> str:
        from .shown import sample_html

        return sample_html(self)

    @property
    def shown(self) -> Media | None:
        """The image, or the video where there is no image."""
        return self.image if self.image is not None else self.video

    @property
    def episode(self) -> Media | None:
        """What there is to see of an episode: the first picture of its steps, else the video or image."""
        return next((seen.media for seen in seen_in(self.steps)), self.video or self.image)

    def media(self) -> Iterator[tuple[str, Media]]:
        """All pictures and clips with their places: "image", "inputs[0]", "step 3, view 'top'"."""
        for name, _ in FIELDS_OF_MEDIA:
            if (media := getattr(self, name)) is not None:
                yield name, media
        yield from ((f"inputs[{number}]", media) for number, media in enumerate(self.inputs))
        yield from ((seen.name, seen.media) for seen in seen_in(self.steps))


SHOWN = {"shown": "image or video", "episode": "steps with an observation, video or image"}
"""Words for a need that is no field."""


ABOUT = ("uncertainty", "confidence", "votes", "meta", "contradiction")
"""Parts that say something of a judgement, and are no dimension of what was judged."""


@dataclass(frozen=True, slots=True)
class Score:  # noqa: PLW1641 - a frozen dataclass has one
    """The outcome of one reward on one sample.

    `value` is finite exactly when `status` is "ok", and NaN otherwise: a failure is never a number.
    `parts` holds sub-scores and diagnostics, `note` the judge's words or the reason for the failure.

    >>> Score(0.5, {"colour": 1.0, "shape": 0.0}).ok
    True
    >>> Score.failed("unparsable", "no number in 'hm'").value
    nan

    Raises:
        ValueError: status unknown, or value and status disagree.
    """

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)
    status: Status = "ok"
    note: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {', '.join(STATUSES)}")
        if (self.status == "ok") != math.isfinite(self.value):
            raise ValueError(f"a score of {self.value} cannot have status {self.status!r}")
        if self.status != "ok" and not math.isnan(self.value):
            raise ValueError(f"a failed score is NaN, not {self.value}")

    def __eq__(self, other: object) -> bool:
        """Equal in every field, where two failures have the same value, NaN, that equals nothing itself:
        dataclasses of Python 3.12 and before say so of one NaN, those of 3.13 of none."""
        if not isinstance(other, Score):
            return NotImplemented
        alike = self.value == other.value or not (self.ok or other.ok)
        return alike and (self.parts, self.status, self.note) == (other.parts, other.status, other.note)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def _repr_html_(self) -> str:
        from .shown import score_html

        return score_html(self)

    @classmethod
    def failed(cls, status: Status, note: str, parts: Mapping[str, float] | None = None) -> "Score":
        return cls(math.nan, parts or {}, status, note)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardInfo:
    """Facts about a reward that hold whatever its arguments.

    >>> import mmreward
    >>> mmreward.load("iou").info.range
    (0.0, 1.0)

    Args:
        name: how it is loaded.
        needs: the fields of `Sample` that must be filled; "shown" is an image or a video, "episode" one of
            these or steps with an observation.
        optional: media that it looks at where they are filled, "shown" and "inputs" among them.
        range: the closed interval of its values; a value outside becomes status "out_of_range".
        higher_is_better: the direction.
        arity: "point" takes one sample, "pair" two (in both orders), "group" a whole group.
        differentiable: whether it offers `score_tensor`, with some arguments at least; a loaded reward's own
            info says whether it does with the arguments it was given.
        uses_prompt: whether the prompt changes the score.
        paper: where the method comes from.
        licence: of the default weights, when the reward has some.
        example: fields of a sample it scores, beyond a prompt and a picture; shown to users and used by the
            tests.
        summary: first line of the factory's docstring.
    """

    name: str
    needs: tuple[str, ...]
    optional: tuple[str, ...] = ()
    range: tuple[float, float]
    higher_is_better: bool = True
    arity: Arity = "point"
    differentiable: bool = False
    uses_prompt: bool = True
    paper: str = ""
    licence: str = ""
    example: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""

    @property
    def needed(self) -> str:
        """`needs` in words."""
        return ", ".join(SHOWN.get(name, name) for name in self.needs)

    @property
    def read(self) -> str:
        """`needs` and `optional` in words."""
        optional = ", ".join(SHOWN.get(name, name) for name in self.optional)
        return f"{self.needed}; looks at {optional} where given" if optional else self.needed

    @property
    def looked_at(self) -> frozenset[str]:
        """Fields it needs or looks at."""
        return frozenset((*self.needs, *self.optional))


def lacking(sample: Sample, needs: Sequence[str], columns: Mapping[str, str] | None = None) -> str:
    """Reason why the sample cannot be scored by a reward with these needs; empty when it can.

    Args:
        sample: as the reward sees it.
        needs: fields of `Sample`, or words of `SHOWN`.
        columns: field -> key of `meta` it was taken from.
    """
    values = {name: getattr(sample, name) for name in needs}
    # A response of no words is one, and a bad one.
    empty = [
        name
        for name, value in values.items()
        if value is None or (name != "response" and isinstance(value, str | tuple) and not value)
    ]
    if empty:
        missing = " and no ".join(SHOWN.get(name, name) for name in empty)
        return f"the sample has no {missing}{_meant(sample, empty, columns or {})}"
    for name in ("prompt", "response"):
        text = getattr(sample, name)
        if name in needs and not isinstance(text, str):
            return f"{name} is {type(text).__name__}, not text"
        if name in needs and name != "response" and not text.strip():
            return f"the sample's {name} is blank"
    return ""


def _meant(sample: Sample, empty: Sequence[str], columns: Mapping[str, str]) -> str:
    """Hint at a column with nearly the name of one that is missing."""
    for name in empty:
        wanted = columns.get(name, name)
        near = get_close_matches(
            wanted, [key for key in map(str, sample.meta) if key != wanted], n=1, cutoff=0.75
        )
        if near:
            return f"; its column {near[0]!r} is no {wanted!r}: rename it, or map it with `columns:`"
        if wanted != name and wanted not in sample.meta:
            return f"; `columns:` takes {name} from {wanted!r}, a column it does not have"
    return ""


def oversized(sample: Sample) -> str:
    """Reason why the sample's prompt, target or steps are refused; empty when they are not."""
    if isinstance(sample.prompt, str) and len(sample.prompt) > limits().text_characters:
        return f"prompt has {len(sample.prompt)} characters; the limit is {most('text_characters')}"
    allowed = limits().target_characters
    if _characters(sample.target, allowed) > allowed:
        return f"target holds more characters of text than the limit of {most('target_characters')}"
    return excessive(sample.steps)


def _characters(target: Any, allowed: int) -> int:
    """Characters of the text in nested lists and mappings, counted until there are too many."""
    total, left = 0, [target]
    while left and total <= allowed:
        one = left.pop()
        if isinstance(one, str):
            total += len(one)
        elif isinstance(one, Mapping):
            left += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            left += [item for item in one if isinstance(item, str | list | tuple | Mapping)]
    return total


def shortened(sample: Sample) -> Sample:
    """The sample with the end of its response, where the answer is, if the whole is too long to be read.

    A response is not refused for its length: a policy that rambles has answered, and badly.
    """
    if isinstance(sample.response, str) and len(sample.response) > limits().text_characters:
        return replace(sample, response=sample.response[-limits().text_characters :])
    return sample
