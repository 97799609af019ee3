"""Second writings of the scorers on a dual encoder of transformers: cosines, PickScore and imscore's forms of
it, fitted maps and heads, aesthetic predictors.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tf

from . import social
from .checkpoints import SIDE
from .upstream import Reference, pixels_of

Args = Mapping[str, Any]


class Clip:
    """A CLIP of transformers by its model's own methods: unit embeddings of a picture, pixels, and a text."""

    reads = True

    def __init__(self, folder: str) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        self.model: Any = AutoModel.from_pretrained(folder).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder) if self.reads else None
        self.processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")

    def picture(self, picture: Image.Image) -> torch.Tensor:
        return self._unit(self.model.get_image_features(pixel_values=self.values(picture)))

    def pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._unit(self.model.get_image_features(pixel_values=self.middle(pixels)))

    def values(self, picture: Image.Image) -> Any:
        return self.processor(images=[picture], return_tensors="pt")["pixel_values"]

    def middle(self, pixels: torch.Tensor) -> Any:
        """Shorter side to the input in float, within [0, 1], and the middle of it; a SigLIP's is squashed."""
        whole = self.model.config.model_type == "siglip"
        small = tf.resize(pixels, [SIDE, SIDE] if whole else SIDE, self._kernel, antialias=True)
        if small.shape != pixels.shape:
            small = small.clamp(0, 1)
        top, left = ((side - SIDE) // 2 for side in small.shape[-2:])
        middle = small[..., top : top + SIDE, left : left + SIDE]
        return tf.normalize(middle, self.processor.image_mean, self.processor.image_std)

    @property
    def _kernel(self) -> InterpolationMode:
        return {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}[int(self.processor.resample)]

    def text(self, text: str) -> Any:
        tokens = self.tokenizer(text, truncation=True, max_length=77, return_tensors="pt")
        with torch.no_grad():
            return self._unit(self.model.get_text_features(**tokens))

    @staticmethod
    def _unit(output: Any) -> torch.Tensor:
        vector = output if isinstance(output, torch.Tensor) else output.pooler_output
        return F.normalize(vector, dim=-1)


def of_text(weights: str, moved: Callable[[torch.Tensor], torch.Tensor]) -> Reference:
    net = Clip(weights)
    return Reference(
        lambda picture, prompt: (net.picture(picture) * moved(net.text(prompt))).sum().item(),
        lambda pixels, prompt: (net.pixels(pixels) * moved(net.text(prompt))).sum(-1),
        resizes=True,
    )


def clipscore(args: Args) -> Reference:
    """Cosine (arXiv:2104.08718, without its factor), or as its authors' code has it."""
    if args.get("scale") == "clipscore/pyiqa":
        return social.clipscore(args)
    return of_text(args["weights"], lambda text: text)


def pickscore(args: Args) -> Reference:
    """exp(logit_scale) times the cosine, as the model card has it."""
    if "tag" in (facts := json.loads((Path(args["weights"]) / "config.json").read_text())):
        return _imscore(args["weights"], facts["tag"])
    factor = Clip(args["weights"]).model.logit_scale.detach().exp()
    return of_text(args["weights"], lambda text: factor * text)


def _imscore(folder: str, base: str) -> Reference:
    """exp(logit_scale) times the cosine, plus a SigLIP's bias, by imscore's tensors: shorter side (a SigLIP's
    both) to the input in float with a bilinear kernel, and the middle."""
    from safetensors.torch import load_file

    net = Clip(base)
    state = load_file(f"{folder}/model.safetensors")
    net.model.load_state_dict({name.removeprefix("model."): one for name, one in state.items()})
    siglip = net.model.config.model_type == "siglip"
    words = {"padding": "max_length", "max_length": 16} if siglip else {"max_length": 77}

    def logit(pixels: torch.Tensor, prompt: str) -> Any:
        small = tf.resize(
            pixels, [SIDE, SIDE] if siglip else SIDE, InterpolationMode.BILINEAR, antialias=True
        )
        small = tf.normalize(tf.center_crop(small, [SIDE]), net.processor.image_mean, net.processor.image_std)
        tokens = net.tokenizer(prompt, truncation=True, return_tensors="pt", **words)
        output = net.model(pixel_values=small, input_ids=tokens["input_ids"])
        return output.logits_per_image[0]

    return Reference(lambda picture, prompt: logit(pixels_of(picture), prompt).item(), logit, resizes=True)


def d2_align(args: Args) -> Reference:
    """e- + w (e+ - e-), with e+- = unit(e +- bias), brought back to unit length (arXiv:2512.24146)."""
    from safetensors import safe_open

    with safe_open(args["fitted"], framework="pt") as file:
        bias, weight = file.get_tensor("bias"), float(file.metadata()["weight"])

    def moved(text: Any) -> Any:
        plus, minus = (side / side.norm() for side in (text + bias, text - bias))
        whole = (1 - weight) * minus + weight * plus
        return whole / whole.norm()

    return of_text(args["weights"], moved)


def pisces(args: Args) -> Reference:
    """y + MLP(y) of three layers with SiLU, brought back to unit length (arXiv:2602.01624)."""
    from safetensors.torch import load_file

    state = load_file(args["fitted"])

    def moved(text: torch.Tensor) -> torch.Tensor:
        hidden = text
        for index in (0, 2, 4):
            hidden = hidden @ state[f"layers.{index}.weight"].T + state[f"layers.{index}.bias"]
            hidden = hidden * torch.sigmoid(hidden) if index < 4 else hidden
        return F.normalize(text + hidden, dim=-1)

    return of_text(args["weights"], moved)


def head(args: Args) -> Reference:
    """s cos + w . MLP(sqrt(D) i, sqrt(D) t, D i t) of two layers with SiLU: the first of its numbers."""
    from safetensors.torch import load_file

    folder = Path(args["fitted"])
    state = load_file(folder / "head.safetensors")
    net = Clip(json.loads((folder / "head.json").read_text(encoding="utf-8"))["encoder"])

    def rated(seen: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        width = seen.shape[-1]
        said = said.expand_as(seen)
        hidden = torch.cat([width**0.5 * seen, width**0.5 * said, width * seen * said], dim=-1)
        for layer in ("body.0", "body.2"):
            hidden = hidden @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
            hidden = hidden * torch.sigmoid(hidden)
        last = hidden @ state["last.weight"][0] + state["last.bias"][0]
        value: torch.Tensor = state["scale"] * (seen * said).sum(-1) + last
        return value

    return Reference(
        lambda picture, prompt: rated(net.picture(picture), net.text(prompt)).item(),
        lambda pixels, prompt: rated(net.pixels(pixels), net.text(prompt)),
        resizes=True,
    )


def harmonic(args: Args) -> Reference:
    """1 / (l / i + (1 - l) / t) of both cosines brought to [0, 1], l = 0.3 (arXiv:2407.12164)."""
    net = Clip(args["weights"])
    from .cases import INPUTS, PICTURES

    def value(picture: Image.Image, prompt: str) -> float:
        seen = net.picture(picture)
        likeness = float(np.mean([(seen * net.picture(PICTURES[row])).sum().item() for row in INPUTS]))
        match = float((seen * net.text(prompt)).sum())
        return 1.0 / (0.3 / ((1 + likeness) / 2 + 1e-8) + 0.7 / ((1 + match) / 2 + 1e-8))

    return Reference(value)


def aesthetic(args: Args) -> Reference:
    """The head's layers one after another in float32, dropout off, on the unit embedding."""
    net = Clip(args["encoder"])
    state = torch.load(args["head"], weights_only=True)
    layers = [name.removesuffix("weight") for name in state if name.endswith("weight")]

    def through(vectors: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            vectors = F.linear(vectors, state[f"{layer}weight"], state[f"{layer}bias"])
        return vectors[:, 0]

    return Reference(
        lambda picture, _: through(net.picture(picture)).item(),
        lambda pixels, _: through(net.pixels(pixels)),
        resizes=True,
    )
