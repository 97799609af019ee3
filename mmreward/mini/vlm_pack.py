"""Tree packing for training: one row holds one prompt prefix (the pictures) and many independent dialogues.

Every branch attends to the prefix and to itself only, and its positions restart where the prefix ends, so a
branch's logits are those of the dialogue alone while the pictures are paid for once. This file knows
nothing of the tasks.

Shapes: B rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from .vlm_build import CELLS
from .vlm_vision import CELL, GRID, patchify
from .world import Scene


class Branch(NamedTuple):
    """A question and its answer; `weight` counts the whole answer, however long it is."""

    question: str
    answer: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """Pictures (uint8 HWC, square) and the dialogues about them."""

    pictures: tuple[np.ndarray, ...]
    branches: tuple[Branch, ...]
    scenes: tuple[Scene, ...] = ()
    """What the pictures show, for losses that look at single cells."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model takes, and where (`predicts` BT) it should say what (a target and a weight each)."""

    inputs: dict[str, Tensor]
    predicts: Tensor
    targets: Tensor
    weights: Tensor

    def logits(self, model: Qwen3VLForConditionalGeneration) -> Tensor:
        """The logits at the predicting positions, in the order of `targets`."""
        return self.forward(model)[0]

    def forward(self, model: Qwen3VLForConditionalGeneration) -> tuple[Tensor, Tensor]:
        """The logits, and the image tokens (pictures * CELLS, width) as they enter the language model."""
        inputs = dict(self.inputs)
        seen = model.get_image_features(
            inputs.pop("pixel_values"), inputs["image_grid_thw"], return_dict=True
        )
        logits: Tensor = model(
            **inputs, mm_encoder_outputs={"image": seen}, use_cache=False, logits_to_keep=self.predicts
        ).logits
        return logits.reshape(-1, logits.shape[-1]).float(), torch.cat(seen.pooler_output).float()

    def loss(self, logits: Tensor) -> Tensor:
        each = F.cross_entropy(logits, self.targets, reduction="none")
        return (each * self.weights).sum() / self.weights.sum()


def pack(rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Tokenize and lay out rows, padded on the right to the longest."""
    texts = [text for row in rows for branch in row.branches for text in (branch.question, branch.answer)]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    laid = [_lay(row, [(next(encoded), next(encoded)) for _ in row.branches], tokenizer) for row in rows]
    length = max(len(row.ids) for row in laid)
    ids = np.full((len(rows), length), tokenizer.pad_token_id, dtype=np.int64)
    owner = np.full((len(rows), length), -1, dtype=np.int64)
    positions = np.zeros((4, len(rows), length), dtype=np.int64)
    weight = np.zeros((len(rows), length), dtype=np.float32)
    for index, row in enumerate(laid):
        used = slice(0, len(row.ids))
        ids[index, used], owner[index, used], weight[index, used] = row.ids, row.owner, row.weight
        positions[:, index, used] = row.positions
    causal = np.tri(length, dtype=bool)[None]
    mask = causal & ((owner[:, None, :] == 0) | (owner[:, :, None] == owner[:, None, :]))
    predicts = torch.from_numpy(weight) > 0
    following = torch.from_numpy(np.roll(ids, -1, axis=1))
    pictures = [picture for row in rows for picture in row.pictures]
    inputs = {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask)[:, None],
        "position_ids": torch.from_numpy(positions),
        "pixel_values": patchify(pictures),
        "image_grid_thw": torch.tensor([[1, GRID, GRID]] * len(pictures)),
    }
    return Batch(inputs, predicts, following[predicts], torch.from_numpy(weight)[predicts])


class _Laid(NamedTuple):
    ids: list[int]
    owner: list[int]
    """0 for the prefix, then the branch's number from 1."""
    weight: list[float]
    """Of predicting the next token."""
    positions: np.ndarray


def _lay(
    row: Row, encoded: Sequence[tuple[list[int], list[int]]], tokenizer: PreTrainedTokenizerFast
) -> _Laid:
    prefix, rope = _prefix(len(row.pictures), tokenizer)
    turn, end = _frame(tokenizer)
    ids, owner, weight = list(prefix), [0] * len(prefix), [0.0] * len(prefix)
    columns = [np.concatenate([np.arange(len(prefix))[None], rope])]
    for number, (branch, (question, answer)) in enumerate(zip(row.branches, encoded, strict=True), start=1):
        asked, said = [*question, *turn], [*answer, end]
        ids += asked + said
        size = len(asked) + len(said)
        owner += [number] * size
        weight += [0.0] * (len(asked) - 1) + [branch.weight / len(said)] * len(said) + [0.0]
        steps = np.arange(size)[None]
        columns.append(np.concatenate([len(prefix) + steps, np.repeat(rope.max() + 1 + steps, 3, axis=0)]))
    return _Laid(ids, owner, weight, np.concatenate(columns, axis=1))


@cache
def _prefix(pictures: int, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], np.ndarray]:
    """Token ids and M-RoPE positions (3, T) of the user turn up to the question."""
    picture = "<|vision_start|>" + "<|image_pad|>" * CELLS + "<|vision_end|>"
    ids = tokenizer("<|im_start|>user\n" + picture * pictures, add_special_tokens=False)["input_ids"]
    at = len(ids) - pictures * (CELLS + 2)
    rows: list[np.ndarray] = [np.tile(np.arange(at), (3, 1))]
    for _ in range(pictures):
        rows.append(np.full((3, 1), at))
        place = np.arange(CELLS)
        rows.append(at + 1 + np.stack([0 * place, place // CELL, place % CELL]))
        rows.append(np.full((3, 1), at + 1 + CELL))
        at += 2 + CELL
    return ids, np.concatenate(rows, axis=1)


@cache
def _frame(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int]:
    """What stands between question and answer, and what ends the answer."""
    turn = tokenizer("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    return turn, tokenizer.convert_tokens_to_ids("<|im_end|>")
