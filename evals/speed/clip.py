"""CLIP task of the speed comparison: five rewards over one set.

A score from each of two or three dual encoders, and heads on the first one's image embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import normalize

from mmreward import Sample, Score, load, models
from mmreward.models.base import pooled
from mmreward.registry import Reward
from mmreward.types import RewardInfo

from .contest import Values, Work, quick_linears
from .inputs import Checkpoints
from .vlm import chunks

RESIZE = "uint8"
"""torchvision on 8-bit values: what a processor does by default, and the engine's quickest on a CPU."""


@dataclass(frozen=True)
class Encoder:
    """A CLIP as its model card loads it."""

    model: Any
    processor: Any
    device: torch.device

    @classmethod
    def load(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> "Encoder":
        from transformers import AutoModel, AutoProcessor

        model: Any = AutoModel.from_pretrained(folder, dtype=dtype)
        processor: Any = AutoProcessor.from_pretrained(folder)
        return cls(model.to(device).eval(), processor, device)

    def inputs(self, samples: Sequence[Sample], texts: bool) -> dict[str, torch.Tensor]:
        pictures = []
        for sample in samples:
            assert sample.image is not None
            with Image.open(sample.image.source) as picture:
                pictures.append(picture.convert("RGB"))
        words = {"text": [sample.prompt for sample in samples], "padding": True} if texts else {}
        tokens = self.processor(images=pictures, return_tensors="pt", **words)
        return {name: self._moved(tensor) for name, tensor in tokens.items()}

    def image(self, pixels: torch.Tensor) -> torch.Tensor:
        return normalize(pooled(self.model.get_image_features(pixel_values=pixels)).float(), dim=-1)

    def text(self, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return normalize(pooled(self.model.get_text_features(**tokens)).float(), dim=-1)

    def similarities(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N,) cosines of pictures and texts in one forward, as on the model card."""
        output = self.model(**inputs)
        images, texts = output.image_embeds.float(), output.text_embeds.float()
        return (normalize(images, dim=-1) * normalize(texts, dim=-1)).sum(-1)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        moved = tensor.to(self.device)
        return moved.to(self.model.dtype) if moved.is_floating_point() else moved


@dataclass(frozen=True)
class Linear:
    """A head on the unit image embedding."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        return (embeddings @ self.weight.T + self.bias)[:, 0]


@dataclass(frozen=True)
class ClipFamily:
    """A similarity by each encoder and the heads on the first, for each sample."""

    encoders: tuple[Encoder, ...]
    heads: tuple[Linear, ...]
    rewards: Mapping[str, Reward]

    def values(self, scores: Mapping[str, list[Score]]) -> Values:
        rows = zip(*(scores[name] for name in self.rewards), strict=True)
        return [score.value for row in rows for score in row if score.ok]

    def loop(self, samples: Sequence[Sample]) -> Values:
        return self.batches(samples, 1)

    @torch.inference_mode()
    def batches(self, samples: Sequence[Sample], size: int) -> Values:
        """Reward by reward: each opens the files, preprocesses and embeds again."""
        values: Values = []  # reward by reward
        for encoder in self.encoders:
            for some in chunks(samples, size):
                values += encoder.similarities(encoder.inputs(some, texts=True)).tolist()
        for head in self.heads:
            for some in chunks(samples, size):
                pixels = self.encoders[0].inputs(some, texts=False)["pixel_values"]
                values += head(self.encoders[0].image(pixels)).tolist()
        return by_sample(values, len(samples))

    def bare(self, samples: Sequence[Sample], size: int) -> Work:
        """Every picture once through each image tower, every different prompt once through each text one."""
        prompts = list(dict.fromkeys(sample.prompt for sample in samples))
        rows = torch.tensor([prompts.index(sample.prompt) for sample in samples])
        prepared = [self._prepared(encoder, samples, prompts, size) for encoder in self.encoders]

        @torch.inference_mode()
        def run() -> Values:
            values: Values = []
            embedded = []
            for encoder, (pixels, tokens) in zip(self.encoders, prepared, strict=True):
                with quick_linears(encoder.model):
                    images = torch.cat([encoder.image(some) for some in pixels])
                    texts = torch.cat([encoder.text(some) for some in tokens])
                values += (images * texts[rows.to(texts.device)]).sum(-1).tolist()
                embedded.append(images)
            for head in self.heads:
                values += head(embedded[0]).tolist()
            return by_sample(values, len(samples))

        return run

    def _prepared(
        self, encoder: Encoder, samples: Sequence[Sample], prompts: list[str], size: int
    ) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
        pixels = [encoder.inputs(some, texts=False)["pixel_values"] for some in chunks(samples, size)]
        tokenize = encoder.processor.tokenizer
        tokens = [tokenize(some, padding=True, return_tensors="pt") for some in chunks(prompts, size)]
        return pixels, [dict(some.to(encoder.device)) for some in tokens]


def by_sample(values: Values, samples: int) -> Values:
    """Values that stand reward by reward, sample by sample."""
    return [value for row in range(samples) for value in values[row::samples]]


REWARDS = 5


def clip_family(places: Checkpoints, device: torch.device, dtype: str, towers: int = 2) -> ClipFamily:
    """Load the encoders for the contenders without an engine, and the five rewards for the one with it."""
    folders, files = places.encoders(towers), places.heads(REWARDS - towers)
    encoders = tuple(Encoder.load(folder, device, getattr(torch, dtype)) for folder in folders)
    heads = [{k: v.to(device) for k, v in load_file(path).items()} for path in files]
    rewards = {
        f"clipscore {number}": load("clipscore", weights=str(folder), dtype=dtype, resize=RESIZE)
        for number, folder in enumerate(folders, start=1)
    }
    for number, path in enumerate(files, start=1):
        rewards[f"head {number}"] = _headed(path, folders[0], dtype)
    return ClipFamily(encoders, tuple(Linear(h["weight"], h["bias"]) for h in heads), rewards)


def _headed(path: Path, encoder: Path, dtype: str) -> Reward:
    """A reward that is one head's value, on the encoder that the first clipscore has as well."""
    net = models.head(str(path), str(encoder), dtype=dtype, resize=RESIZE)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        return Score(await net.value(sample.image))

    info = RewardInfo(name=path.stem, needs=("image",), range=(-1e9, 1e9), uses_prompt=False)
    return Reward(info, {}, score)
