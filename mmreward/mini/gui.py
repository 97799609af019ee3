"""Training of mini-gui: mini-vlm taught to press what an instruction names, and to say if a press is right.

    python -m mmreward.mini.train gui

It is shown the windows of `windows` and, now and then, the icons of `screens`, and answers in two forms:

    Press the button tab4.                              click(484, 203)      in the coordinates 0 to 1000
    Is the mark on the button tab4? Answer yes or no.   yes                  of `windows.marked`

Labels come from the layout, never from a reward or from pixels. Of the windows' texts and arrangements a
fifth is never drawn here (`windows.HELD_OUT`); of the icons, no seeds of `screens.draw_task`.

mini-vlm has never read a letter, so first its vision tower is trained (`READING`): the image token in which
an element has its centre shall state its kind, its word and its digit in the vectors of these very words, and
its centre in those of numbers. Then the language model alone (`PRESSING`), on rows packed as `vlm.pack` does,
while one attention head is shown the element that a text names, as in mini-vlm's own training. At last both
at once (`TOGETHER`). N elements, B rows, T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoProcessor,
    PreTrainedTokenizerFast,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from ..assets import ASSETS
from . import tasks
from .loop import Plan, fit
from .screens import KINDS as ICONS
from .screens import Page, ScreenTask
from .vlm import Branch, Row, pack
from .vlm_build import CELLS, build_model, build_processor, save
from .vlm_pretrain import BINS, CELL, GRID, Gaze, near, patchify, watching
from .windows import KINDS, WORDS, Element, Window, draw_window, marked
from .world import COLOURS, SHAPES, Thing, render, sample_scene

NAME = "mini-gui"
PRESS = "Press the {noun}."
"""Instruction; of `screens.ScreenTask.goal` for one press."""
JUDGE = "Is the mark on the {noun}? Answer yes or no."
READING = Plan(steps=900, lr=1.5e-3, warmup=40, ema=0.99, log_every=20)
PRESSING = Plan(steps=480, lr=1.2e-3, warmup=40, ema=0.99, log_every=20)
SEEN, ROWS = 48, 20
"""Pages of a step of reading, and rows of one of pressing."""
ICON = 0.2
"""Share of the pages that are icons."""
TOGETHER = Plan(steps=80, lr=4e-4, warmup=20, ema=0.98, log_every=20)
VERDICT = 3.0
"""Weight of a judgement beside a press, of which a row has four and which has six tokens to be learned."""
BESIDE = 0.2
"""Share of the marks that are on nothing."""
GROUPS = (KINDS, WORDS, tuple("0123456789"), tuple(COLOURS), SHAPES)
"""Words that exclude each other: what an element is told by, and what an icon is."""

LONGEST = 8
"""Tokens of an answer."""


def press(x: float, y: float) -> str:
    """The answer that clicks a place, given in fractions of the side, to a 64th of it."""
    return f"click({', '.join(str(round(1000 * round(BINS * v) / BINS)) for v in (x, y))})"


def names_of(thing: Element | Thing) -> tuple[str, ...]:
    """The words of an element, one token each: ("button", "tab", "4"), or ("red", "circle")."""
    role, label = thing.kind
    return (role, label[:-1], label[-1]) if isinstance(thing, Element) else (role, label)


# --- rows ---------------------------------------------------------------------------------------------------


def draw_page(rng: np.random.Generator) -> Page:
    """A page for training."""
    if rng.random() >= ICON:
        return draw_window(rng)
    chosen = rng.permutation(len(ICONS))[: int(rng.integers(2, 5))]
    return sample_scene(rng, [ICONS[number] for number in chosen])


def picture_of(page: Page, point: tuple[float, float] | None = None) -> np.ndarray:
    """Pixels of a page; with a point that was clicked, with its mark."""
    picture = page.picture() if isinstance(page, Window) else render(page)
    return np.asarray(picture if point is None else marked(picture, point))


def draw_point(rng: np.random.Generator, page: Page) -> tuple[float, float]:
    """A place to be judged: within an element or, now and then, beside all of them."""
    things = page.things
    while rng.random() < BESIDE:
        x, y = (float(v) for v in rng.uniform(0.03, 0.97, 2))
        if not any(_within(thing, (x, y), 0.02) for thing in things):
            return x, y
    left, top, right, bottom = things[int(rng.integers(len(things)))].box
    # A sixth of the side away from its edges, where no picture leaves a doubt.
    x, y = rng.uniform(1 / 6, 5 / 6, 2)
    return float(left + x * (right - left)), float(top + y * (bottom - top))


def _within(thing: Element | Thing, point: tuple[float, float], more: float = 0.0) -> bool:
    left, top, right, bottom = thing.box
    return left - more <= point[0] <= right + more and top - more <= point[1] <= bottom + more


def press_row(rng: np.random.Generator, page: Page) -> Row:
    """Presses of the elements of a page."""
    branches = [
        Branch(PRESS.format(noun=" ".join(thing.kind)), press(thing.x, thing.y)) for thing in page.things
    ]
    order = [int(number) for number in rng.permutation(len(branches))[:4]]
    return Row((picture_of(page),), tuple(branches[number] for number in order))


def judge_row(rng: np.random.Generator, page: Page) -> tuple[Row, tuple[float, float]]:
    """Judgements of one press, as often yes as no where it is on an element; and its place."""
    point = draw_point(rng, page)
    right = [thing for thing in page.things if _within(thing, point)]
    wrong = [thing for thing in page.things if not _within(thing, point)]
    chosen = [wrong[int(number)] for number in rng.permutation(len(wrong))[:2]]
    branches = [Branch(_judged(thing), "yes", VERDICT) for thing in right]
    share = VERDICT / len(chosen) if right else VERDICT / 2
    branches += [Branch(_judged(thing), "no", share) for thing in chosen]
    return Row((picture_of(page, point),), tuple(branches)), point


class Judgement(NamedTuple):
    """A question about a press that is marked in a picture, and its true answer."""

    picture: np.ndarray
    question: str
    answer: str


def judgement(task: ScreenTask, rng: np.random.Generator) -> Judgement:
    """A press for the first step of a task, as often right as wrong."""
    page, wanted = task.pages[0], task.thing(0)
    right = bool(rng.integers(2))
    while True:
        point = draw_point(rng, page)
        if _within(wanted, point) == right:
            return Judgement(picture_of(page, point), _judged(wanted), "yes" if right else "no")


def _judged(thing: Element | Thing) -> str:
    return JUDGE.format(noun=" ".join(thing.kind))


# --- the network --------------------------------------------------------------------------------------------


def grown() -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """mini-vlm with the words of windows among those it knows: theirs are fresh, the others as they were."""
    source = ASSETS / "mini-vlm"
    old = AutoProcessor.from_pretrained(source).tokenizer
    weights = Qwen3VLForConditionalGeneration.from_pretrained(source, dtype=torch.float32).state_dict()
    processor = build_processor([*tasks.words(), *KINDS, *WORDS, PRESS, JUDGE, "click"])
    model = build_model(processor.tokenizer)
    fresh = model.get_input_embeddings().weight.detach().clone()
    known = old.get_vocab()
    for token, place in processor.tokenizer.get_vocab().items():
        if token in known:
            fresh[place] = weights["model.language_model.embed_tokens.weight"][known[token]]
    tied = ("model.language_model.embed_tokens.weight", "lm_head.weight")
    model.load_state_dict({**weights, **dict.fromkeys((name for name in tied if name in weights), fresh)})
    return model, processor


class Pupil(nn.Module):
    """The network, with throw-away heads of the dense losses."""

    def __init__(self, model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        text, vision = model.config.text_config.hidden_size, model.config.vision_config.hidden_size
        self.model = model
        across, down = (nn.Linear(text, text, bias=False) for _ in range(2))
        self.places = nn.ModuleList((across, down))
        nn.init.eye_(across.weight)
        nn.init.eye_(down.weight)
        self.mark = nn.Linear(text, 1)
        self.letters = nn.ModuleList(nn.Linear(vision, len(group) + 1) for group in GROUPS[1:3])
        spaced = [[f" {name}" if name.isalpha() else name for name in group] for group in GROUPS]
        self.groups = [torch.tensor(tokenizer.convert_tokens_to_ids(group)) for group in spaced]
        bins = [str(round(1000 * number / BINS)) for number in range(BINS + 1)]
        self.bins = torch.tensor(tokenizer.convert_tokens_to_ids(bins))

    def read(
        self, merged: Tensor, pages: Sequence[Page], points: Sequence[tuple[float, float] | None]
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of what image tokens (B * CELLS, width) say of the elements with their centres in them."""
        table = self.model.get_input_embeddings().weight
        things = [(number, thing) for number, page in enumerate(pages) for thing in page.things]
        states = merged[[number * CELLS + _cell(thing) for number, thing in things]]
        losses, right = [], torch.ones(len(things), dtype=torch.bool)
        for group, ids in zip(GROUPS, self.groups, strict=True):
            named = [next((name for name in names_of(thing) if name in group), "") for _, thing in things]
            rows = [row for row, name in enumerate(named) if name]
            if rows:
                want = torch.tensor([group.index(named[row]) for row in rows])
                scores = states[rows] @ table[ids].T
                losses.append(F.cross_entropy(scores, want))
                right[rows] &= scores.argmax(-1) == want
        off = []
        for axis, place in enumerate(self.places):
            want = torch.tensor([round(BINS * (thing.y if axis else thing.x)) for _, thing in things])
            scores = place(states) @ table[self.bins].T
            losses.append(0.3 * F.cross_entropy(scores, near(want)))
            off.append((scores.argmax(-1) - want).abs().float().mean().item())
        under = [_marks(thing, points[number]) for number, thing in things]
        asked = [row for row, (number, _) in enumerate(things) if points[number] is not None]
        if asked:
            said = self.mark(states[asked])[:, 0]
            truth = torch.tensor([under[row] for row in asked])
            losses.append(2 * F.binary_cross_entropy_with_logits(said, truth))
        figures = {"read": right.float().mean().item(), "off": float(np.mean(off))}
        return torch.stack(losses).sum(), figures

    def spell(self, inner: Tensor, pages: Sequence[Page]) -> Tensor:
        """Loss of what each patch (B * GRID * GRID, width) says of the text that covers it."""
        windows = [number for number, page in enumerate(pages) if isinstance(page, Window)]
        if not windows:
            return inner.sum() * 0
        wanted = torch.from_numpy(np.stack([_letters(pages[number]) for number in windows], 1)).flatten(1)
        own = inner.view(len(pages), GRID * GRID, -1)[windows].flatten(0, 1)
        losses = [F.cross_entropy(head(own), want) for head, want in zip(self.letters, wanted, strict=True)]
        return torch.stack(losses).sum()


def _cell(thing: Element | Thing) -> int:
    return min(int(thing.y * CELL), CELL - 1) * CELL + min(int(thing.x * CELL), CELL - 1)


def _marks(thing: Element | Thing, point: tuple[float, float] | None) -> float:
    return float(point is not None and _within(thing, point))


def _letters(page: Page) -> np.ndarray:
    """Word and digit that cover each patch, from 1, in the order of the tower's own tokens."""
    patch = np.zeros((2, GRID, GRID), dtype=np.int64)
    for thing in page.things:
        if isinstance(thing, Element):
            _, word, digit = names_of(thing)
            rows = slice((thing.top + 3) // 8, (thing.top + 10) // 8 + 1)
            begin, end = thing.text_left, thing.text_left + 18
            patch[0, rows, (begin + 1) // 8 : (end - 2) // 8 + 1] = 1 + WORDS.index(word)
            patch[1, rows, (end + 1) // 8 : (end + 4) // 8 + 1] = 1 + int(digit)
    return patch.reshape(2, CELL, 2, CELL, 2).transpose(0, 1, 3, 2, 4).reshape(2, -1)


# --- the stages ---------------------------------------------------------------------------------------------


def reading(pupil: Pupil, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
    """Loss of a step of the tower alone."""
    pages = [draw_page(rng) for _ in range(SEEN)]
    points = [draw_point(rng, page) if number % 2 else None for number, page in enumerate(pages)]
    pixels = patchify([picture_of(page, point) for page, point in zip(pages, points, strict=True)])
    with torch.autocast("cpu", torch.bfloat16):
        seen = pupil.model.model.visual(pixels, grid_thw=torch.tensor([[1, GRID, GRID]] * len(pages)))
    loss, figures = pupil.read(seen.pooler_output.float(), pages, points)
    return loss + pupil.spell(seen.last_hidden_state.float(), pages), figures


def pressing(
    pupil: Pupil, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> tuple[Tensor, Mapping[str, float]]:
    """Loss of a step of packed rows."""
    pages, rows, points = [], [], []
    for number in range(ROWS):
        page = draw_page(rng)
        point: tuple[float, float] | None = None
        if number % 2:
            row, point = judge_row(rng, page)
        else:
            row = press_row(rng, page)
        pages.append(page)
        rows.append(row)
        points.append(point)
    batch = pack(rows, tokenizer)
    with torch.autocast("cpu", torch.bfloat16), watching(pupil.model) as gaze:
        logits, merged = batch.forward(pupil.model)
        strayed = looked(pupil.model, gaze, batch.inputs, pages, tokenizer)
    dense, figures = pupil.read(merged, pages, points)
    right = (logits.argmax(-1) == batch.targets).numpy()
    spoken = {kind: tokenizer.convert_tokens_to_ids(words) for kind, words in SPOKEN.items()}
    shares = {kind: np.isin(batch.targets.numpy(), ids) for kind, ids in spoken.items()}
    shares["place"] = ~np.isin(batch.targets.numpy(), [*spoken["verdict"], *spoken["form"]])
    marks = {kind: float(right[shares[kind]].mean()) for kind in ("verdict", "place")}
    return batch.loss(logits) + 0.3 * strayed + 0.5 * dense, {**marks, **figures, "gaze": strayed.item()}


SPOKEN = {"verdict": ["yes", "no"], "form": ["click", "(", ")", ", ", "<|im_end|>"]}
"""Tokens of answers beside the numbers of a place."""


def looked(
    model: Qwen3VLForConditionalGeneration,
    gaze: Gaze,
    inputs: Mapping[str, Tensor],
    pages: Sequence[Page],
    tokenizer: PreTrainedTokenizerFast,
) -> Tensor:
    """Negative log attention of the supervised head from the last word of a named element to its cell."""
    ids = inputs["input_ids"]
    rows, columns, cells = [], [], []
    for row, (tokens, page) in enumerate(zip(ids.tolist(), pages, strict=True)):
        for thing in page.things:
            name = _tokens(names_of(thing), tokenizer)
            for column in range(len(tokens) - len(name)):
                if tuple(tokens[column : column + len(name)]) == name:
                    rows.append(row)
                    columns.append(column + len(name) - 1)
                    cells.append(_cell(thing))
    attention = model.model.language_model.layers[1].self_attn
    logs = gaze.weights(attention, inputs["attention_mask"], (torch.tensor(rows), torch.tensor(columns)))
    seen = logs[ids[rows] == model.config.image_token_id].view(len(rows), CELLS)
    return -seen.gather(1, torch.tensor(cells)[:, None]).mean()


@cache
def _tokens(names: tuple[str, ...], tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    return tuple(tokenizer.convert_tokens_to_ids([f" {n}" if n.isalpha() else n for n in names]))


def train(out: Path, steps_scale: float, seed: int) -> None:
    """Teach mini-vlm and write `out`/mini-gui; goes on where it was cut short, from `out`/.checkpoints."""
    torch.manual_seed(seed)
    model, processor = grown()
    pupil = Pupil(model, processor.tokenizer)
    work = out / ".checkpoints"

    def read(step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        return reading(pupil, rng)

    def act(step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        return pressing(pupil, processor.tokenizer, rng)

    def both(step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        seen, figures = reading(pupil, rng)
        said, told = pressing(pupil, processor.tokenizer, rng)
        return 0.5 * seen + said, {**told, **figures}

    lessons = (("reading", read, READING), ("pressing", act, PRESSING), ("together", both, TOGETHER))
    for name, lesson, plan in lessons:
        steps = max(1, round(plan.steps * steps_scale))
        # What it has learned to read is forgotten where answers that are not known yet change the tower too.
        model.model.visual.requires_grad_(name != "pressing")
        fit(pupil, lesson, replace(plan, steps=steps, seed=seed), work / f"gui-{name}.pt")
    save(model, processor, out / NAME)
