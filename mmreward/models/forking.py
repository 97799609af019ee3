"""Sharing a beginning where rows cannot be merged into trees: models with recurrent layers, such as Qwen3.5.

What several prompts have in common is computed once, and its cache (keys and values, or a state) handed to
each of them. Padding stands on the left of whatever fills a cache: on the right, a recurrent layer carries
it on into its state.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from .decoding import Start
from .prompts import Grove, Prompt, encoder_outputs
from .trie import shared_length
from .vision import Sight, Vision


class Part(NamedTuple):
    """A stretch of a prompt: ids (L,), positions (4, L), and the pictures that begin in it."""

    ids: torch.Tensor
    positions: torch.Tensor
    sights: list[Sight]


class Forking:
    """Runs prompts of one batch, each a row of its own.

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
        """For each prompt the states that predict its continuation: (1, H), or (span, H) where it has one."""
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
        """Tokens the family begins with in common; every row keeps one, and those whose states are read."""
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
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state, mask
