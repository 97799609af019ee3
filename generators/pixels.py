"""Pixels on their way into a VAE: checked against the size a generator makes, and brought to [-1, 1]."""

import torch


def signed(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [0, 1] to [-1, 1], float32.

    Raises:
        ValueError: another shape; the message says what would fit.
    """
    if pixels.ndim != 4 or pixels.shape[1:] != (3, height, width):
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}, and this generator makes (N, 3, {height}, {width}): "
            "give it their height and width"
        )
    return pixels.float() * 2 - 1


def signed_clip(pixels: torch.Tensor, frames: int, height: int, width: int) -> torch.Tensor:
    """Pixels (N, T, 3, H, W) in [0, 1] to (N, 3, T, H, W) in [-1, 1], float32.

    Raises:
        ValueError: another shape; the message says what would fit.
    """
    if pixels.ndim != 5 or pixels.shape[1:] != (frames, 3, height, width):
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}, and this generator makes "
            f"(N, {frames}, 3, {height}, {width}): give it their frames, height and width"
        )
    return (pixels.float() * 2 - 1).movedim(1, 2)
