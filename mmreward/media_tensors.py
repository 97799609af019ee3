"""Media that is a tensor: brought to uint8 RGB, and named by content, on its own device.

A generator's pictures stay on its device: sixteen bytes of a hash and two numbers of a range check leave it.
The rules are those of `media` for arrays.
"""

import hashlib
import math

import torch

from . import errors, stills
from .errors import Unscorable
from .limits import checked_layout, limits, most

CHUNK = 1 << 22
"""Words hashed at once: 32 MB, which bounds the scratch memory."""
LANES = (-0x61C8864680B583EB, -0x2E4AB5CD2E6D12FD)
"""Odd 64-bit constants, one a lane, that tell positions apart; the first is splitmix64's own."""


def rgb(pixels: torch.Tensor, kind: str) -> torch.Tensor:
    """uint8 CHW (image) or TCHW (video) on the same device; three uint8 channels are handed back as they are.

    Args:
        pixels: CHW or HW (TCHW or THW for a video) with 1, 3 or 4 channels; uint8, or floats in [0, 1].
        kind: "image" or "video".

    Raises:
        Unscorable: a shape, type or range that is no picture.
    """
    pixels = _with_channels(pixels, kind)
    if pixels.dtype != torch.uint8:
        pixels = _quantised(pixels)
    if pixels.shape[-3] == 4:
        colour, alpha = pixels[..., :3, :, :].float(), pixels[..., 3:, :, :].float() / 255
        pixels = torch.round(colour * alpha + 255 * (1 - alpha)).to(torch.uint8)
    return pixels.repeat_interleave(3, dim=-3) if pixels.shape[-3] == 1 else pixels


def content_key(pixels: torch.Tensor, kind: str) -> str:
    """128 bits that stand for the values, shape and type, computed on the device.

    Not cryptographic: no two pictures collide by chance, but someone could construct two that do. It is no
    array's key, so the same pixels on the host have another name.
    """
    digest = hashlib.blake2b(f"{kind} {tuple(pixels.shape)} {pixels.dtype}".encode(), digest_size=16)
    for lane in content_hash(pixels):
        digest.update(lane.to_bytes(8, "little", signed=True))
    return digest.hexdigest()


def content_hash(pixels: torch.Tensor) -> tuple[int, int]:
    """Two signed 64-bit sums over the bytes as 64-bit words, each mixed with its position."""
    data = pixels.detach().contiguous().flatten().view(torch.uint8)
    if data.storage_offset() % 8:  # a picture cut out of a batch of odd ones
        data = data.clone()
    whole = data.numel() // 8 * 8
    words = data[:whole].view(torch.int64)
    # The last bytes become a word of their own; shape and type, which the key has, say how many they are.
    rest = torch.zeros(8, dtype=torch.uint8, device=data.device)
    rest[: data.numel() - whole] = data[whole:]
    sums = torch.stack([_lane(rest.view(torch.int64), words.numel(), constant) for constant in LANES])
    for start in range(0, words.numel(), CHUNK):
        part = words[start : start + CHUNK]
        sums += torch.stack([_lane(part, start, constant) for constant in LANES])
    first, second = sums.tolist()
    return first, second


def _lane(words: torch.Tensor, start: int, constant: int) -> torch.Tensor:
    places = torch.arange(start + 1, start + 1 + words.numel(), device=words.device)
    return _mixed(words + places * constant).sum()


def _mixed(x: torch.Tensor) -> torch.Tensor:
    """splitmix64's finaliser; int64 wraps, and its shifts are made logical by a mask. Overwrites `x`."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x ^= (x >> shift) & ((1 << (64 - shift)) - 1)
        x *= factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _with_channels(pixels: torch.Tensor, kind: str) -> torch.Tensor:
    dims = 3 if kind == "image" else 4
    checked_layout(tuple(pixels.shape), kind, channels_last=False)
    if pixels.ndim == dims - 1:
        pixels = pixels.unsqueeze(-3)
    if pixels.numel() == 0 or math.prod(pixels.shape[-2:]) > limits().pixels:
        raise Unscorable(f"shape {tuple(pixels.shape)}: empty, or above {most('pixels', 'pixels')}")
    return pixels


def _quantised(pixels: torch.Tensor) -> torch.Tensor:
    if not pixels.dtype.is_floating_point:
        raise Unscorable(f"pixels of type {pixels.dtype}: expected uint8 or floats in [0, 1]")
    wide = pixels.detach().float()
    if wide.device.type == "cpu":  # where torch makes bytes of floats one at a time
        return torch.from_numpy(stills.quantised(wide.numpy()))
    low, high = torch.stack(torch.aminmax(wide)).tolist()  # NaN wins in both
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Unscorable("the pixels contain NaN or infinity")
    if low < -errors.TOLERANCE or high > 1 + errors.TOLERANCE:
        raise Unscorable(f"float pixels span {low:.3g} to {high:.3g}: expected [0, 1]")
    scaled = (wide.clamp(0, 1) if low < 0 or high > 1 else wide) * 255
    return scaled.round_().to(torch.uint8)
