"""Batched decoding with explicit positions: each row has its own limit, temperature, seed and end.

Knows nothing of chats or pictures beyond the tensors a processor makes of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .answers import Sampling


@dataclass(frozen=True, slots=True)
class Inputs:
    """Right-padded rows on the device. Positions are (4, B, T): the text's own index, then M-RoPE's t, h,
    w."""

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    lengths: torch.Tensor
    pixels: dict[str, torch.Tensor]

    @classmethod
    def of(cls, model: Any, tokens: dict[str, torch.Tensor], device: torch.device) -> "Inputs":
        """`model` is asked for M-RoPE positions on the CPU, where its loop over rows costs no
        synchronisation."""
        mask = tokens["attention_mask"]
        extra = {name: tokens[name] for name in ("mm_token_type_ids", "image_grid_thw") if name in tokens}
        mrope, _ = model.get_rope_index(input_ids=tokens["input_ids"], attention_mask=mask, **extra)
        text = (mask.cumsum(-1) - 1).clamp(min=0)
        pixels = {name: tokens[name].to(device) for name in ("pixel_values", *extra) if name in tokens}
        return cls(
            ids=tokens["input_ids"].to(device),
            mask=mask.to(device),
            positions=torch.cat([text[None], mrope]).to(device),
            lengths=mask.sum(-1).to(device),
            pixels=pixels,
        )

    @property
    def kwargs(self) -> dict[str, torch.Tensor]:
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask,
            "position_ids": self.positions,
            **self.pixels,
        }


def decode(
    model: Any, inputs: Inputs, samplings: Sequence[Sampling], stops: set[int]
) -> list[tuple[list[int], bool]]:
    """Continue every row until its stop token or limit; returns (ids without the stop token, stopped)."""
    device = inputs.ids.device
    rows = torch.arange(len(samplings), device=device)
    generators = [torch.Generator().manual_seed(sampling.seed) for sampling in samplings]
    output = model.model(**inputs.kwargs, use_cache=True)
    hidden = output.last_hidden_state[rows, inputs.lengths - 1]
    # Padding sits between prompt and answer in the cache; the mask hides it, and positions skip it.
    ends = [inputs.positions[:, row, : int(inputs.lengths[row])].amax(-1) for row in range(len(samplings))]
    positions = torch.stack(ends, dim=1)
    mask = inputs.mask
    written: list[list[int]] = [[] for _ in samplings]
    stopped = [False] * len(samplings)
    while True:
        logits = model.lm_head(hidden).float().cpu()
        chosen = [_pick(*row) for row in zip(logits, samplings, generators, strict=True)]
        active = False
        for row, (token, sampling) in enumerate(zip(chosen, samplings, strict=True)):
            if stopped[row] or len(written[row]) == sampling.max_tokens:
                continue
            if token in stops:
                stopped[row] = True
                continue
            written[row].append(token)
            active |= len(written[row]) < sampling.max_tokens
        if not active:
            return list(zip(written, stopped, strict=True))
        positions = positions + 1
        mask = torch.cat([mask, mask.new_ones(len(samplings), 1)], dim=1)
        output = model.model(
            input_ids=torch.tensor(chosen, device=device)[:, None],
            attention_mask=mask,
            position_ids=positions[..., None],
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        hidden = output.last_hidden_state[:, -1]


def _pick(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    weights = (logits / sampling.temperature).softmax(-1)
    return int(torch.multinomial(weights, 1, generator=generator))
