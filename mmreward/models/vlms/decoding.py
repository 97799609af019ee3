"""Batched decoding: start from filled caches, then one token for every row at a time.

Two ways fill a cache. `forked` copies the computed trees of `prompts.Grove` into one row per prompt.
`Forking` serves models with recurrent layers, such as Qwen3.5, whose rows cannot be merged into trees: what
several prompts have in common is computed once, and its cache (keys and values, or a state) is handed to each
of them. `decode` then writes; each row has its own limit, temperature, seed and end. `refilling` lets
texts that wait into the batch as others end.

Knows nothing of chats.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
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


def joined(first: Start, kept: torch.Tensor, second: Start) -> Start:
    """Rows of one and all rows of another as one batch, which consumes both.

    Each row's own entries are moved together to the left: of the columns that ended rows have grown, none
    is left.

    Args:
        first: with caches of `Roomy` layers.
        kept: indices of its rows.
        second: likewise.
    """
    every = torch.arange(len(second.mask), device=second.mask.device)
    parts = [(first, kept), (second, every)]
    masks = [part.mask[rows] for part, rows in parts]
    width = int(torch.cat([mask.sum(1) for mask in masks]).max())
    orders = [mask.argsort(dim=1, descending=True, stable=True)[:, :width] for mask in masks]

    def packed(states: Sequence[torch.Tensor]) -> torch.Tensor:
        found = []
        for one, (_, rows), order in zip(states, parts, orders, strict=True):
            taken = one[rows].gather(2, order[:, None, :, None].expand(-1, one.shape[1], -1, one.shape[3]))
            found.append(torch.nn.functional.pad(taken, (0, 0, 0, width - taken.shape[2])))
        return torch.cat(found)

    layers, others = first.cache.layers, second.cache.layers
    for number, pair in enumerate(zip(layers, others, strict=True)):
        layers[number] = Roomy(packed([one.keys for one in pair]), packed([one.values for one in pair]))
        others[number] = None  # layer by layer, so that what is left is not in memory twice
    places = torch.arange(width, device=kept.device)
    return Start(
        hidden=torch.cat([part.hidden[rows] for part, rows in parts]),
        cache=first.cache,
        mask=torch.cat([(places < mask.sum(1, keepdim=True)).long() for mask in masks]),
        positions=torch.cat([part.positions[:, rows] for part, rows in parts], dim=1),
    )


class Text(NamedTuple):
    """A text to be written: the ids of its prompt, how it is sampled, what its reader knows it by, and what
    its prompt shares with others."""

    prompt: np.ndarray[Any, Any]
    sampling: Sampling
    tag: Any = None
    share: Hashable = None

    @property
    def tokens(self) -> int:
        """Entries of the cache that it takes, at most."""
        return len(self.prompt) + self.sampling.max_tokens


@dataclass(slots=True, eq=False)
class Writing:
    """A text as far as it has been written, without the token that stopped it."""

    text: Text
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)
    stopped: bool = False

    @property
    def open(self) -> bool:
        return not self.stopped and len(self.ids) < self.text.sampling.max_tokens


class Decoder:
    """Rows that are written together, one token of each at a time; others may join them.

    A row's words depend on its own seed and states alone, never on the rows beside it.

    Args:
        model: with its language-model head.
        stops: ids that end a row.
        penalty: the checkpoint's `repetition_penalty`: logits of tokens that are in the prompt or have been
            written are divided by it where positive and multiplied where negative (arXiv:1909.05858).
    """

    def __init__(self, model: Any, stops: set[int], penalty: float = 1.0) -> None:
        self.model, self.stops, self.penalty = model, stops, penalty
        self.rows: list[Writing] = []
        """In the batch; those that have ended leave it several at a time."""
        self._state: Start
        self._seen: torch.Tensor | None = None

    @property
    def live(self) -> list[Writing]:
        return [row for row in self.rows if row.open]

    def join(self, texts: Sequence[Text], start: Start) -> None:
        """Take up more texts, whose prompts have been computed; the cache is consumed."""
        kept = [place for place, row in enumerate(self.rows) if row.open]
        rows = [Writing(text, torch.Generator().manual_seed(text.sampling.seed)) for text in texts]
        index = torch.tensor(kept, dtype=torch.long, device=start.hidden.device)
        seen = self._prompts(texts, start.hidden.device) if self.penalty != 1 else None
        if kept:
            start = joined(self._state, index, start)
            seen = None if seen is None or self._seen is None else torch.cat([self._seen[index], seen])
        self.rows, self._state, self._seen = [self.rows[place] for place in kept] + rows, start, seen

    def write(self) -> list[Writing]:
        """Write one token of every row; returns the rows that have ended with it."""
        rows, state = self.live, self._state
        device = state.hidden.device
        chosen = self._chosen()
        for row, token in zip(self.rows, chosen, strict=True):
            if row.open and token in self.stops:
                row.stopped = True
            elif row.open:
                row.ids.append(token)
        keep = [place for place, row in enumerate(self.rows) if row.open]
        if keep and len(keep) <= LIVE * len(self.rows):
            index = torch.tensor(keep, device=device)
            state.cache.reorder_cache(index)
            state.mask, state.positions = state.mask[index], state.positions[:, index]
            self._seen = None if self._seen is None else self._seen[index]
            self.rows, chosen = [self.rows[place] for place in keep], [chosen[place] for place in keep]
        if keep:
            self._advance(chosen)
        else:
            self.rows = []
        return [row for row in rows if not row.open]

    def _prompts(self, texts: Sequence[Text], device: torch.device) -> torch.Tensor:
        seen = torch.zeros(len(texts), self.model.lm_head.out_features, dtype=torch.bool, device=device)
        for row, text in enumerate(texts):
            seen[row, torch.from_numpy(text.prompt).to(device)] = True
        return seen

    def _chosen(self) -> list[int]:
        logits, seen = self.model.lm_head(self._state.hidden), self._seen
        if seen is not None:
            damped = torch.where(logits < 0, logits * self.penalty, logits / self.penalty)
            logits = torch.where(seen, damped, logits)
        chosen = _pick(logits, self.rows)
        if seen is not None:
            index = torch.arange(len(chosen), device=seen.device)
            seen[index, torch.tensor(chosen, device=seen.device)] = True
        return chosen

    def _advance(self, chosen: list[int]) -> None:
        state = self._state
        state.positions = state.positions + 1
        state.mask = torch.cat([state.mask, state.mask.new_ones(len(chosen), 1)], dim=1)
        output = self.model.model(
            input_ids=torch.tensor(chosen, device=state.mask.device)[:, None],
            attention_mask=state.mask,
            position_ids=state.positions[..., None],
            **{CACHE: state.cache},
            use_cache=True,
        )
        state.cache = getattr(output, CACHE)
        state.hidden = output.last_hidden_state[:, -1]


def _pick(logits: torch.Tensor, rows: Sequence[Writing]) -> list[int]:
    chosen: list[int] = logits.float().argmax(-1).tolist()
    for place, row in enumerate(rows):
        if (temperature := row.text.sampling.temperature) > 0:
            weights = (logits[place].float().cpu() / temperature).softmax(-1)
            chosen[place] = int(torch.multinomial(weights, 1, generator=row.generator))
    return chosen


def decode(
    model: Any,
    start: Start,
    samplings: Sequence[Sampling],
    stops: set[int],
    penalty: float = 1.0,
    prompts: Sequence[np.ndarray[Any, Any]] = (),
) -> list[tuple[list[int], bool]]:
    """Continue every row until its stop token or limit; returns (ids without the stop token, stopped).

    Args:
        model, stops, penalty: see `Decoder`.
        start: caches and last states; the cache is consumed.
        samplings: of each row.
        prompts: ids of each row's prompt, which a penalty other than 1 looks at.
    """
    nothing = [np.empty(0, np.int64)] * len(samplings)
    texts = [Text(ids, each) for ids, each in zip(prompts or nothing, samplings, strict=True)]
    decoder = Decoder(model, stops, penalty)
    decoder.join(texts, start)
    rows = list(decoder.rows)
    while decoder.rows:
        decoder.write()
    return [(row.ids, row.stopped) for row in rows]


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
