"""Batched decoding: start from filled caches, then one token for every row at a time.

Two ways fill a cache. `forked` copies the computed trees of `prompts.Grove` into one row per prompt.
`Forking` serves models with recurrent layers, such as Qwen3.5, whose rows cannot be merged into trees: what
several prompts have in common is computed once, and its cache (keys and values, or a state) is handed to each
of them. `decode` then writes; each row has its own limit, temperature, seed and end.

Knows nothing of chats.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from .answers import Sampling
from .prompts import Grove, Prompt, encoder_outputs, shared_length
from .vision import Sight, Vision

CACHE = "cache" if hasattr(BaseModelOutputWithPast, "cache") else "past_key_values"
"""The cache's name in calls and outputs of transformers, which has renamed it."""
GROWTH = 128
"""Tokens by which a cache is enlarged: copying it whole for every token would cost as much as the token."""

LIVE = 0.75
"""The share of rows still being written below which the others are dropped; doing so copies the cache."""


# --- filled caches and the loop -------------------------------------------------------------------


@dataclass(slots=True)
class Start:
    """Cache and last states of R computed prompts.

    `hidden` (R, H) is the last token's state; `mask` (R, L) marks the entries of the cache that are the row's
    own; `positions` (4, R) are the last token's.
    """

    hidden: torch.Tensor
    cache: Any
    mask: torch.Tensor
    positions: torch.Tensor


class Roomy(DynamicLayer):  # type: ignore[misc]
    """Cache layer whose keys and values lie in a buffer with room for more tokens behind them."""

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
    """Cache with a row for every prompt, copied from one with a row for every tree.

    Args:
        cache: of attention layers only.
        trees: (R,) index of each prompt's tree.
        places: (R, L) places of its tokens there; beyond its end anything, which a mask must hide.
    """
    layers = []
    # Keys and values hold their rotary position already, so those of a shared beginning are right for every
    # prompt that begins with it: gathering along the path is all that a row of its own takes.
    for layer in cache.layers:
        # Two index tensors with a slice between them put the heads last but one: (R, L, heads, D).
        keys, values = (
            states[trees[:, None], :, places].transpose(1, 2) for states in (layer.keys, layer.values)
        )
        layers.append(Roomy(keys, values))
    return Cache(layers=layers)


def decode(
    model: Any,
    start: Start,
    samplings: Sequence[Sampling],
    stops: set[int],
    penalty: float = 1.0,
    prompts: Sequence[np.ndarray[Any, Any]] = (),
) -> list[tuple[list[int], bool]]:
    """Continue every row until its stop token or limit; returns (ids without the stop token, stopped).

    A row's words depend on its own seed and states alone, never on the rows beside it. Rows that have ended
    leave the batch, several at a time.

    Args:
        model: with its language-model head.
        start: caches and last states; the cache is consumed.
        samplings: of each row.
        stops: ids that end a row.
        penalty: the checkpoint's `repetition_penalty`: logits of tokens that are in the prompt or have been
            written are divided by it where positive and multiplied where negative (arXiv:1909.05858).
        prompts: ids of each row's prompt, which a penalty other than 1 looks at.
    """
    device = start.hidden.device
    seen = None
    if penalty != 1:
        seen = torch.zeros(len(samplings), model.lm_head.out_features, dtype=torch.bool, device=device)
        for row, ids in enumerate(prompts):
            seen[row, torch.from_numpy(ids).to(device)] = True
    generators = [torch.Generator().manual_seed(sampling.seed) for sampling in samplings]
    written: list[list[int]] = [[] for _ in samplings]
    stopped = [False] * len(samplings)
    open_rows = [True] * len(samplings)
    rows = list(range(len(samplings)))  # the prompt of each row that is still in the batch
    hidden, mask, positions, cache = start.hidden, start.mask, start.positions, start.cache
    while True:
        logits = model.lm_head(hidden)
        if seen is not None:
            logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
        chosen = _pick(logits, [samplings[row] for row in rows], [generators[r] for r in rows])
        if seen is not None:
            seen[torch.arange(len(rows), device=device), torch.tensor(chosen, device=device)] = True
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
            seen = None if seen is None else seen[index]
            rows, chosen = [rows[place] for place in keep], [chosen[place] for place in keep]
        positions = positions + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        output = model.model(
            input_ids=torch.tensor(chosen, device=device)[:, None],
            attention_mask=mask,
            position_ids=positions[..., None],
            **{CACHE: cache},
            use_cache=True,
        )
        cache = getattr(output, CACHE)
        hidden = output.last_hidden_state[:, -1]


def _pick(logits: torch.Tensor, samplings: list[Sampling], generators: list[torch.Generator]) -> list[int]:
    chosen: list[int] = logits.float().argmax(-1).tolist()
    for row, (sampling, generator) in enumerate(zip(samplings, generators, strict=True)):
        if sampling.temperature > 0:
            weights = (logits[row].float().cpu() / sampling.temperature).softmax(-1)
            chosen[row] = int(torch.multinomial(weights, 1, generator=generator))
    return chosen


# --- recurrent layers -----------------------------------------------------------------------------


class Part(NamedTuple):
    """Stretch of a prompt: ids (L,), positions (4, L), and the pictures that begin in it."""

    ids: torch.Tensor
    positions: torch.Tensor
    sights: list[Sight]


class Forking:
    """Prefix sharing without trees: prompts of one batch, each a row of its own after the common beginning.

    Padding stands on the left of whatever fills a cache: on the right, a recurrent layer would carry it on
    into its state. Only the last stretch of a row may be padded on the right, as nothing is computed after
    it.

    Args:
        module: the model with its language-model head.
        vision: encodes what the prompts show.
        grove: trees of one prompt each.
        device: where the module is.
    """

    def __init__(self, module: Any, vision: Vision, grove: Grove, device: torch.device) -> None:
        self.module = module
        self.device = device
        self.prompts = grove.prompts
        self.positions = grove.positions(module.model)
        self.features = vision.encode(module.model, grove.sights, device)

    def hidden(self) -> list[torch.Tensor]:
        """States that predict each prompt's continuation: (1, H), or (span, H) where it has one."""
        # In two passes: the common beginning of each family as one row, then the cache forked into one row
        # per prompt, and every row's rest.
        families = self._families()
        cuts = [self._common(family) for family in families]
        heads = [self._part(family[0], 0, cut) for family, cut in zip(families, cuts, strict=True)]
        cache = DynamicCache(config=self.module.config)
        _, before = self._run(heads, cache, left=True)
        order = [(number, index) for number, family in enumerate(families) for index in family]
        source = torch.tensor([number for number, _ in order], device=self.device)
        cache.reorder_cache(source)
        tails = [self._part(index, cuts[number], None) for number, index in order]
        hidden, _ = self._run(tails, cache, left=False, before=before[source])
        states: dict[int, torch.Tensor] = {}
        for place, ((_, index), tail) in enumerate(zip(order, tails, strict=True)):
            span = self.prompts[index].span
            end = len(tail.ids) - (1 if span else 0)
            states[index] = hidden[place, end - max(span, 1) : end]
        return [states[index] for index in range(len(self.prompts))]

    def start(self) -> Start:
        """Every prompt computed whole, ready to be continued; nothing is shared but the pictures."""
        # Forked rows have rests of different lengths: padding would lie between beginning and rest, or behind
        # the rest, and a recurrent layer would carry it on into the state that decoding continues from.
        parts = [self._part(index, 0, None) for index in range(len(self.prompts))]
        cache = DynamicCache(config=self.module.config)
        hidden, mask = self._run(parts, cache, left=True)
        last = torch.stack([part.positions[:, -1] for part in parts], dim=1)
        return Start(hidden[:, -1], cache, mask, last.to(self.device))

    def _families(self) -> list[list[int]]:
        families: dict[Hashable, list[int]] = {}
        for index, prompt in enumerate(self.prompts):
            families.setdefault(index if prompt.share is None else (prompt.share,), []).append(index)
        return list(families.values())

    def _common(self, family: list[int]) -> int:
        """Number of tokens the family begins with in common, less those whose states are read; each row keeps
        one."""
        first = self.prompts[family[0]]
        members = [self.prompts[index] for index in family]
        alike = min(shared_length(first.own, prompt.own) for prompt in members)
        return min(alike, *(len(prompt.ids) - prompt.span - 1 for prompt in members))

    def _part(self, index: int, begin: int, end: int | None) -> Part:
        prompt: Prompt = self.prompts[index]
        stop = len(prompt.ids) if end is None else end
        sights = [s for s, at in zip(prompt.sights, prompt.begins, strict=True) if begin <= at < stop]
        return Part(torch.from_numpy(prompt.ids[begin:stop]), self.positions[:, index, begin:stop], sights)

    def _run(
        self, parts: list[Part], cache: Any, *, left: bool, before: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States (R, L, H) of the parts, and the mask (R, all) of what is in the cache after them."""
        width = max(len(part.ids) for part in parts)
        ids = torch.zeros(len(parts), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        positions = torch.zeros(4, len(parts), width, dtype=torch.long)
        for row, part in enumerate(parts):
            begin = width - len(part.ids) if left else 0
            place = slice(begin, begin + len(part.ids))
            ids[row, place], mask[row, place], positions[:, row, place] = part.ids, 1, part.positions
        mask = mask.to(self.device)
        if before is not None:
            mask = torch.cat([before, mask], dim=1)
        sights = [sight for part in parts for sight in part.sights]
        output = self.module.model(
            input_ids=ids.to(self.device),
            attention_mask=mask,
            position_ids=positions.to(self.device),
            mm_encoder_outputs=encoder_outputs(sights, self.features),
            **{CACHE: cache},
            use_cache=True,
        )
        return output.last_hidden_state, mask
