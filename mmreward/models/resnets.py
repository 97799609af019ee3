"""ResNets that were trained to measure how far a picture is from a goal: VIP and R3M, from their publishers'
files. Op "image".

A file is a dictionary with the tensors under `vip` or `r3m`, as `module.convnet.*`; R3M's has a language
model and its head besides, which a distance between pictures does not read. Which ResNet it is (18, 34 or 50)
and how long an embedding is, the tensors say. An embedding's length counts: it is no unit vector.
"""

from typing import Any, Literal, cast

import torch

from .checkpoints import fill, state_of
from .features import PictureEmbedder
from .pixels import Recipe
from .weights import placed

Family = Literal["vip", "r3m"]
RECIPE = Recipe(
    size=(224, 224), edge=256, kernel="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""Both publishers' preprocessing of a picture."""
BODY = "convnet."
UNREAD = ("lang_enc.", "lang_rew.")


class GoalResNet(PictureEmbedder):
    """A ResNet of torchvision with the published weights; `image` gives embeddings as they are.

    Args:
        weights: the published file (.pt of tensors alone, or .safetensors with its names).
        family: under which name the tensors stand in it.
        dtype, resize: as for `mmreward.models.embedder`.
    """

    def __init__(self, weights: str, family: Family, *, dtype: str = "float32", resize: str = "pil") -> None:
        super().__init__(placed(weights), dtype=dtype, resize=resize, family=family)
        self.name = weights
        self.family = family

    @property
    def recipe(self) -> Recipe:
        return RECIPE

    def build(self) -> torch.nn.Module:
        import torchvision

        state = state_of(self.source, self.family)
        body = {name: tensor for name, tensor in state.items() if not name.startswith(UNREAD)}
        if not body or not all(name.startswith(BODY) for name in body):
            there = next((name for name in body if not name.startswith(BODY)), "nothing")
            raise ValueError(f"{self.name} is no file of {self.family}: it has {there}, not {BODY}*")
        body = {name.removeprefix(BODY): tensor for name, tensor in body.items()}
        make: Any = getattr(torchvision.models, f"resnet{depth_of(body)}")
        module = make(weights=None)
        last = body.get("fc.weight")
        width = module.fc.in_features
        module.fc = torch.nn.Identity() if last is None else torch.nn.Linear(width, len(last))
        fill(module, body, self.name)
        return cast(torch.nn.Module, module.to(self.dtype))

    def embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.module(pixels))

    def _unit(self, pixels: torch.Tensor) -> torch.Tensor:
        """The embeddings, whose length is not taken off."""
        return self.embedding(pixels.to(self.dtype)).float()


def depth_of(state: dict[str, torch.Tensor]) -> int:
    """Layers of the ResNet that has these tensors."""
    if "layer1.0.conv3.weight" in state:
        return 50
    return 34 if "layer1.2.conv1.weight" in state else 18
