"""What over-optimised generators do to pixels: colours, saturation, fine texture, the grid of their patches.

One number per picture, from pixels (N, 3, H, W) in [0, 1]; nothing here is a reward. Compare the numbers with
those of the untuned generator for the same prompts and seeds, also at a higher resolution than in training.
"""

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
_INVISIBLE = (0.1 / 255) ** 2
"""Power of a ripple of a tenth of a grey level of 255."""


def colourfulness(pixels: Tensor) -> Tensor:
    """Colourfulness (N,) of Hasler and Suesstrunk (https://doi.org/10.1117/12.477378), for values 0 to 255.

    0 is grey, about 15 slightly, 45 quite and 109 extremely colourful, in their viewers' words.

    Raises:
        ValueError: pixels that are not (N, 3, H, W) in [0, 1].
    """
    red, green, blue = (255 * _checked(pixels)).flatten(2).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue])
    spread = opponents.var(-1, correction=0).sum(0).sqrt()
    return spread + 0.3 * opponents.mean(-1).square().sum(0).sqrt()


def saturation(pixels: Tensor) -> Tensor:
    """Mean saturation (N,) of the HSV model, in [0, 1]: (max - min) / max of the channels, 0 for black.

    Raises:
        ValueError: pixels that are not (N, 3, H, W) in [0, 1].
    """
    pixels = _checked(pixels)
    most, least = pixels.amax(1), pixels.amin(1)
    return ((most - least) / most.clamp(min=1e-6)).mean((1, 2))


def high_frequency(pixels: Tensor, cutoff: float = 0.25) -> Tensor:
    """Strength (N,) of the texture finer than `cutoff` cycles per pixel: its standard deviation in luminance.

    In [0, 0.5]; 0.02 is a ripple of 5 grey levels of 255. 0.25 cycles per pixel are structures of 4 pixels.

    Raises:
        ValueError: pixels that are not (N, 3, H, W) in [0, 1], or a cutoff outside (0, 0.5).
    """
    if not 0 < cutoff < 0.5:
        raise ValueError(f"cutoff must lie between 0 and 0.5 cycles per pixel, not {cutoff}")
    luminance = _luminance(pixels)
    height, width = luminance.shape[1:]
    rows, columns = (torch.fft.fftfreq(size, device=luminance.device) for size in (height, width))
    fine = torch.hypot(rows[:, None], columns) > cutoff
    power: Tensor = torch.fft.fft2(luminance, norm="forward").abs().square()
    return (power * fine).sum((1, 2)).sqrt()


def grid_energy(pixels: Tensor, patch: int = 16) -> Tensor:
    """How much stronger edges recur every `patch` pixels than at other distances (N,): 1 without a grid.

    Visible patch borders or a lattice give 3 and more, often much more. Measured on the profile of edges
    across the picture: power at the multiples of 1 / patch over that of their neighbours, as geometric means
    over multiples, neighbours and both directions. A grid of 8 pixels is also one of 16.

    Raises:
        ValueError: pixels that are not (N, 3, H, W) in [0, 1], or a patch below 3 pixels or above a
            quarter of the picture.
    """
    luminance = _luminance(pixels)
    if patch < 3 or min(luminance.shape[1:]) < 4 * patch:
        size = "x".join(str(length) for length in luminance.shape[1:])
        raise ValueError(
            f"a patch of {patch} px: from 3 px up to a quarter of the pictures, which are {size}"
        )
    return ((_recurrence(luminance, patch) + _recurrence(luminance.transpose(1, 2), patch)) / 2).exp()


def _recurrence(luminance: Tensor, patch: int) -> Tensor:
    """Logarithm (N,) of the ratio in one direction."""
    edges = luminance.diff(dim=-1).abs().mean(1)
    # One edge fewer than pixels: their mean stands in for the one between the last column and the first.
    profile = torch.cat([edges, edges.mean(1, keepdim=True)], 1)
    number = profile.shape[1] // patch  # patches; a multiple of 1 / patch is a multiple of this many bins
    spectrum = torch.fft.rfft(profile[:, : number * patch], norm="forward")
    power: Tensor = (spectrum.abs().square() + _INVISIBLE / profile.shape[1]).log()
    reach = (number - 1) // 2  # neighbours up to half-way to the next multiple, where that of 2 patch lies
    offsets = torch.arange(1, reach + 1, device=power.device)
    peaks = number * torch.arange(1, (patch - 1) // 2 + 1, device=power.device)
    around = torch.cat([peaks[:, None] + offsets, peaks[:, None] - offsets], 1)
    return power[:, peaks].mean(1) - power[:, around].mean((1, 2))


def _luminance(pixels: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=pixels.device)
    return torch.einsum("nchw,c->nhw", _checked(pixels), weights)


def _checked(pixels: Tensor) -> Tensor:
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"pixels must be (N, 3, H, W), not {tuple(pixels.shape)}")
    if not pixels.is_floating_point():
        raise ValueError(f"pixels must be floats in [0, 1], not {pixels.dtype}: divide by 255")
    if pixels.numel() and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"pixels must lie in [0, 1], not from {pixels.min():.3g} to {pixels.max():.3g}")
    return pixels.float()
