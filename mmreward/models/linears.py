"""Linear layers of a loaded network multiplied by oneDNN instead of MKL where MKL is slow: float32 on an AMD
processor with AVX-512.

PyTorch multiplies float32 matrices with MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN,
which PyTorch ships as well, uses what the processor has, and took half the time on a Zen 5 (evals/speed.md).
Values agree to rounding. `torch.backends.mkldnn.flags(enabled=False)` gives MKL's back.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import nn

LEAST_WEIGHTS = 1 << 18
LEAST_PRODUCTS = 1 << 25
"""Multiplications below which MKL is used."""


class OneDNNLinear(nn.Linear):
    """`torch.nn.Linear` whose large float32 products without gradients are oneDNN's, all others torch's."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        products = input.numel() * self.out_features
        if (
            products < LEAST_PRODUCTS
            or input.dtype is not torch.float32
            or self.weight.dtype is not torch.float32
            or input.device.type != "cpu"
            or self.weight.device.type != "cpu"
            or not torch.backends.mkldnn.enabled
            or torch.is_autocast_enabled("cpu")
            or (torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad))
        ):
            return super().forward(input)
        rows = input.numel() // self.in_features
        flat = nn.functional.pad(input.reshape(rows, -1), (0, 0, 0, rounded(rows) - rows))
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            flat, self.weight, self.bias, "none", [], ""
        )
        return product[:rows].view(*input.shape[:-1], -1)


def rounded(rows: int) -> int:
    """Rows that are multiplied in place of so many: one of eight numbers per power of two.

    For every new shape oneDNN prepares code, which takes it a millisecond and which it and PyTorch keep: half
    a megabyte each, for up to 1,024 shapes. Batches of texts would have a shape for each length.
    """
    step = max(16, 1 << max(0, rows.bit_length() - 4))
    return -(-rows // step) * step


@cache
def mkl_is_slow() -> bool:
    """Whether this processor has AVX-512 that MKL leaves unused, and this torch can multiply with oneDNN."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not _of_amd():
        return False
    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _of_amd() -> bool:
    facts = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (facts.read_text()[:4096] if facts.exists() else platform.processor())


def hasten(module: nn.Module) -> nn.Module:
    """Let the large linear layers of a module use oneDNN, in place; nothing happens where MKL is not slow.

    Subclasses of `torch.nn.Linear` (adapters, quantised layers) and the projections inside
    `torch.nn.MultiheadAttention` are left as they are.

    Args:
        module: any network.

    Returns:
        The same module.
    """
    if mkl_is_slow():
        for layer in module.modules():
            if type(layer) is nn.Linear and layer.weight.numel() >= LEAST_WEIGHTS:
                layer.__class__ = OneDNNLinear
    return module
