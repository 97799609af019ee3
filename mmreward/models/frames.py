"""Embeddings of a clip's frames as VBench (arXiv:2311.17982) prepares them, by DINO or CLIP.

Op "image": the unit embedding of one frame. Both resize the shorter side in float without antialiasing, and
the overshoot of CLIP's bicubic kernel stands. CLIP sees the middle; DINO sees the whole frame, of whatever
shape, with its positions stretched to it by DINO's own rule.

For pictures `models.clip` and `models.embedder` are the right ones: without antialiasing a large frame has
other embeddings.
"""

from abc import abstractmethod
from typing import Any, cast

import torch
import torch.nn.functional as F

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unscorable
from ..media import Media
from .base import TorchNetwork, pooled
from .encoder_handle import Vector
from .pictures import decoded, in_turn
from .weights import placed

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LONGEST = 50
"""Times that a frame's longer side may be its shorter one: DINO reads the whole of it, 196 tokens
or more for every square, each with each."""
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class FrameEmbedder(TorchNetwork):
    """Network of one unit vector per frame.

    Args:
        weights: a hub id or folder in transformers format.
        dtype: of the network.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(placed(weights), dtype=dtype, resize="tensor")
        self.name = weights

    @abstractmethod
    def sized(self, picture: torch.Tensor) -> torch.Tensor:
        """Float pixels (3, H, W), normalised, of a uint8 picture (3, H, W)."""

    @abstractmethod
    def embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W), prepared, in the weights' dtype -> (N, D); its length does not matter."""

    async def image(self, media: Media) -> Vector:
        """The unit embedding of a frame, (D,) float32.

        Raises:
            Unscorable: the frame is broken, or longer than `LONGEST` times its width.
        """
        return cast(Vector, await current().submit(self, "image", media, key=media.key))

    def cost(self, op: str, item: Media) -> Cost:
        height, width = item.size
        short, long = sorted((height, width))
        if long > LONGEST * short:
            raise Unscorable(
                f"frames of {width} x {height} pixels are too thin for {self.name}: one side has at most "
                f"{LONGEST} times the pixels of the other"
            )
        return Cost(256 * max(1, long // short), 3 * height * width)

    def prepare(self, op: str, items: list[Media]) -> list[torch.Tensor]:
        return in_turn(items, lambda index: self.sized(decoded(items[index]).cpu()))

    @torch.inference_mode()
    def forward(self, op: str, batch: list[torch.Tensor]) -> list[Any]:
        results: list[Any] = [None] * len(batch)
        for shape in dict.fromkeys(pixels.shape for pixels in batch):
            rows = [row for row, pixels in enumerate(batch) if pixels.shape == shape]
            stacked = torch.stack([batch[row] for row in rows]).to(self.device, self.dtype)
            units = F.normalize(self.embedding(stacked).float(), dim=-1).cpu().numpy()
            for row, unit in zip(rows, units, strict=True):
                results[row] = unit
        return results


class ClipFrames(FrameEmbedder):
    """The image tower of a CLIP in transformers format."""

    def build(self) -> torch.nn.Module:
        from transformers import CLIPModel

        # Not the class of the tower alone: transformers 5 gives it a projection of its default size, with
        # random weights, out of a whole CLIP's folder.
        return cast(torch.nn.Module, CLIPModel.from_pretrained(self.source, dtype=self.dtype))

    def sized(self, picture: torch.Tensor) -> torch.Tensor:
        side = int(self.module.config.vision_config.image_size)
        small = _shorter(picture, side, "bicubic")
        top, left = (round((length - side) / 2) for length in small.shape[1:])
        return _normalised(small[:, top : top + side, left : left + side], *OPENAI)

    def embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        return pooled(self.module.get_image_features(pixel_values=pixels))


class DinoFrames(FrameEmbedder):
    """Class token of a DINO in transformers format (a ViT), of a frame of any shape."""

    def build(self) -> torch.nn.Module:
        from transformers import AutoConfig, ViTModel

        kind = AutoConfig.from_pretrained(self.source).model_type
        if kind != "vit":
            raise ValueError(f"a {kind} model is not a ViT, which DINO is")
        given = {"dtype": self.dtype, "add_pooling_layer": False}
        return cast(torch.nn.Module, ViTModel.from_pretrained(self.source, **given))

    def sized(self, picture: torch.Tensor) -> torch.Tensor:
        return _normalised(_shorter(picture, int(self.module.config.image_size), "bilinear"), *IMAGENET)

    def embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        module, patch = self.module, int(self.module.config.patch_size)
        own = module.embeddings
        patches = own.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        places = _stretched(own.position_embeddings, *(side // patch for side in pixels.shape[2:]))
        x = torch.cat([own.cls_token.expand(len(pixels), -1, -1), patches], dim=1) + places
        for layer in _layers(module):
            found = layer(x)
            x = found[0] if isinstance(found, tuple) else found
        return cast(torch.Tensor, module.layernorm(x)[:, 0])


def _layers(module: Any) -> Any:
    """Blocks of a ViT, which transformers keeps in one of two places."""
    encoder = getattr(module, "encoder", module)
    return getattr(encoder, "layer", None) or encoder.layers


def _shorter(picture: torch.Tensor, side: int, mode: str) -> torch.Tensor:
    """The shorter side to `side`, in float 0 to 255 without antialiasing; the longer is truncated."""
    height, width = picture.shape[1:]
    longer = int(side * max(height, width) / min(height, width))
    size = (side, longer) if height <= width else (longer, side)
    if size == (height, width):
        return picture.float()
    return F.interpolate(picture[None].float(), size=size, mode=mode, align_corners=False)[0]


def _normalised(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _stretched(places: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Position embeddings (1, 1 + rows x columns, D) for a frame, by DINO's rule.

    It stretches by a factor with a tenth of a patch on top, against rounding, and not to a size: the grid
    that is sampled is another one.
    """
    known = places.shape[1] - 1
    side = int(known**0.5)
    if (rows, columns) == (side, side):
        return places
    grid = places[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factor = ((rows + 0.1) / side, (columns + 0.1) / side)
    grid = F.interpolate(grid.float(), scale_factor=factor, mode="bicubic").to(places.dtype)
    return torch.cat([places[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
