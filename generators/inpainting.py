"""The pictures that an inpainting model is given: what is kept, and where it may paint."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmreward.failures import Unscorable
from mmreward.media import Media

from .autoencoder import Autoencoder


def kept(
    pipe: Any, vae: Autoencoder, inputs: Sequence[Sequence[Media]], height: int, width: int
) -> Mapping[str, torch.Tensor]:
    """What joins the latents as further channels, resized and cut as the pipelines do.

    Args:
        pipe: whose processors resize the pictures.
        vae: encodes what is kept.
        inputs: N pairs (image, mask); the mask is white where the model may paint.
        height, width: of the pictures to make, in pixels.

    Returns:
        "mask" (N, 1, h, w) of 0 and 1, and "masked" (N, C, h, w), the latents of the image without the part
        to paint.

    Raises:
        ValueError: a row is not a pair, or cannot be read; the message names it.
    """
    size = {"height": height, "width": width}
    images, masks = [], []
    for row, pair in enumerate(inputs):
        if len(pair) != 2:
            raise ValueError(f"row {row} has {len(pair)} pictures; inpainting takes (image, mask)")
        try:
            image, mask = (one.picture() for one in pair)
        except Unscorable as error:
            raise ValueError(f"row {row}: {error}") from None
        images.append(pipe.image_processor.preprocess(image, **size))
        masks.append(pipe.mask_processor.preprocess(mask, **size))
    pixels, holes = torch.cat(images), torch.cat(masks)
    with torch.no_grad():
        masked = vae.encode(pixels * (holes < 0.5))
    small = torch.nn.functional.interpolate(holes, size=masked.shape[-2:])
    return {"mask": small.to(masked), "masked": masked}
