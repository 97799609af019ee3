"""Contrastive prompts: two for one subject that differ in one respect, as InstructEngine (arXiv:2504.10329)
has them.

They come from a taxonomy by a language model, from rows that bring their contrast in `meta.contrast`, or
from shapes world, where one thing of a caption is changed. No prompt of the publisher's is known; the words
are ours.
"""

import re
from asyncio import gather
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from .. import models
from ..errors import Unscorable
from ..models.vlms.answers import VLM
from ..types import Sample
from ..verifiers.thoughts import after_thinking

AXES = {
    "content": "what is shown: an object, its number, its colour or its place",
    "counterfactual": "whether it could happen: the second shows what does not happen in the world",
    "aesthetics": "how it is made: light, composition, style or sharpness",
}
"""What two prompts differ in, and its words for the model that writes them."""
LONGEST = 600
ASKED = """Write two prompts for a text-to-image model. Both are about {subject} ({theme}), and they differ \
in one respect alone, {axis}.
Write exactly two lines:
Prompt 1: <one prompt>
Prompt 2: <the other>"""
LINE = re.compile(r"[\s*#>-]*prompt\s*([12])\s*[*]*\s*:[\s*]*(.*?)[\s*]*", re.IGNORECASE)


class Contrast(NamedTuple):
    """Two prompts, the axis that they differ in, and the theme they are of; empty where nobody says."""

    id: str
    prompts: tuple[str, str]
    axis: str = ""
    theme: str = ""


class Topic(NamedTuple):
    """A subject of a taxonomy."""

    theme: str
    subject: str


def read_taxonomy(file: Path) -> list[Topic]:
    """Topics of a YAML file: theme -> list of subjects.

    Raises:
        ValueError: a file that cannot be read, or is no such mapping.
    """
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"taxonomy {file}: {error}") from None
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"taxonomy {file} is {type(found).__name__}, not a mapping of themes to subjects")
    topics = []
    for theme, subjects in found.items():
        if not isinstance(subjects, list) or not subjects:
            raise ValueError(f"taxonomy {file}: the theme {theme!r} has no list of subjects")
        topics += [Topic(str(theme), str(subject)) for subject in subjects]
    return topics


def read_contrast(text: str) -> tuple[str, str]:
    """The two prompts that a model wrote.

    Raises:
        Unscorable: "missing" without both, "unparsable" where one is there twice, they are equal, or one is
            too long.
    """
    found: dict[str, str] = {}
    for line in after_thinking(text).splitlines():
        if (match := LINE.fullmatch(line[: 4 * LONGEST])) is None:
            continue
        place, prompt = match[1], match[2].strip("\"'` ")
        if place in found or len(prompt) > LONGEST:
            raise Unscorable(f"prompt {place} is there twice, or has {len(prompt)} characters", "unparsable")
        found[place] = prompt
    if not all(found.get(place) for place in "12"):
        raise Unscorable(f"there are no two prompts in: {text[:200]}", "missing")
    if found["1"].casefold() == found["2"].casefold():
        raise Unscorable(f"both prompts are {found['1'][:80]!r}", "unparsable")
    return found["1"], found["2"]


async def written_contrasts(
    model: str, topics: Sequence[Topic], axes: Sequence[str], seed: int, max_tokens: int
) -> tuple[list[Contrast], list[dict[str, Any]]]:
    """Contrasts of every topic by every axis, and a record of each that could not be written.

    Raises:
        ValueError: an axis that is none.
    """
    if unknown := [axis for axis in axes if axis not in AXES]:
        raise ValueError(f"axes has {unknown[0]!r}; there are {', '.join(AXES)}")
    vlm = models.vlm(model)
    asked = [(topic, axis) for topic in topics for axis in axes]
    texts = await gather(
        *(_written(vlm, topic, axis, seed, max_tokens) for topic, axis in asked), return_exceptions=True
    )
    found: list[Contrast] = []
    failed: list[dict[str, Any]] = []
    for number, ((topic, axis), said) in enumerate(zip(asked, texts, strict=True)):
        if isinstance(said, Unscorable):
            failed.append(
                {"id": str(number), "prompt": topic.subject, "end": "not written", "why": str(said)}
            )
        elif isinstance(said, BaseException):
            raise said
        else:
            found.append(Contrast(str(number), said, axis, topic.theme))
    return found, failed


async def _written(vlm: VLM, topic: Topic, axis: str, seed: int, max_tokens: int) -> tuple[str, str]:
    text = ASKED.format(subject=topic.subject, theme=topic.theme, axis=AXES[axis])
    said = await vlm.write(None, text, max_tokens=max_tokens, temperature=0.7, seed=seed)
    if not said.finished:
        raise Unscorable(f"cut off after {said.tokens} tokens: {said.text[:200]}", "unparsable")
    return read_contrast(said.text)


def contrasts_of(samples: Sequence[Sample], seed: int) -> list[Contrast]:
    """Contrasts of rows: of `meta.contrast`, else of a caption of shapes world with one thing changed.

    Raises:
        ValueError: a row that has no contrast and is no such caption.
    """
    from ..mini.dialogues import edit
    from ..mini.world import parse_caption

    found = []
    for row, sample in enumerate(samples):
        other, axis = sample.meta.get("contrast"), str(sample.meta.get("axis", ""))
        if other is None:
            try:
                caption = parse_caption(sample.prompt)
            except ValueError:
                raise ValueError(
                    f"the prompt {sample.prompt[:60]!r} has no meta.contrast: bring the other prompt there, "
                    "or give method.taxonomy and method.model"
                ) from None
            other, axis = str(edit(caption, np.random.default_rng([seed, row]))), "content"
        if not isinstance(other, str) or not other.strip() or other == sample.prompt:
            raise ValueError(f"meta.contrast of {sample.id!r} is {other!r}, not another prompt")
        found.append(Contrast(sample.id or str(row), (sample.prompt, other), axis))
    return found
