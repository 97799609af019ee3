"""Batched decoding from a filled cache: each row has its own limit, temperature, seed and end.

Knows nothing of chats, pictures or how the prompts were computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from .answers import Sampling

GROWTH = 128
"""Tokens by which a cache is enlarged: copying it whole for every token would cost as much as the token."""

LIVE = 0.75
"""The share of rows still being written below which the others are dropped; doing so copies the cache."""


@dataclass(slots=True)
class Start:
    """R prompts that have been computed.

    `hidden` (R, H) is the last token's; `mask` (R, L) which entries of the cache are the row's own;
    `positions` (4, R) the last token's.
    """

    hidden: torch.Tensor
    cache: Any
    mask: torch.Tensor
    positions: torch.Tensor


class Roomy(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values in a buffer with room behind them."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._store(keys, values)

    def _store(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        size = keys.shape[-2]
        shape = (*keys.shape[:-2], size + GROWTH, keys.shape[-1])
        self._room = keys.new_empty(shape), values.new_empty(shape)
        self._room[0][..., :size, :] = keys
        self._room[1][..., :size, :] = values
        self._view(size)

    def _view(self, size: int) -> None:
        self.keys, self.values = self._room[0][..., :size, :], self._room[1][..., :size, :]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (R, heads, n, D); returns everything."""
        size, more = self.keys.shape[-2], key_states.shape[-2]
        if size + more > self._room[0].shape[-2]:
            self._store(self.keys, self.values)
        self._room[0][..., size : size + more, :] = key_states
        self._room[1][..., size : size + more, :] = value_states
        self._view(size + more)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep these rows."""
        self._store(self.keys[beam_idx], self.values[beam_idx])


def forked(cache: Any, trees: torch.Tensor, places: torch.Tensor) -> Cache:
    """A cache with a row for every prompt, from one with a row for every tree.

    Args:
        cache: of attention layers only.
        trees: (R,) which tree each prompt is in.
        places: (R, L) where its tokens stand there; beyond its end anything, which a mask must hide.
    """
    layers = []
    for layer in cache.layers:
        # Two index tensors with a slice between them put the heads last but one: (R, L, heads, D).
        keys, values = (
            states[trees[:, None], :, places].transpose(1, 2) for states in (layer.keys, layer.values)
        )
        layers.append(Roomy(keys, values))
    return Cache(layers=layers)


def decode(
    model: Any, start: Start, samplings: Sequence[Sampling], stops: set[int]
) -> list[tuple[list[int], bool]]:
    """Continue every row until its stop token or limit; returns (ids without the stop token, stopped).

    Rows that have ended leave the batch, several at a time.
    """
    device = start.hidden.device
    generators = [torch.Generator().manual_seed(sampling.seed) for sampling in samplings]
    written: list[list[int]] = [[] for _ in samplings]
    stopped = [False] * len(samplings)
    open_rows = [True] * len(samplings)
    rows = list(range(len(samplings)))  # which prompt each row of the batch belongs to
    hidden, mask, positions, cache = start.hidden, start.mask, start.positions, start.cache
    while True:
        chosen = _pick(model.lm_head(hidden), [samplings[row] for row in rows], [generators[r] for r in rows])
        for row, token in zip(rows, chosen, strict=True):
            if open_rows[row] and token in stops:
                stopped[row] = True
            elif open_rows[row]:
                written[row].append(token)
            open_rows[row] = not stopped[row] and len(written[row]) < samplings[row].max_tokens
        keep = [place for place, row in enumerate(rows) if open_rows[row]]
        if not keep:
            return list(zip(written, stopped, strict=True))
        if len(keep) <= LIVE * len(rows):
            index = torch.tensor(keep, device=device)
            cache.reorder_cache(index)
            mask, positions = mask[index], positions[:, index]
            rows, chosen = [rows[place] for place in keep], [chosen[place] for place in keep]
        positions = positions + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        output = model.model(
            input_ids=torch.tensor(chosen, device=device)[:, None],
            attention_mask=mask,
            position_ids=positions[..., None],
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
        hidden = output.last_hidden_state[:, -1]


def _pick(logits: torch.Tensor, samplings: list[Sampling], generators: list[torch.Generator]) -> list[int]:
    chosen: list[int] = logits.float().argmax(-1).tolist()
    for row, (sampling, generator) in enumerate(zip(samplings, generators, strict=True)):
        if sampling.temperature > 0:
            weights = (logits[row].float().cpu() / sampling.temperature).softmax(-1)
            chosen[row] = int(torch.multinomial(weights, 1, generator=generator))
    return chosen
