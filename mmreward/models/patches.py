"""Float pixels to the patches of a Qwen vision tower, differentiably: what the image processor does to 8-bit
pictures, in tensors."""

from typing import Any, NamedTuple

import torch

from ..preprocess import Recipe, normalise, resize_float


class Patches(NamedTuple):
    """`values` (N * height * width, features) of N pictures in turn; `grid` is (time, height, width) of
    each."""

    values: torch.Tensor
    grid: tuple[int, int, int]


def patches_of(pixels: torch.Tensor, size: tuple[int, int], images: Any) -> Patches:
    """Resize, normalise and cut up pictures.

    Args:
        pixels: (N, 3, H, W) float in [0, 1].
        size: (height, width) to resize to, multiples of a token's side.
        images: the checkpoint's image processor.
    """
    mean, std = tuple(images.image_mean), tuple(images.image_std)
    recipe = Recipe(size=size, mean=mean, std=std, fit="squash")
    side, merge = images.patch_size, images.merge_size
    ready = normalise(resize_float(pixels, recipe), recipe)
    # Rows and columns of tokens (R, X), of patches in a token (r, x), of pixels in a patch (y, c).
    across = (size[1] // (merge * side), merge, side)
    cut = ready.reshape(*ready.shape[:2], size[0] // (merge * side), merge, side, *across)
    # N C R r y X x c -> N R X r x C y c: patches in the order of their tokens.
    ordered = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    frames = ordered.expand(*[-1] * 6, images.temporal_patch_size, -1, -1)  # a picture is a clip at rest
    height, width = size[0] // side, size[1] // side
    return Patches(frames.flatten(5).flatten(0, 4), (1, height, width))
