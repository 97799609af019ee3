"""Training of the mini-vlm: dense pretraining of its vision tower, then instruction on tree-packed rows.

Tree packing: one row holds one prompt prefix (the pictures) and many independent dialogues. Every branch
attends to the prefix and to itself only, and its positions restart where the prefix ends, so a branch's
logits are those of the dialogue alone while the pictures are computed once. Shapes: B rows, T tokens.

The stages and the proportions in which tasks are mixed stand here; the tasks themselves are in `tasks.py` and
`dialogues.py`, the networks in `vlm_build.py`, the figures in `vlm_measure.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from . import dialogues as draw
from .loop import Plan, fit
from .tasks import Dialogue
from .vlm_build import CELLS, build_model, build_processor, save
from .vlm_pretrain import (
    CELL,
    GRID,
    DensePretraining,
    ScenePicture,
    compass_loss,
    draw_picture,
    draw_scene,
    gaze_loss,
    patchify,
    watching,
)
from .world import Scene, sample_scene

# --- tree packing ------------------------------------------------------------------------------------------


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
    """Scenes of the pictures, for losses that look at single cells."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows: the model's inputs, the predicting positions (`predicts` BT), and a target and a weight
    each."""

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
        # Not by logits_to_keep, which takes a mask of rows and columns only in some versions of transformers.
        hidden = model.model(**inputs, mm_encoder_outputs={"image": seen}, use_cache=False).last_hidden_state
        logits: Tensor = model.lm_head(hidden[self.predicts])
        return logits.float(), torch.cat(seen.pooler_output).float()

    def loss(self, logits: Tensor) -> Tensor:
        """Weighted cross-entropy of the logits at the predicting positions."""
        each = F.cross_entropy(logits, self.targets, reduction="none")
        return (each * self.weights).sum() / self.weights.sum()


def pack(rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Batch of tokenized rows, padded on the right to the longest."""
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
    # A token looks back at the prefix (owner 0) and at its own branch. Padding (-1) stands last, so that
    # nothing looks at it.
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
        question_ids, answer_ids = [*question, *turn], [*answer, end]
        ids += question_ids + answer_ids
        size = len(question_ids) + len(answer_ids)
        owner += [number] * size
        weight += (
            [0.0] * (len(question_ids) - 1) + [branch.weight / len(answer_ids)] * len(answer_ids) + [0.0]
        )
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
    """Token ids between question and answer, and the id that ends the answer."""
    turn = tokenizer("<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    return turn, tokenizer.convert_tokens_to_ids("<|im_end|>")


# --- stages ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mix:
    """Proportions of tasks in the rows of a stage."""

    short: Mapping[str, float]
    """Probabilities of the tasks that fill a row up."""
    long: Mapping[str, float]
    """Probabilities of the tasks of which a row has at most one; "" stands for none."""
    weight: Mapping[str, float]
    """Weight of a whole answer by task; 1 for the rest."""


PLACES = Mix(
    short={
        "present": 0.08,
        "exact": 0.12,
        "relation": 0.25,
        "side": 0.03,
        "where": 0.08,
        "which_way": 0.2,
        "match": 0.08,
        "count": 0.12,
        "attribute": 0.04,
    },
    long={"critique": 0.14, "verdict": 0.06, "listen": 0.1, "": 0.7},
    weight={"locate": 2.5, "locate_all": 3.0, "critique": 2.5, "verdict": 2.5, "prefer": 2.5},
)
"""Mix of the first stage: places take longest to learn, so most questions ask for them."""
BALANCED = Mix(
    short={
        "present": 0.25,
        "exact": 0.13,
        "relation": 0.2,
        "side": 0.02,
        "where": 0.03,
        "which_way": 0.08,
        "match": 0.12,
        "count": 0.14,
        "attribute": 0.03,
    },
    long={"critique": 0.22, "verdict": 0.1, "listen": 0.14, "": 0.54},
    weight={"locate": 3.0, "locate_all": 4.5, "critique": 2.5, "verdict": 2.5, "prefer": 2.5},
)
ROOM = 225
"""Tokens of dialogue in a row."""
ROWS = 12
"""Rows in a step."""
LOOKING = Plan(steps=1500, lr=1.5e-3, warmup=100, ema=0.995)
TALKING = Plan(steps=6000, lr=1.2e-3, warmup=200, ema=0.998)
FINISHING = Plan(steps=2200, lr=1.4e-3, warmup=60, ema=0.997)
MUTE = 0.1
"""The share of the steps before the long tasks join."""


def train(out: Path, steps_scale: float, seed: int) -> None:
    """Train from scratch and write `out`/mini-vlm; an interrupted run goes on from `out`/.checkpoints."""
    torch.manual_seed(seed)
    processor = build_processor()
    tokenizer = processor.tokenizer
    model = build_model(tokenizer)
    work = out / ".checkpoints"
    eyes = DensePretraining(model)

    def look(step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        return eyes.loss([draw_picture(draw_scene(rng), rng) for _ in range(64)])

    fit(eyes, look, _scaled(LOOKING, steps_scale, seed), work / "vlm-looking.pt")
    eyes.seed_embeddings(model, tokenizer)
    plan = _scaled(TALKING, steps_scale, seed + 1)

    def talk(step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        return instruct(model, tokenizer, rng, PLACES, talkative=step > plan.steps * MUTE)

    def finish(step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        return instruct(model, tokenizer, rng, BALANCED)

    fit(model, talk, plan, work / "vlm-talking.pt")
    fit(model, finish, _scaled(FINISHING, steps_scale, seed + 2), work / "vlm-finishing.pt")
    save(model, processor, out / "mini-vlm")


def _scaled(plan: Plan, factor: float, seed: int) -> Plan:
    return replace(plan, steps=max(1, round(plan.steps * factor)), seed=seed)


def instruct(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
    mix: Mix,
    talkative: bool = True,
) -> tuple[Tensor, Mapping[str, float]]:
    """Loss of one batch of fresh rows, and the accuracy over all answer tokens and over yes and no."""
    rows = [draw_row(rng, tokenizer, mix, talkative) for _ in range(ROWS)]
    batch = pack(rows, tokenizer)
    scenes = [row.scenes for row in rows]
    with torch.autocast("cpu", torch.bfloat16), watching(model) as gaze:
        logits, seen = batch.forward(model)
        strayed = gaze_loss(model, gaze, batch.inputs, scenes, tokenizer)
    table = model.get_input_embeddings().weight
    compass = compass_loss(seen, [scene for some in scenes for scene in some], table, tokenizer)
    right = (logits.argmax(-1) == batch.targets).tolist()
    verdict_ids = {word: tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")}
    verdicts = [
        ok for ok, target in zip(right, batch.targets.tolist(), strict=True) if target in verdict_ids.values()
    ]
    figures = {
        "token": float(np.mean(right)),
        "yes/no": float(np.mean(verdicts)),
        "compass": compass.item(),
        "gaze": strayed.item(),
    }
    return batch.loss(logits) + 0.5 * compass + 0.3 * strayed, figures


# --- rows --------------------------------------------------------------------------------------------------


def draw_row(rng: np.random.Generator, tokenizer: PreTrainedTokenizerFast, mix: Mix, talkative: bool) -> Row:
    """A row of fresh dialogues about one picture, or now and then about two."""
    if talkative and rng.random() < 0.1:
        return _double_row(rng, tokenizer, mix)
    view = draw_picture(draw_scene(rng), rng)
    dialogues = _planned(view, rng, mix if talkative else None)
    names = rng.choice(list(mix.short), size=20, p=np.array(list(mix.short.values())))
    dialogues += [d for name in names if (d := draw.FACTS[str(name)](view.scene, rng)) is not None]
    dialogues = _fitting(dialogues, tokenizer)
    faded = 1.0 if view.level == 0 else 0.7 if view.level < 0.55 else 0.3
    branches = tuple(
        Branch(
            d.question,
            d.answer,
            mix.weight.get(d.task, 1.0) * (1 if d.task in ("artifact", "critique") else faded),
        )
        for d in dialogues
    )
    return Row((view.pixels,), branches, (view.scene,))


def _planned(view: ScenePicture, rng: np.random.Generator, mix: Mix | None) -> list[Dialogue]:
    """The dialogues a row starts with, before it is filled up; without a mix no long one."""
    long = str(rng.choice(list(mix.long), p=np.array(list(mix.long.values())))) if mix else ""
    found: list[Dialogue | None] = []
    if view.level > 0 or rng.random() < 0.25:
        found.append(draw.spoilt(view.level))
    if long == "critique":
        found.append(draw.critic(view.scene, rng, view.level))
    elif rng.random() < 0.75:
        found.append(draw.FACTS[str(rng.choice(["locate", "locate_all"]))](view.scene, rng))
    if long in draw.FACTS:
        found.append(draw.FACTS[long](view.scene, rng))
    return [d for d in found if d is not None]


def _double_row(rng: np.random.Generator, tokenizer: PreTrainedTokenizerFast, mix: Mix) -> Row:
    """Two pictures, often nearly alike, and a few requests that fit one of them better."""
    first = draw_scene(rng)
    second = draw_scene(rng)
    if rng.random() < 0.6 and first.things:
        changed = draw.edit(draw.draw_caption(first, rng, edits=0), rng)
        second = sample_scene(rng, [kind for kind, number in changed.kinds for _ in range(number)])
    if rng.random() < 0.5:
        first, second = second, first
    drawn = [draw.prefer(first, second, rng, reasoned) for reasoned in rng.permutation([False, True, True])]
    dialogues = _fitting([d for d in drawn if d is not None], tokenizer)
    pictures = tuple(draw_picture(scene, rng, spoilt=0.0).pixels for scene in (first, second))
    branches = tuple(Branch(d.question, d.answer, mix.weight.get(d.task, 1.0)) for d in dialogues)
    return Row(pictures, branches, (first, second))


def _fitting(dialogues: list[Dialogue], tokenizer: PreTrainedTokenizerFast) -> list[Dialogue]:
    """The first dialogues, as many as fit into a row's room (each takes six more tokens than its text)."""
    texts = [d.question + d.answer for d in dialogues]
    sizes = [len(ids) + 6 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []
    return dialogues[: int((np.cumsum(sizes) <= ROOM).sum())]
