"""Drift of scores by option of a network: `python -m mmreward.evals.audits.drift [device]`.

Against clipscore in float32, resized in float, in full batches: half precision, the 8-bit ways to resize, a
batch of one, torch without oneDNN, and JPEG files decoded at a reduced scale against whole ones. Three
encoders: mini-clip on its own scenes, and two of ViT-B/32's size with random weights (one in transformers
format, one in open_clip's) on photo-like noise. A ranking is what group-relative training sees, so ranks are
compared within groups of eight pictures of one prompt. Likewise the answers of two judges, by a soft
checklist of one question for each group, about the same scenes: the mini-vlm, and a Qwen3-VL with random
weights, of the bench's `small` scale. Figures: evals/drift.md.
"""

import io
import json
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from mmreward import Engine, Media, Sample
from mmreward.engine.batching import Budget
from mmreward.mini.tasks import MATCH
from mmreward.mini.world import describe, render, sample_scene

from ..speed.inputs import SCALES, Checkpoints, save_byte_tokenizer, texts

Scores = np.ndarray[Any, np.dtype[np.float64]]
GROUPS, GROUP = 4, 8
BFLOAT16 = {"dtype": "bfloat16"}
OPTIONS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bfloat16": ({}, BFLOAT16),
    "float16": ({}, {"dtype": "float16"}),
    "resize pil": ({}, {"resize": "pil"}),
    "resize uint8": ({}, {"resize": "uint8"}),
    "batch of 1": ({}, {"items": 1}),
    "batch of 1, both in bfloat16": (BFLOAT16, {**BFLOAT16, "items": 1}),
    "without oneDNN": ({}, {"onednn": False}),
    "resize draft": ({"resize": "uint8"}, {"resize": "draft"}),
}
"""Name of an option -> what it is compared with, and itself, as arguments of `scores`."""


FILES = ("resize draft",)
"""Options that matter to files alone."""
JUDGES = tuple(name for name in OPTIONS if not name.startswith("resize"))
"""Options that a judge has, too."""
ARGUMENTS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "clipscore": lambda weights: {"weights": weights},
    "checklist": lambda weights: {"judge": weights, "soft": True, "min_mass": 0.0},
}
"""Arguments of the reward that scores, of its weights."""


class Drift(NamedTuple):
    """Difference of one option's scores from the reference's.

    `spread` is the reference's standard deviation within a group: what a difference has to be small against.
    `rank` is Spearman's correlation within a group; both are means over the groups.
    """

    mean: float
    max: float
    rank: float
    spread: float


def main(device: str = "auto") -> None:
    """Measure everything and print the table."""
    table = Table("encoder", "option", "mean |d|", "max |d|", "rank", "spread", box=box.SIMPLE)
    with tempfile.TemporaryDirectory() as folder:
        vit, usual = save_transformers(Path(folder, "transformers")), set(OPTIONS).difference(FILES)
        encoders = {
            "mini-clip": ("mini-clip", scenes(), usual),
            "ViT-B/32, transformers": (vit, photos(), usual),
            "ViT-B/32, transformers, JPEG": (vit, jpegs(), FILES),
            "ViT-B/32, open_clip": (save_open_clip(Path(folder, "open_clip")), photos(), usual),
        }
        for name, (weights, samples, options) in encoders.items():
            for option, row in drifts(weights, samples, device, names=options):
                numbers = f"{row.mean:.1e}", f"{row.max:.1e}", f"{row.rank:.4f}", f"{row.spread:.1e}"
                table.add_row(name, option, *numbers)
        places = Checkpoints(Path(folder, "judge"), SCALES["small"], texts(), torch.float32)
        judges = {"mini-vlm": ("mini-vlm", asked(scenes())), "Qwen3-VL": (str(places.judge), asked(scenes()))}
        for name, (weights, samples) in judges.items():
            for option, row in drifts(weights, samples, device, "checklist", JUDGES):
                numbers = f"{row.mean:.1e}", f"{row.max:.1e}", f"{row.rank:.4f}", f"{row.spread:.1e}"
                table.add_row(name, option, *numbers)
    Console(width=100).print(table)


def drifts(
    weights: str,
    samples: list[Sample],
    device: str,
    reward: str = "clipscore",
    names: Collection[str] = OPTIONS,
) -> Iterator[tuple[str, Drift]]:
    """The drift of these options of one network, by the option's name."""

    @cache
    def measured(options: tuple[tuple[str, Any], ...]) -> Scores:
        return scores(weights, samples, device, reward, **dict(options))

    for option, (reference, changed) in OPTIONS.items():
        if option in names:
            yield option, compare(measured((*reference.items(),)), measured((*changed.items(),)))


def compare(reference: Scores, changed: Scores) -> Drift:
    """Drift of `changed` from `reference`, both (groups, pictures of a group)."""
    difference = np.abs(changed - reference)
    ranks = [spearmanr(a, b).statistic for a, b in zip(reference, changed, strict=True)]
    spread = reference.std(axis=1).mean()
    return Drift(float(difference.mean()), float(difference.max()), float(np.mean(ranks)), float(spread))


def scores(
    weights: str,
    samples: list[Sample],
    device: str,
    reward: str = "clipscore",
    *,
    items: int = 256,
    onednn: bool = True,
    **options: str,
) -> Scores:
    """Scores as (groups, pictures of a group), in batches of at most `items`, with or without oneDNN.

    Raises:
        ValueError: a score failed, so that there is nothing to compare.
    """
    given = {reward: {**ARGUMENTS[reward](weights), **options}}
    without = nullcontext() if onednn else torch.backends.mkldnn.flags(enabled=False)
    with without, Engine(device, budget=Budget(items=items)) as engine:
        column = engine.score(samples, given)[reward]
    if failed := [score.note for score in column if score.status != "ok"]:
        raise ValueError(f"{len(failed)} scores failed; the first: {failed[0]}")
    return np.array([score.value for score in column]).reshape(-1, GROUP)


def scenes() -> list[Sample]:
    """Scenes of 64 x 64, eight for each caption of one of them."""
    rng = np.random.default_rng(0)
    samples = []
    for group in range(GROUPS):
        shown = [sample_scene(rng) for _ in range(GROUP)]
        prompt = str(describe(shown[0]))
        samples += [
            Sample(prompt=prompt, image=Media(render(scene, 64)), group=str(group)) for scene in shown
        ]
    return samples


def photos() -> list[Sample]:
    """Noise of 768 x 512 with a photo's spectrum: the coarser, the stronger, and a little grain."""
    rng = np.random.default_rng(1)
    return [
        Sample(prompt=f"a photo of number {group}", image=Media(_photo(rng)), group=str(group))
        for group in range(GROUPS)
        for _ in range(GROUP)
    ]


def jpegs() -> list[Sample]:
    """The same as JPEG files of quality 90."""
    samples = []
    for one in photos():
        assert one.image is not None
        file = io.BytesIO()
        Image.fromarray(one.image.array()).save(file, "JPEG", quality=90)
        samples.append(replace(one, image=Media(file.getvalue())))
    return samples


def asked(samples: list[Sample]) -> list[Sample]:
    """The same with the question whether the picture matches the prompt, as the mini-vlm knows it."""
    return [
        replace(one, meta={"checklist": [{"question": MATCH.format(caption=one.prompt), "answer": "yes"}]})
        for one in samples
    ]


def save_transformers(folder: Path) -> str:
    """A CLIP of ViT-B/32's size with random weights, its tokenizer one of bytes."""
    tokenizer, vocabulary = save_byte_tokenizer(folder)
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=vocabulary)).save_pretrained(folder)
    CLIPProcessor(image_processor=CLIPImageProcessor(), tokenizer=tokenizer).save_pretrained(folder)
    return str(folder)


def save_open_clip(folder: Path) -> str:
    """open_clip's ViT-B-32 with random weights and OpenAI's preprocessing."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(1)
    model = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32"))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return str(folder)


def _photo(rng: np.random.Generator) -> Image.Image:
    total = np.full((512, 768, 3), 128.0)
    for cells in (2, 4, 8, 16, 32, 64, 256):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += (np.asarray(coarse.resize((768, 512), Image.Resampling.BICUBIC), float) - 128) / cells**0.5
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main(*sys.argv[1:])
