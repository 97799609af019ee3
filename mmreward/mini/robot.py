"""Training of mini-robot: mini-vlm taught to judge the push world, in the forms of the robot rewards.

    python -m mmreward.mini.train robot

It says a mark from 1 to 5 (`roboreward`), True or False after a statement of success (`topreward`), the hop
between two moments (`dopamine`) and which of two pictures is further (`preference`). Labels come from the
places, never from a reward or from pixels: the mark is 5 less the pushes that are missing along the task's
axis, success is mark 5.

900 steps take some ten minutes of one core, and the 200 of the last layer about three; how the weights that
are shipped came about stands in the model card. No start that an agent learns from is among the pictures:
the push world's own pair (`push.Push`'s default kinds) is never drawn, in either order. The vision tower
stays mini-vlm's but for the strength of columns in its image tokens (`robot_places`); the language model and
its words are trained. Rows are packed as trees: all questions about the same pictures share them. B rows, T
tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoProcessor, PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from ..assets import ASSETS
from . import push
from .loop import Plan, fit
from .robot_places import BEST, RECALL, echoing, equalised, mark_of, placed_nouns, recalled
from .tasks import PREFER, REASONED
from .vlm_build import CELLS, save
from .vlm_pretrain import CELL, GRID, patchify, watching
from .world import RELATIONS, Scene, Thing

NAME = "mini-robot"
MARK = "task: {prompt}. give a mark from 1 to 5."
SUCCESS = "the task is: {prompt}. is it done, true or false? it is:"
HOP = (
    "<image><image>the task is: {prompt}. <image>before: {prompt}. <image>after: {prompt}. "
    "how much better is after than before?"
)
"""Pictures: when it begins, when it is done, before, after. The task stands after each of the last two, so
that its nouns can fetch the shapes of either."""
HOPPED = "before has {before}, after has {after}. <score>{hop}%</score>"
WORDS = {"roboreward": MARK, "topreward": SUCCESS, "dopamine": HOP}
"""Words of the rewards for this judge, written beside its weights as NAME.txt: their argument `words`."""
CLIP_TIMES = ("<0.5 seconds>", "<0.2 seconds>")
"""What the processor puts before a clip of two frames, at 1 and at 2 frames per second."""
HELD_OUT = (("red", "circle"), ("blue", "square"))
"""Pair that agents learn with."""
PLAN = Plan(steps=900, lr=1.2e-3, warmup=30, ema=0.98, log_every=20)
LAST = Plan(steps=200, lr=8e-4, warmup=10, ema=0.95, log_every=10)
"""Of the last layer alone, which says what the nouns state: they learn it sooner than it is said."""
CLIPS, HOPS, PAIRS = 8, 5, 1
"""Rows of a step, by the number of pictures in them: one, four, two."""
ASKED = 3
"""Relations asked about in a row of one picture."""
SIDEWAYS = 0.7
"""Share of left and right among the relations: two words each, where above and below are one."""
FORM = 0.05
"""Weight of a token of an answer that is the same in all answers of its kind, where one that says something
weighs 1: of the eleven tokens of a hop one or two are its number."""
ECHO = 1.0
"""Weight of `robot_places.Echo.loss`."""
LOOK = 0.3
"""Weight of `robot_places.Recalled.loss`, as of the gaze in mini-vlm's training."""
SCENES = 600
"""Scenes by which columns and rows are equalised."""
FOREIGN, BLANK = 0.2, 0.05
"""Share of the questions about one picture that ask for shapes it does not show, and of empty pictures."""


class Moment(NamedTuple):
    """Places in the push world, and whose they are; `agent` None for a picture of a goal."""

    kinds: tuple[push.Kind, push.Kind]
    mark: push.Place
    moved: push.Place
    agent: push.Place | None
    others: tuple[tuple[push.Kind, push.Place], ...] = ()
    blank: bool = False

    @property
    def pixels(self) -> push.Frame:
        return push.drawn(self.scene, 64)

    @property
    def scene(self) -> Scene:
        if self.blank:
            return Scene(())
        kinds = (*self.kinds, *(kind for kind, _ in self.others))
        places = (self.moved, self.mark, *(place for _, place in self.others))
        things = tuple(
            Thing(*kind, *push.centre(place), push.RADIUS) for kind, place in zip(kinds, places, strict=True)
        )
        return Scene(things) if self.agent is None else Scene(things, clutter=push.strokes(self.agent))

    def task(self, relation: str) -> str:
        return push.related(self.kinds, relation)

    def value(self, relation: str) -> int:
        """The true mark: 5 less the pushes that are missing along the task's axis, from 1 to 5."""
        first, second = push.centre(self.moved), push.centre(self.mark)
        return mark_of(relation, (first[0] - second[0], first[1] - second[1]))


def hop_of(before: int, after: int) -> int:
    """Percentage of what was left, or below zero of what had been done, between two marks."""
    if before == after:
        return 0
    return round(100 * (after - before) / (BEST - before if after > before else before - 1))


# --- rows ---------------------------------------------------------------------------------------------------


class Exchange(NamedTuple):
    """A question and its answer; an `open` one is answered within the question's own turn."""

    question: str
    answer: str
    open: bool = False


class Shown(NamedTuple):
    """Moments whose pictures come first, as one clip or one by one, and what is asked about them."""

    moments: tuple[Moment, ...]
    branches: tuple[Exchange, ...]
    clip: str = ""
    """Before the clip, one of CLIP_TIMES; "" for pictures."""
    leads: tuple[str, ...] = ()
    """What is said before each picture; () where all stand before the question."""

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """What each picture shows, of a row in which a noun means the shape of the latest."""
        return tuple(one.scene for one in self.moments) if self.clip or self.leads else ()


def draw_moment(rng: np.random.Generator, like: Moment | None = None) -> Moment:
    """A moment of any pair but the one that is held out; `like` another: its shapes and mark stay."""
    number = int(rng.choice([0, 0, 1, 2]))
    while True:
        kinds = [push.KINDS[index] for index in rng.permutation(len(push.KINDS))]
        if {kinds[0], kinds[1]} != set(HELD_OUT):
            break
    places = [push.PLACES[index] for index in rng.permutation(len(push.PLACES))]
    if like is None:
        others = tuple(zip(kinds[2:], places[3 : 3 + number], strict=False))
        return Moment((kinds[0], kinds[1]), places[0], places[1], places[2], others)
    taken = {like.mark, *(place for _, place in like.others)}
    moved, agent = [place for place in places if place not in taken][:2]
    return like._replace(moved=moved, agent=agent)


def one_row(moment: Moment, relations: Sequence[str], rng: np.random.Generator) -> Shown:
    """Marks and successes of one moment, which the judge sees as a clip of two equal frames. Where the task
    is about other shapes, or nothing is to be seen, the mark is 1."""
    moment = moment._replace(blank=bool(rng.random() < BLANK))
    branches = []
    for relation in relations:
        task, mark = moment.task(relation), moment.value(relation)
        if rng.random() < FOREIGN:
            other = draw_moment(rng)
            task = other.task(relation)
            mark = 1 if set(other.kinds) - {*moment.kinds, *(kind for kind, _ in moment.others)} else 0
        if mark:
            mark = 1 if moment.blank else mark
            branches.append(Exchange(MARK.format(prompt=task), f"answer: {mark}"))
            said = " true" if mark == BEST else " false"
            branches.append(Exchange(SUCCESS.format(prompt=task), said, open=True))
    return Shown((moment,), tuple(branches), clip=str(rng.choice(CLIP_TIMES)))


def drawn_relations(rng: np.random.Generator, number: int) -> list[str]:
    """Different relations to ask about."""
    share = [SIDEWAYS / 2 if " of" in one else (1 - SIDEWAYS) / 2 for one in RELATIONS]
    return [str(one) for one in rng.choice(RELATIONS, number, replace=False, p=share)]


def goal_of(moment: Moment, relation: str, rng: np.random.Generator) -> Moment | None:
    """The same moment with the task done and nobody in the picture; None where there is no such place."""
    taken = {moment.mark, *(place for _, place in moment.others)}
    done = [moment._replace(moved=place, agent=None) for place in push.PLACES if place not in taken]
    done = [one for one in done if one.value(relation) == BEST]
    return done[int(rng.integers(len(done)))] if done else None


def hop_row(rng: np.random.Generator, kinds: tuple[push.Kind, push.Kind] | None = None) -> Shown:
    """One hop, of these shapes alone if they are given; before or after may be the goal's picture, as in the
    curves backward and forward."""
    while True:
        begun, relation = draw_moment(rng), drawn_relations(rng, 1)[0]
        begun = begun if kinds is None else begun._replace(kinds=kinds, others=())
        goal = goal_of(begun, relation, rng)
        if goal is None:
            continue
        before, after = draw_moment(rng, begun), draw_moment(rng, begun)
        form = rng.random()
        before = begun if form < 0.4 else goal if form < 0.6 else before
        marks = (before.value(relation), after.value(relation))
        said = HOPPED.format(before=marks[0], after=marks[1], hop=hop_of(*marks))
        *leads, question = HOP.format(prompt=begun.task(relation)).split("<image>")
        moments = (begun, goal, before, after)
        return Shown(moments, (Exchange(question, said),), leads=tuple(leads))


def pair_row(rng: np.random.Generator) -> Shown:
    """Which of two moments is further."""
    while True:
        first = draw_moment(rng)
        second, relation = draw_moment(rng, first), drawn_relations(rng, 1)[0]
        marks = (first.value(relation), second.value(relation))
        if marks[0] != marks[1]:
            better = "1" if marks[0] > marks[1] else "2"
            said = REASONED.format(
                reasoning=f"the first has {marks[0]}, the second has {marks[1]}.", answer=better
            )
            return Shown((first, second), (Exchange(PREFER.format(prompt=first.task(relation)), said),))


def draw_rows(rng: np.random.Generator) -> list[Shown]:
    """The rows of one step."""
    rows = [one_row(draw_moment(rng), drawn_relations(rng, ASKED), rng) for _ in range(CLIPS)]
    return [*rows, *(hop_row(rng) for _ in range(HOPS)), *(pair_row(rng) for _ in range(PAIRS))]


# --- packing ------------------------------------------------------------------------------------------------


class Packed(NamedTuple):
    """Rows as tensors: `ids` BT, where pictures stand in them (`seen` BT), whose branch they are (`owner`
    BT), `positions` 4BT, `mask` B1TT, and the weight of predicting the next token (BT)."""

    ids: Tensor
    seen: Tensor
    owner: Tensor
    positions: Tensor
    mask: Tensor
    weight: Tensor


def pack(rows: Sequence[Shown], tokenizer: PreTrainedTokenizerFast) -> Packed:
    """Rows padded on the right; a token looks back at its row's pictures and at its own branch."""
    laid = [_laid(row, tokenizer) for row in rows]
    length = max(len(one[0]) for one in laid)
    ids = np.full((len(rows), length), tokenizer.pad_token_id, dtype=np.int64)
    owner = np.full((len(rows), length), -1, dtype=np.int64)
    weight = np.zeros((len(rows), length), dtype=np.float32)
    positions = np.zeros((4, len(rows), length), dtype=np.int64)
    for index, (tokens, owners, weights, places) in enumerate(laid):
        used = slice(0, len(tokens))
        ids[index, used], owner[index, used], weight[index, used] = tokens, owners, weights
        positions[1:, index, used] = places
        positions[0, index, used] = places.max(axis=0)
    causal = np.tri(length, dtype=bool)[None]
    mask = causal & ((owner[:, None, :] == 0) | (owner[:, :, None] == owner[:, None, :]))
    pads = tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])
    whole = torch.from_numpy(ids)
    seen = (whole == pads[0]) | (whole == pads[1])
    return Packed(
        whole,
        seen,
        torch.from_numpy(owner),
        torch.from_numpy(positions),
        torch.from_numpy(mask)[:, None],
        torch.from_numpy(weight),
    )


def _laid(
    row: Shown, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], list[int], list[float], np.ndarray]:
    """Tokens of a row, their branches (0 for the pictures), weights, and M-RoPE positions (3, T)."""

    def encoded(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    pad = "<|video_pad|>" if row.clip else "<|image_pad|>"
    ids = encoded("<|im_start|>user\n")
    columns = [np.tile(np.arange(len(ids)), (3, 1))]
    cell = np.arange(CELLS)
    for number in range(len(row.moments)):
        # A clip's frames stand within marks of their own, inside those of the chat template.
        lead = encoded(row.leads[number]) if row.leads else []
        lead += encoded("<|vision_start|>" + (f"{row.clip}<|vision_start|>" if row.clip else ""))
        ends = encoded("<|vision_end|>" * (2 if row.clip else 1))
        at = int(columns[-1].max()) + 1
        columns.append(np.tile(at + np.arange(len(lead)), (3, 1)))
        at += len(lead)
        columns.append(at + np.stack([0 * cell, cell // CELL, cell % CELL]))
        columns.append(np.tile(at + CELL + np.arange(len(ends)), (3, 1)))
        ids += lead + encoded(pad * CELLS) + ends
    begun = int(columns[-1].max()) + 1
    owners, weights = [0] * len(ids), [0.0] * len(ids)
    turn, end = encoded("<|im_end|>\n<|im_start|>assistant\n"), encoded("<|im_end|>")
    for number, branch in enumerate(row.branches, start=1):
        question = encoded(branch.question) + ([] if branch.open else turn)
        answer = encoded(branch.answer) + ([] if branch.open else end)
        size = len(question) + len(answer)
        ids += question + answer
        owners += [number] * size
        says = [1.0 if says_something(one) else FORM for one in tokenizer.convert_ids_to_tokens(answer)]
        weights += [0.0] * (len(question) - 1) + says + [0.0]
        columns.append(np.tile(begun + np.arange(size), (3, 1)))
    return ids, owners, weights, np.concatenate(columns, axis=1)


def says_something(token: str) -> bool:
    """False for a token that all answers of a kind have."""
    return token.isdigit() or token in ("-", " true", " false")


def logits_of(
    model: Qwen3VLForConditionalGeneration, rows: Sequence[Shown], packed: Packed
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, vocabulary) at the predicting positions, their targets and weights."""
    pixels = patchify([moment.pixels for row in rows for moment in row.moments])
    with torch.no_grad():
        grid = torch.tensor([[1, GRID, GRID]] * (len(pixels) // GRID**2))
        seen = model.model.visual(pixels, grid_thw=grid).pooler_output
    inputs = model.get_input_embeddings()(packed.ids)
    inputs = inputs.masked_scatter(packed.seen[..., None], seen.to(inputs.dtype))
    hidden = model.model.language_model(
        inputs_embeds=inputs, attention_mask=packed.mask, position_ids=packed.positions, use_cache=False
    ).last_hidden_state
    predicts = packed.weight > 0
    targets = torch.roll(packed.ids, -1, dims=1)[predicts]
    return model.lm_head(hidden[predicts]).float(), targets, packed.weight[predicts]


def taught(
    model: Qwen3VLForConditionalGeneration, rows: Sequence[Shown], tokenizer: PreTrainedTokenizerFast
) -> tuple[Tensor, Mapping[str, float]]:
    """Weighted cross-entropy of the answers with the losses of echoed places and of recalled marks; and the
    share of answer tokens that are right, with those two losses beside it."""
    total, placed, strayed = (torch.zeros(()) for _ in range(3))
    right, weight = 0.0, 0.0
    # Clips hold more than the others: packed together, a third of all tokens would be padding.
    parts = [part for clip in (True, False) if (part := [row for row in rows if bool(row.clip) == clip])]
    for part in parts:
        packed = pack(part, tokenizer)
        with (
            torch.autocast("cpu", torch.bfloat16),
            echoing(model) as echo,
            watching(model, RECALL[0]) as gaze,
        ):
            logits, targets, weights = logits_of(model, part, packed)
        total = total + (F.cross_entropy(logits, targets, reduction="none") * weights).sum()
        right += ((logits.argmax(-1) == targets).float() * weights).sum().item()
        weight += weights.sum().item()
        scenes = [row.scenes for row in part]
        nouns = placed_nouns(packed.ids, packed.seen, packed.owner, scenes, tokenizer)
        placed = placed + echo.loss(model.get_input_embeddings().weight, nouns, tokenizer) / len(parts)
        back = recalled(packed.ids, packed.weight > 0, packed.owner, nouns, tokenizer)
        strayed = strayed + back.loss(model, gaze, packed.mask) / len(parts)
    figures = {"token": right / weight, "echo": placed.item(), "recall": strayed.item()}
    return total / weight + ECHO * placed + LOOK * strayed, figures


def train(out: Path, steps_scale: float, seed: int) -> None:
    """Teach mini-vlm and write `out`/mini-robot with the rewards' words beside it; goes on where it was cut
    short, from `out`/.checkpoints."""
    torch.manual_seed(seed)
    source = ASSETS / "mini-vlm"
    processor = AutoProcessor.from_pretrained(source)
    model = Qwen3VLForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    language = model.model.language_model
    rng = np.random.default_rng(seed)
    equalised(model, [draw_moment(rng).scene for _ in range(SCENES)])

    def teach(step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        return taught(model, draw_rows(rng), processor.tokenizer)

    # All with its words: "5" and "true" are no answers of mini-vlm's, whose vectors for them mean nothing.
    stages = (("robot", PLAN, language), ("robot-last", LAST, language.layers[-1]))
    for number, (name, plan, part) in enumerate(stages):
        model.requires_grad_(False)
        part.requires_grad_(True)
        steps = max(1, round(plan.steps * steps_scale))
        fit(model, teach, replace(plan, steps=steps, seed=seed + number), out / ".checkpoints" / f"{name}.pt")
    save(model, processor, out / NAME)
    for reward, words in WORDS.items():
        (out / NAME / f"{reward}.txt").write_text(words, encoding="utf-8")
