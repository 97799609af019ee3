"""How the mini-vlm is trained: dense pretraining of its eyes, then instruction on tree-packed rows.

This file knows in which proportion the tasks are mixed; the tasks themselves are in `tasks.py` and
`dialogues.py`, the row layout in `vlm_pack.py`, the figures in `vlm_measure.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from . import dialogues as draw
from .loop import Plan, fit
from .tasks import Dialogue
from .vlm_build import build_model, build_processor, save
from .vlm_gaze import gaze_loss, watching
from .vlm_pack import Branch, Row, pack
from .vlm_vision import DensePretraining, View, compass_loss, draw_scene, draw_view
from .world import sample_scene


@dataclass(frozen=True, slots=True)
class Mix:
    """What the rows of a stage are made of."""

    short: Mapping[str, float]
    """What fills a row up, in these proportions."""
    long: Mapping[str, float]
    """At most one of these in a row, and how often; "" stands for none."""
    weight: Mapping[str, float]
    """What a whole answer counts; 1 for the rest."""


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
"""Where things lie takes longest to learn, so most of the first stage asks for it."""
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
        return eyes.loss([draw_view(draw_scene(rng), rng) for _ in range(64)])

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
    """The loss of one batch of fresh rows, and the accuracy over all answer tokens and over yes and no."""
    rows = [draw_row(rng, tokenizer, mix, talkative) for _ in range(ROWS)]
    batch = pack(rows, tokenizer)
    scenes = [row.scenes for row in rows]
    with torch.autocast("cpu", torch.bfloat16), watching(model) as gaze:
        logits, seen = batch.forward(model)
        strayed = gaze_loss(model, gaze, batch.inputs, scenes, tokenizer)
    table = model.get_input_embeddings().weight
    compass = compass_loss(seen, [scene for some in scenes for scene in some], table, tokenizer)
    right = (logits.argmax(-1) == batch.targets).tolist()
    said = {word: tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")}
    verdicts = [
        ok for ok, target in zip(right, batch.targets.tolist(), strict=True) if target in said.values()
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
    view = draw_view(draw_scene(rng), rng)
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


def _planned(view: View, rng: np.random.Generator, mix: Mix | None) -> list[Dialogue]:
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
    drawn = [draw.prefer(first, second, rng, heard) for heard in rng.permutation([False, True, True])]
    dialogues = _fitting([d for d in drawn if d is not None], tokenizer)
    pictures = tuple(draw_view(scene, rng, spoilt=0.0).pixels for scene in (first, second))
    branches = tuple(Branch(d.question, d.answer, mix.weight.get(d.task, 1.0)) for d in dialogues)
    return Row(pictures, branches, (first, second))


def _fitting(dialogues: list[Dialogue], tokenizer: PreTrainedTokenizerFast) -> list[Dialogue]:
    """The first dialogues, as many as fit into a row's room (each takes six more tokens than its text)."""
    texts = [d.question + d.answer for d in dialogues]
    sizes = [len(ids) + 6 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []
    return dialogues[: int((np.cumsum(sizes) <= ROOM).sum())]
