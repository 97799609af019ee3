"""mini-artifact: a small residual network (transformers format) that classifies pictures as clean or spoiled.

Clean means rendered, perhaps softened; spoiled means `corrupt` at level 0.35 to 1. It sees 64 pixels,
whatever the source's size, and knows nothing of captions: a wrong but clean picture is clean.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.stats import rankdata
from torch.nn import functional as F
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessor,
)

from ..assets import ASSETS
from . import world
from .corrupt import KINDS, PLAIN, corrupt, soften
from .loop import Plan, fit

SIZE = 64
LABELS = {0: "artifact", 1: "clean"}
BATCH, STEPS_TRAINED, LR = 64, 1200, 2e-3
FOLDER = ASSETS / "mini-artifact"


class Classifier(NamedTuple):
    """A loaded mini-artifact."""

    model: Any
    processor: Any

    @torch.inference_mode()
    def clean(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """P(clean) of each picture."""
        logits = self.model(**self.processor(list(pictures), return_tensors="pt")).logits
        return np.asarray(logits.float().softmax(-1)[:, self.model.config.label2id["clean"]])


class ArtifactStudent(torch.nn.Module):
    """The classifier under training, from pixels to logits."""

    def __init__(self, model: ResNetForImageClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:  # noqa: N803
        return torch.as_tensor(self.model(pixel_values=pixels_NCHW).logits)


def build() -> Classifier:
    """The untrained network and its preprocessing."""
    config = ResNetConfig(
        embedding_size=24,
        hidden_sizes=[24, 48, 96],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=LABELS,
        label2id={name: index for index, name in LABELS.items()},
    )
    processor = ViTImageProcessor(
        size={"height": SIZE, "width": SIZE},
        resample=Image.Resampling.BILINEAR,
        image_mean=[0.15] * 3,
        image_std=[0.22] * 3,
    )
    return Classifier(ResNetForImageClassification(config), processor)


def sample(rng: np.random.Generator, spoiled: bool) -> Image.Image:
    """A picture of 32 or 64 pixels, clean (half of the time softened) or spoiled (perhaps softened first)."""
    strokes = int(rng.integers(1, 4)) if rng.random() < 0.15 else 0
    scene = world.sample_scene(rng, clutter=strokes, text="ab 12" if rng.random() < 0.05 else "")
    picture = world.render(scene, (32, 64)[int(rng.integers(2))])
    if rng.random() < 0.5:
        picture = soften(picture, rng)
    return corrupt(picture, rng, float(rng.uniform(PLAIN, 1))) if spoiled else picture


def render_pool(processor: Any, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Half spoiled and half clean pictures after preprocessing, (N, 3, 64, 64) as float16, and labels."""
    rng = np.random.default_rng((seed, 5))
    labels = np.arange(count) % 2
    parts = []
    for start in range(0, count, 256):
        pictures = [sample(rng, spoiled=label == 0) for label in labels[start : start + 256]]
        parts.append(torch.cat([processor(p, return_tensors="pt")["pixel_values"] for p in pictures]).half())
    return torch.cat(parts), torch.from_numpy(labels)


def train(out: Path, scale: float, seed: int) -> None:
    """Train from scratch (or from the checkpoint of a run cut short) and save under `out`/mini-artifact."""
    torch.manual_seed(seed)
    model, processor = build()
    pixels, labels = render_pool(processor, max(256, int(24_000 * min(1.0, scale))), seed)
    student = ArtifactStudent(model).to(memory_format=torch.channels_last)

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Mapping[str, float]]:
        picked = rng.integers(len(labels), size=BATCH)
        batch = pixels[picked].float()
        for axis in (2, 3):
            if rng.random() < 0.5:
                batch = batch.flip(axis)
        logits = student(batch.contiguous(memory_format=torch.channels_last))
        correct = (logits.argmax(-1) == labels[picked]).float().mean()
        return F.cross_entropy(logits, labels[picked], label_smoothing=0.02), {"correct": correct.item()}

    plan = Plan(steps=max(1, int(STEPS_TRAINED * scale)), lr=LR, warmup=100, ema=0.995, seed=seed)
    fit(student, loss, plan, out / ".checkpoints" / "mini-artifact.pt")
    folder = out / "mini-artifact"
    model.to(memory_format=torch.contiguous_format).save_pretrained(folder)
    processor.save_pretrained(folder)


def load(folder: Path = FOLDER) -> Classifier:
    """Read a saved mini-artifact the way any image classifier is read."""
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"no mini-artifact in {str(folder)!r}; train one: python -m mmreward.mini.train artifact"
        )
    model = AutoModelForImageClassification.from_pretrained(folder)
    return Classifier(model.eval(), AutoImageProcessor.from_pretrained(folder))


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive scores above a negative, ties counting half."""
    ranks = rankdata(scores)
    wins = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(wins / (positive.sum() * (~positive).sum()))


def measure(folder: Path = FOLDER, count: int = 1024, seed: int = 10_007) -> dict[str, float]:
    """Held out: AUROC and accuracy over `count` pictures, half of them spoiled; AUROC by kind of artifact."""
    classifier = load(folder)
    rng = np.random.default_rng((seed, 6))
    clean = np.arange(count) % 2 == 1
    scores = _score(classifier, [sample(rng, spoiled=not good) for good in clean])
    figures = {
        "auroc": auroc(scores, clean),
        "accuracy": float(((scores > 0.5) == clean).mean()),
        "n": float(count),
    }
    for name in KINDS:
        figures[f"auroc_{name}"] = _auroc_of(name, classifier, rng, scores[clean])
    return figures


def _auroc_of(name: str, classifier: Classifier, rng: np.random.Generator, clean: np.ndarray) -> float:
    """AUROC of one kind of artifact alone (any draw, even a faint one) against the clean scores."""
    pictures = []
    for index in range(128):
        pixels = np.asarray(world.render(world.sample_scene(rng), (32, 64)[index % 2]), dtype=np.float64)
        spoiled = KINDS[name](pixels, rng, float(rng.uniform(PLAIN, 1)))
        pictures.append(Image.fromarray(np.clip(spoiled, 0, 255).astype(np.uint8)))
    scores = np.concatenate([clean, _score(classifier, pictures)])
    return auroc(scores, np.arange(len(scores)) < len(clean))


def _score(classifier: Classifier, pictures: Sequence[Image.Image]) -> np.ndarray:
    # The torchvision-backed processor stacks only pictures of one size, hence one list per size.
    scores = np.empty(len(pictures))
    for size in {picture.size for picture in pictures}:
        same = [index for index, picture in enumerate(pictures) if picture.size == size]
        for start in range(0, len(same), 128):
            chunk = same[start : start + 128]
            scores[chunk] = classifier.clean([pictures[index] for index in chunk])
    return scores
