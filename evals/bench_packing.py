"""The least work that answers many questions about each picture: one row holds the picture and all of them.

Each question sees the picture, what all questions begin with, and itself; its positions go on where that
beginning ends. Written against transformers alone, so that it can be held against the engine.

Shapes: B rows, T tokens, N questions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch

from .bench_judges import Judge, Question

MEDIA = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")


class Packed(NamedTuple):
    """A forward's arguments, and where (row, token) each question ends."""

    inputs: dict[str, torch.Tensor]
    rows: torch.Tensor
    ends: torch.Tensor

    def logits(self, model: Any) -> torch.Tensor:
        """(N, V), in the order of the questions."""
        hidden = model.model(**self.inputs, use_cache=False).last_hidden_state
        return cast(torch.Tensor, model.lm_head(hidden[self.rows, self.ends]))


class _Row(NamedTuple):
    ids: list[int]
    owner: list[int]
    """0 for what all questions share, then the question's number from 1."""
    positions: torch.Tensor
    """(4, T): the text's own index, then M-RoPE's t, h, w."""
    media: dict[str, torch.Tensor]


def pack(judge: Judge, families: Sequence[Sequence[Question]]) -> Packed:
    """Lay out one row for each picture and its questions, padded on the right."""
    laid = [_lay(judge, questions) for questions in families]
    length = max(len(row.ids) for row in laid)
    ids = torch.zeros(len(laid), length, dtype=torch.long)
    owner = torch.full((len(laid), length), -1)
    positions = torch.zeros(4, len(laid), length, dtype=torch.long)
    for index, row in enumerate(laid):
        used = slice(0, len(row.ids))
        ids[index, used], owner[index, used] = torch.tensor(row.ids), torch.tensor(row.owner)
        positions[:, index, used] = row.positions
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = causal & ((owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None]))
    last = (owner > 0) & (owner != owner.roll(-1, 1))
    last[:, -1] = owner[:, -1] > 0
    rows, ends = last.nonzero(as_tuple=True)
    inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask[:, None]}
    inputs |= {name: torch.cat([row.media[name] for row in laid]) for name in laid[0].media}
    return Packed({name: tensor.to(judge.device) for name, tensor in inputs.items()}, rows, ends)


def _lay(judge: Judge, questions: Sequence[Question]) -> _Row:
    first = {name: tensor.cpu() for name, tensor in judge.inputs(questions[:1]).items()}
    tokenizer = judge.processor.tokenizer
    ids: list[int] = first["input_ids"][0].tolist()
    eye = tokenizer.convert_tokens_to_ids("<|vision_end|>")
    seen = len(ids) - ids[::-1].index(eye)
    # A special token never merges with what follows, so the rest is tokenized on its own.
    rests = [judge.chat(question).rpartition("<|vision_end|>")[2] for question in questions]
    tails: list[list[int]] = tokenizer(rests, add_special_tokens=False)["input_ids"]
    shared = _alike(tails)
    ahead = seen + shared
    media = {name: first[name] for name in MEDIA if name in first}
    grids = {name: grid for name, grid in media.items() if name.endswith("thw")}
    types = first["mm_token_type_ids"][:, :ahead]
    rope, _ = judge.model.model.get_rope_index(
        input_ids=first["input_ids"][:, :ahead], mm_token_type_ids=types, **grids
    )
    columns = [torch.cat([torch.arange(ahead)[None], rope[:, 0]])]
    start = torch.tensor([[ahead], *[[int(rope.max()) + 1]] * 3])
    ids, owner = ids[:ahead], [0] * ahead
    for number, tail in enumerate(tails, start=1):
        own = tail[shared:]
        ids += own
        owner += [number] * len(own)
        columns.append(start + torch.arange(len(own)))
    return _Row(ids, owner, torch.cat(columns, dim=1), media)


def _alike(tails: Sequence[Sequence[int]]) -> int:
    """How many tokens all questions begin with, at least one left to each."""
    most = min(len(tail) for tail in tails) - 1
    return next((i for i in range(most) if len({tail[i] for tail in tails}) > 1), most)
