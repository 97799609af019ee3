"""Variable-length attention in Qwen's vision towers: all pictures, frames or windows of one length together.

transformers calls PyTorch's attention once for each of them: eight pictures of 36 x 36 patches are 5,632
calls in Qwen2.5-VL's 32 layers, most of which attend within windows of 64 patches, and each layer waits for
the device to learn the lengths. Here it is one call for each different length, 88 in all, and the lengths are
asked for once. FlashAttention would take any lengths at once, in half precision and where it is installed.
"""

import inspect
from collections.abc import MutableMapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakTensorKeyDictionary

NAME = "mmreward_by_length_as_flash"
"""In transformers' registry, where the towers give all lengths at once to what has "flash" in its name."""


class Plan(NamedTuple):
    """Sequences by length: `order` brings the rows of equal lengths together, `back` undoes that (both None
    where they lie together already); `groups` are (number, length) of the sequences in that order."""

    order: torch.Tensor | None
    back: torch.Tensor | None
    groups: list[tuple[int, int]]


_plans: MutableMapping[torch.Tensor, Plan] = WeakTensorKeyDictionary()
"""By their bounds, a tensor that every layer of one forward is given."""


def plan(bounds: torch.Tensor) -> Plan:
    """How sequences go together.

    Args:
        bounds: (N + 1,), where each of N sequences begins, and where the last one ends.
    """
    ends = bounds.cpu()
    lengths = ends.diff()
    if not (lengths.diff() < 0).any():
        number, size = torch.unique_consecutive(lengths, return_counts=True)
        return Plan(None, None, list(zip(size.tolist(), number.tolist(), strict=True)))
    by_length = lengths.argsort(stable=True)
    starts, lengths = ends[:-1][by_length], lengths[by_length]
    within = torch.arange(int(ends[-1])) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    order = starts.repeat_interleave(lengths) + within
    number, size = torch.unique_consecutive(lengths, return_counts=True)
    groups = list(zip(size.tolist(), number.tolist(), strict=True))
    return Plan(order.to(bounds.device), order.argsort().to(bounds.device), groups)


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of N packed sequences, each to itself: (1, heads, T, D) to (1, T, heads, D).

    Args:
        module: the tower's attention.
        query: (1, heads, T, D).
        key: likewise.
        value: likewise.
        attention_mask: none.
        scaling: of the scores.
        cu_seq_lens_q: (N + 1,), the sequences' bounds in T, from 0.
    """
    if (known := _plans.get(cu_seq_lens_q)) is None:
        known = _plans[cu_seq_lens_q] = plan(cu_seq_lens_q)
    rows = [part[0].transpose(0, 1) for part in (query, key, value)]  # (T, heads, D)
    if known.order is not None:
        rows = [part.index_select(0, known.order) for part in rows]
    done, begin = [], 0
    for number, length in known.groups:
        end = begin + number * length
        q, k, v = (part[begin:end].view(number, length, *part.shape[1:]).transpose(1, 2) for part in rows)
        seen = scaled_dot_product_attention(q, k, v, scale=scaling)  # (number, heads, length, D)
        done.append(seen.transpose(1, 2).flatten(0, 1))
        begin = end
    found = done[0] if len(done) == 1 else torch.cat(done)
    if known.back is not None:
        found = found.index_select(0, known.back)
    return found[None], None


def attend_by_length(module: nn.Module) -> nn.Module:
    """Let the vision towers of a module that use PyTorch's attention attend so, in place.

    Args:
        module: any network; nothing happens to one without such a tower.

    Returns:
        The same module.
    """
    for part in module.modules():
        config: Any = getattr(part, "config", None)
        if getattr(config, "_attn_implementation", None) == "sdpa" and _takes_bounds(part):
            from transformers import AttentionInterface

            AttentionInterface.register(NAME, attention)
            config._attn_implementation = NAME
    return module


def _takes_bounds(part: nn.Module) -> bool:
    """Whether this is an attention over packed sequences."""
    return hasattr(part, "scaling") and "cu_seqlens" in inspect.signature(type(part).forward).parameters
