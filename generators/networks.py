"""What a loaded diffusers pipeline is made of: its networks by role, and the layers LoRA usually goes to."""

from typing import Any

import torch

JOINT_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
"""Projections of picture and text in a block that lets both attend to each other, as Flow-GRPO tunes them."""


def frozen(pipe: Any) -> dict[str, torch.nn.Module]:
    """Every network of `pipe` but its transformer, by role; none of their weights can be trained any more."""
    networks = {
        role: part
        for role, part in pipe.components.items()
        if isinstance(part, torch.nn.Module) and role != "transformer"
    }
    for network in networks.values():
        network.eval().requires_grad_(False)
    return networks


def require(pipe: Any, *roles: str) -> None:
    """Raise ValueError where `pipe` was loaded without one of `roles`."""
    missing = [role for role in roles if getattr(pipe, role) is None]
    if missing:
        raise ValueError(
            f"{type(pipe).__name__} was loaded without {' and '.join(missing)}; prompts cannot be encoded"
        )
