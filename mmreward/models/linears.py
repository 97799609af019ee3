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
"""Weights of a layer below which it is left to MKL, whatever it multiplies."""
LEAST_PRODUCTS = 1 << 25
"""Multiplications below which MKL is used."""


class OneDNNLinear(nn.Linear):
    """`torch.nn.Linear` whose large float32 products without gradients are oneDNN's, all others torch's."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not _gains(input, self.weight):
            return super().forward(input)
        return _product(input, self.weight, self.bias)


class OneDNNAttention(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention` that projects likewise where it attends to itself, as in open_clip's
    towers; torch's in every other use."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        to_itself = query is key and key is value and query.dim() == 3 and key_padding_mask is None
        maskable = not is_causal and (attn_mask is None or attn_mask.dim() == 2)
        plain = to_itself and maskable and not need_weights and not self.training
        if not (plain and _gains(query, self.in_proj_weight)):
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = ~attn_mask  # here True is what is not looked at
        rows = query if self.batch_first else query.transpose(0, 1)
        parts = _product(rows, self.in_proj_weight, self.in_proj_bias)
        q, k, v = parts.view(*rows.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask).transpose(1, 2).flatten(2)
        done = _product(seen, self.out_proj.weight, self.out_proj.bias)
        return (done if self.batch_first else done.transpose(0, 1)), None


def _gains(input: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN multiplies these, without a gradient being asked for, and sooner than MKL."""
    return (
        input.numel() * len(weight) >= LEAST_PRODUCTS
        and input.dtype is weight.dtype is torch.float32
        and input.device.type == weight.device.type == "cpu"
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not (torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad))
    )


def _product(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    flat = input.reshape(-1, input.shape[-1])
    rows = len(flat)
    if missing := rounded(rows) - rows:
        flat = nn.functional.pad(flat, (0, 0, 0, missing))
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(flat, weight, bias, "none", [], "")
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
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and _of_amd() and _multiplies()


def _multiplies() -> bool:
    """Whether this torch has the operation, which its compiler uses and which is not public, as it is used
    here."""
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    ones = torch.ones(16, 16)
    try:
        return torch.equal(_product(ones, ones, ones[0]), torch.full_like(ones, 17))
    except (RuntimeError, TypeError):  # another signature, or none for a CPU
        return False


def _of_amd() -> bool:
    facts = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (facts.read_text()[:4096] if facts.exists() else platform.processor())


def hasten(module: nn.Module) -> nn.Module:
    """Let the large linear layers of a module use oneDNN, in place; nothing happens where MKL is not slow.

    Subclasses of `torch.nn.Linear` (adapters, quantised layers) are left as they are, and so is an attention
    whose keys and values have other widths than its queries or a bias of their own.

    Args:
        module: any network.

    Returns:
        The same module.
    """
    if mkl_is_slow():
        for layer in module.modules():
            if type(layer) is nn.Linear and layer.weight.numel() >= LEAST_WEIGHTS:
                layer.__class__ = OneDNNLinear
            if type(layer) is nn.MultiheadAttention and _is_plain(layer):
                layer.__class__ = OneDNNAttention
    return module


def _is_plain(layer: nn.MultiheadAttention) -> bool:
    plain = layer._qkv_same_embed_dim and layer.bias_k is None and not layer.add_zero_attn
    return plain and layer.in_proj_weight.numel() >= LEAST_WEIGHTS
