"""The pictures, clips and words of the speed comparison. Knows nothing of networks.

Every round has pictures of its own, so no cache of any contender can help it from one round to the next.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmreward import Media, Sample
from mmreward.rewards import critique, listener

PROMPTS = (
    "a red bicycle leaning against a white wall in the evening light",
    "two cats asleep on a blue sofa beside an open window",
    "a lighthouse on a cliff above a stormy sea, seen from a boat",
    "an old man reading a newspaper in a crowded station",
    "three green apples and a knife on a wooden table",
    "a small robot watering flowers on a balcony at dawn",
    "a mountain lake with a single yellow tent on the far shore",
    "a street market at night with lanterns over the stalls",
)
QUESTIONS = (
    "Is the main subject of the picture complete?",
    "Is there a person in the picture?",
    "Are all the objects that the request names visible?",
    "Is the number of objects right?",
    "Is anything in the picture blurred or out of focus?",
    "Is the light consistent with the time of day?",
    "Are the colours of the objects as the request demands?",
    "Is there any text in the picture?",
    "Does every shadow fall in the same direction?",
    "Is the background plausible for this scene?",
    "Are the proportions of the objects natural?",
    "Is the largest object in the middle?",
    "Are there objects that nobody asked for?",
    "Is the horizon level?",
    "Do the materials look real?",
    "Is the picture free of noise and distortion?",
)
THOUGHTS = (
    "The object in the middle is large and clearly outlined.",
    "Its colour is close to what was named, perhaps a little darker.",
    "I count the things on the left one by one and find them all.",
    "The light falls from the right and the shadows agree with it.",
    "Behind it there is an open space with little detail.",
    "The surface looks rough, as wood or stone would.",
    "One edge near the bottom is slightly blurred.",
    "Nothing in the background contradicts the scene.",
)
FPS = 2.0
"""Frames per second of a clip: as many as judges look at."""


def texts() -> list[str]:
    """Everything a judge will read, for its tokenizer."""
    fixed = [listener.PROMPT, critique.PROMPT, *critique.ASPECTS, *critique.ASPECTS.values()]
    return [*PROMPTS, *QUESTIONS, *THOUGHTS, *fixed, "Answer yes or no. take user assistant system seconds"]


def draw_pictures(folder: Path, sizes: Sequence[tuple[int, int]], seed: int) -> list[Path]:
    """Write one PNG file per (height, width): soft shapes with a little grain, like photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for index, (height, width) in enumerate(sizes):
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        grain = rng.integers(-6, 7, soft.shape)
        paths.append(folder / f"{index:04d}.png")
        Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8)).save(paths[-1], compress_level=1)
    return paths


def draw_up(
    media: Iterable[Path | Sequence[Path]], *, per_prompt: int = 1, questions: int = 4
) -> list[Sample]:
    """One sample for each picture or clip (a sequence of frames), with fresh `Media` that nobody has read.

    Every sample has a prompt (the same for `per_prompt` in a row), a checklist, and a response that argues.
    """
    asked = [{"question": f"{text} Answer yes or no.", "answer": "yes"} for text in QUESTIONS[:questions]]
    samples = []
    for index, source in enumerate(media):
        number, again = divmod(index // per_prompt, len(PROMPTS))[::-1]
        clip = None if isinstance(source, Path) else Media(tuple(source), kind="video", fps=FPS)
        samples.append(
            Sample(
                id=str(index),
                prompt=PROMPTS[number] + (f", take {again}" if again else ""),
                image=Media(source) if clip is None else None,
                video=clip,
                response=f"<think>{_thought(index)}</think><answer>yes</answer>",
                target="yes",
                meta={"checklist": asked},
            )
        )
    return samples


def _thought(index: int) -> str:
    return " ".join(THOUGHTS[(index + step) % len(THOUGHTS)] for step in range(5))
