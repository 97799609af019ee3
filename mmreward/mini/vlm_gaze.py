"""Supervised attention: where a text names a kind of shape, one head shall look at the shapes of that kind.

Left to itself the language model finds out very late that "red circle" in a question points to one image
token: it answers as well as it can from the set of all shapes. This file reads the tokens of packed rows and
knows no tasks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextAttention, apply_rotary_pos_emb

from .vlm_build import CELLS
from .vlm_vision import CELL
from .world import COLOURS, SHAPES, Scene

LAYER, HEAD = 1, 0
"""The second layer is the first in which a noun's token knows the colour before it."""


class Gaze:
    """What enters the supervised layer's attention during one forward pass."""

    def __init__(self) -> None:
        self.states = torch.empty(0)
        self.rotation = (torch.empty(0), torch.empty(0))

    def weights(self, attention: Qwen3VLTextAttention, mask: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
        """(N, T) log attention of the supervised head from the tokens `at` (row, column)."""
        heads = (*self.states.shape[:-1], -1, attention.head_dim)
        query = attention.q_norm(attention.q_proj(self.states).view(heads)).transpose(1, 2)
        key = attention.k_norm(attention.k_proj(self.states).view(heads)).transpose(1, 2)
        query, key = apply_rotary_pos_emb(query, key, *self.rotation)
        rows, columns = at
        scores = torch.einsum("nd,ntd->nt", query[rows, HEAD, columns].float(), key[rows, HEAD].float())
        allowed = mask[rows, 0, columns]
        logs: Tensor = (scores * attention.scaling).masked_fill(~allowed, -torch.inf).log_softmax(-1)
        return logs


@contextmanager
def watching(model: Qwen3VLForConditionalGeneration) -> Iterator[Gaze]:
    """Record what the supervised layer attends with, for the forward pass inside."""
    gaze = Gaze()

    def record(_: nn.Module, arguments: tuple[object, ...], named: dict[str, object]) -> None:
        states, rotation = named["hidden_states"], named["position_embeddings"]
        assert isinstance(states, Tensor) and isinstance(rotation, tuple)
        gaze.states, gaze.rotation = states, rotation

    attention = model.model.language_model.layers[LAYER].self_attn
    handle = attention.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield gaze
    finally:
        handle.remove()


def gaze_loss(
    model: Qwen3VLForConditionalGeneration,
    gaze: Gaze,
    inputs: dict[str, Tensor],
    scenes: Sequence[Sequence[Scene]],
    tokenizer: PreTrainedTokenizerFast,
) -> Tensor:
    """How little attention the head gives to the named shapes, over all mentions in one-picture rows."""
    ids = inputs["input_ids"]
    rows, columns, cells = mentions(ids, scenes, tokenizer)
    attention = model.model.language_model.layers[LAYER].self_attn
    logs = gaze.weights(attention, inputs["attention_mask"], (rows, columns))
    picture = ids[rows] == model.config.image_token_id
    seen = logs[picture].view(len(rows), CELLS)
    return -torch.logsumexp(seen.masked_fill(~cells, -torch.inf), -1).mean()


def mentions(
    ids: Tensor, scenes: Sequence[Sequence[Scene]], tokenizer: PreTrainedTokenizerFast
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the tokens naming a kind the picture shows, and (N, CELLS) which cells hold it."""
    colours, shapes = _names(tokenizer)
    colour, shape = colours[ids[:, :-1]], shapes[ids[:, 1:]]
    found = ((colour >= 0) & (shape >= 0)).nonzero().tolist()
    rows, columns, cells = [], [], []
    for row, column in found:
        if len(scenes[row]) != 1:
            continue
        kind = (list(COLOURS)[int(colour[row, column])], SHAPES[int(shape[row, column])])
        held = [int(t.y * CELL) * CELL + int(t.x * CELL) for t in scenes[row][0].things if t.kind == kind]
        if held:
            rows.append(row)
            columns.append(column + 1)
            cells.append([index in held for index in range(CELLS)])
    return torch.tensor(rows), torch.tensor(columns), torch.tensor(cells)


@cache
def _names(tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """Vocabulary-long tables: the index of the colour or shape that a token names, or -1."""
    tables = []
    for names, endings in ((list(COLOURS), ("",)), (SHAPES, ("", "s"))):
        table = torch.full((len(tokenizer),), -1)
        for index, name in enumerate(names):
            for form in (f"{gap}{name}{ending}" for gap in ("", " ") for ending in endings):
                table[tokenizer.convert_tokens_to_ids(form)] = index
        tables.append(table)
    return tables[0], tables[1]
