"""Places in words: what mini-robot needs beside labels to learn left from right, and before from after.

mini-vlm's image tokens state their row with more than twice the strength of their column (its compass loss
has two pairs of words for rows, one for columns), and the layer that fetches a shape's token for its noun
makes six times of that. From there on a column is hardly heard: trained by its answers alone, a judge that
marks "above" and "below" without an error says the same of "left of" and "right of".

- `equalised` brings the column of a shape's image token to the strength of its row, in the last matrix of the
  vision tower; rows and all else stay what they are.
- `Echo` has the noun of a shape state the place of that shape in the latest picture before it, in the vectors
  of the words for places, as the compass loss of `vlm_pretrain` has image tokens do; the second noun of a
  task, a layer later, the way to the first; and another layer later the task's mark.
- `Recalled` has one head of the last layer look, where a mark is said, at the noun that states it. A hop is
  said of two pictures, and without this the nouns after either picture state its mark nearly without an error
  while no head looks back at them: a judge trained by its answers says the marks of the pictures that are
  common.

N shapes or nouns, W width of the language model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from . import push
from .vlm_build import CELLS
from .vlm_pretrain import CELL, COMPASS, GRID, LAYER, Gaze, kind_tables, patchify
from .world import COLOURS, RELATIONS, SHAPES, Scene, render

Place = tuple[float, float]
BEST = 5
"""Mark of a state where the task is done."""
RECALL = (LAYER + 3, 1)
"""Layer and head that look back at the noun which states a mark, where it is said: the last layer, the only
one after that in which it is stated."""


class Slopes(NamedTuple):
    """Image tokens of shapes by their places: `mean` (W,), `slopes` (2, W), what a token gains with one
    standard deviation of the column and of the row, and `probes` (W, 2), which read both from a token."""

    mean: Tensor
    slopes: Tensor
    probes: Tensor

    @property
    def strength(self) -> tuple[float, float]:
        """Norms of the slopes, of the column and of the row."""
        column, row = self.slopes.norm(dim=1).tolist()
        return column, row


@torch.no_grad()
def slopes_of(model: Qwen3VLForConditionalGeneration, scenes: Sequence[Scene]) -> Slopes:
    """Least squares over the cells that hold a shape's centre."""
    at, cells = [], []
    for number, scene in enumerate(scenes):
        for thing in scene.things:
            at.append((thing.x, thing.y))
            cells.append(number * CELLS + int(thing.y * CELL) * CELL + int(thing.x * CELL))
    pixels = patchify([np.asarray(render(scene)) for scene in scenes])
    grid = torch.tensor([[1, GRID, GRID]] * len(scenes))
    tokens = model.model.visual(pixels, grid_thw=grid).pooler_output.double()[torch.tensor(cells)]
    places = torch.tensor(at, dtype=torch.float64)
    places = (places - places.mean(0)) / places.std(0)
    mean = tokens.mean(0)
    tokens = tokens - mean
    gram = tokens.T @ tokens
    # Tokens of few scenes do not fill all W directions; a little of each keeps the probe finite.
    gram += 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return Slopes(
        mean, torch.linalg.lstsq(places, tokens).solution, torch.linalg.solve(gram, tokens.T @ places)
    )


@torch.no_grad()
def equalised(model: Qwen3VLForConditionalGeneration, scenes: Sequence[Scene]) -> float:
    """Make the columns of shapes as strong in their image tokens as the rows are, in the vision tower's last
    matrix. Returns the factor, which is near 1 where it was done before."""
    found = slopes_of(model, scenes)
    column, row = found.strength
    gain = row / column
    more = (gain - 1) * torch.outer(found.slopes[0], found.probes[:, 0])
    last = model.model.visual.merger.linear_fc2
    last.bias += (more @ (last.bias.double() - found.mean)).to(last.bias.dtype)
    last.weight += (more @ last.weight.double()).to(last.weight.dtype)
    return gain


class Nouns(NamedTuple):
    """Tokens that name a shape of the latest picture before them: their rows and columns (N,), where the
    shape is (N, 2), and for those that follow another in their text (`second`, M of N) the way from their
    shape to the first, `offset` (M, 2), and the mark of the relation between the two (`mark` (M,)), 0 where
    none or two are named."""

    rows: Tensor
    columns: Tensor
    places: Tensor
    second: Tensor
    offset: Tensor
    mark: Tensor


class Echo:
    """Hidden states (B, T, W) after the layer whose head looks at the shapes that are named, and after the
    next two."""

    def __init__(self, norm: torch.nn.Module) -> None:
        self.norm = norm
        self.fetched, self.compared, self.judged = (torch.empty(0) for _ in range(3))

    def loss(self, table: Tensor, nouns: Nouns, tokenizer: PreTrainedTokenizerFast) -> Tensor:
        """Cross-entropy of the places as the nouns state them, graded as those of image tokens are; of the
        way from a task's second shape to its first, as the second noun states it a layer later; and of the
        task's mark, as it states that another layer later.

        Args:
            table: word vectors (vocabulary, W).
            nouns: see `placed_nouns`.
            tokenizer: of the table.
        """
        if not len(nouns.second):
            return table.new_zeros(())
        fetched = self.fetched[nouns.rows, nouns.columns].float()
        compared = self.compared[nouns.rows, nouns.columns][nouns.second].float()
        losses = []
        for low, high, axis in COMPASS:
            ends = [tokenizer.convert_tokens_to_ids(word) for word in (low, high)]
            further = (table[ends[1]] - table[ends[0]]).float()
            stated = [(fetched @ further, 8 * (nouns.places[:, axis] - 0.5))]
            if low != "top":
                stated.append((compared @ further, 12 * nouns.offset[:, axis]))
            losses += [F.binary_cross_entropy_with_logits(said, torch.sigmoid(true)) for said, true in stated]
        asked = nouns.mark > 0
        # Through the last norm, as words are read: a state's own length would make every error a great one.
        said = self.norm(self.judged[nouns.rows, nouns.columns][nouns.second][asked].float())
        digits = [tokenizer.convert_tokens_to_ids(str(mark)) for mark in range(1, BEST + 1)]
        marked = F.cross_entropy(said @ table[digits].T.float(), nouns.mark[asked] - 1, reduction="sum")
        return torch.stack(losses).mean() + marked / max(1, int(asked.sum()))


@contextmanager
def echoing(model: Qwen3VLForConditionalGeneration) -> Iterator[Echo]:
    """Record those states, for the forward pass inside."""
    echo = Echo(model.model.language_model.norm)

    def record(name: str, _: torch.nn.Module, __: tuple[object, ...], output: Tensor) -> None:
        setattr(echo, name, output)

    layers = model.model.language_model.layers
    handles = [
        layers[LAYER + later].register_forward_hook(partial(record, name))
        for later, name in enumerate(("fetched", "compared", "judged"))
    ]
    try:
        yield echo
    finally:
        for handle in handles:
            handle.remove()


def placed_nouns(
    ids: Tensor,
    seen: Tensor,
    owner: Tensor,
    scenes: Sequence[Sequence[Scene]],
    tokenizer: PreTrainedTokenizerFast,
) -> Nouns:
    """Nouns of kinds that the latest picture before them shows once.

    Args:
        ids: tokens of rows (B, T).
        seen: (B, T) where pictures stand.
        owner: (B, T) branch of each token.
        scenes: what the pictures of each row show; none of a row in which nouns mean no one picture.
        tokenizer: of the ids.
    """
    colours, shapes = kind_tables(tokenizer)
    colour, shape = colours[ids[:, :-1]], shapes[ids[:, 1:]]
    begins = seen.clone()
    begins[:, 1:] &= ~seen[:, :-1]
    latest = begins.long().cumsum(1) - 1
    words = {tokenizer.convert_tokens_to_ids(f" {one.split()[0]}"): one for one in RELATIONS}
    rows: list[int] = []
    columns: list[int] = []
    places, second, offset, marks = [], [], [], []
    first: tuple[tuple[int, int, int], Place] | None = None
    for row, column in ((colour >= 0) & (shape >= 0)).nonzero().tolist():
        picture = int(latest[row, column])
        if not 0 <= picture < len(scenes[row]):
            continue
        kind = (list(COLOURS)[int(colour[row, column])], SHAPES[int(shape[row, column])])
        found = [(thing.x, thing.y) for thing in scenes[row][picture].things if thing.kind == kind]
        if len(found) != 1:
            first = None
            continue
        text = (row, picture, int(owner[row, column]))
        if first is not None and first[0] == text:
            second.append(len(rows))
            offset.append((first[1][0] - found[0][0], first[1][1] - found[0][1]))
            between = [words[one] for one in ids[row, columns[-1] : column].tolist() if one in words]
            marks.append(mark_of(between[0], offset[-1]) if len(between) == 1 else 0)
            first = None
        else:
            first = (text, found[0])
        rows.append(row)
        columns.append(column + 1)
        places.append(found[0])
    return Nouns(
        torch.tensor(rows, dtype=torch.long),
        torch.tensor(columns, dtype=torch.long),
        torch.tensor(places, dtype=torch.float32).view(-1, 2),
        torch.tensor(second, dtype=torch.long),
        torch.tensor(offset, dtype=torch.float32).view(-1, 2),
        torch.tensor(marks, dtype=torch.long),
    )


class Recalled(NamedTuple):
    """Tokens before the marks that answers say, by their `rows` and `columns` (N,), and the column of the
    noun that states each of these marks, `noun` (N,)."""

    rows: Tensor
    columns: Tensor
    noun: Tensor

    def loss(self, model: Qwen3VLForConditionalGeneration, gaze: Gaze, mask: Tensor) -> Tensor:
        """Negative log attention of the head of RECALL to those nouns.

        Args:
            model: whose last forward pass was watched.
            gaze: what the layer of RECALL attended with.
            mask: what a token may look at (B, 1, T, T).
        """
        if not len(self.rows):
            return torch.zeros(())
        layer, head = RECALL
        attention = model.model.language_model.layers[layer].self_attn
        logs = gaze.weights(attention, mask, (self.rows, self.columns), head)
        return -logs.gather(1, self.noun[:, None]).mean()


def recalled(
    ids: Tensor, says: Tensor, owner: Tensor, nouns: Nouns, tokenizer: PreTrainedTokenizerFast
) -> Recalled:
    """Marks that answers say, with their nouns: k marks of an answer are those of the last k tasks before it,
    in their order. Answers about shapes that are not to be seen, or about pictures without a task of their
    own, have none.

    Args:
        ids: tokens of rows (B, T).
        says: (B, T) where the next token is of an answer.
        owner: (B, T) branch of each token.
        nouns: of these rows.
        tokenizer: of the ids.
    """
    digits = torch.tensor([tokenizer.convert_tokens_to_ids(str(mark)) for mark in range(1, BEST + 1)])
    says = says & torch.isin(torch.roll(ids, -1, dims=1), digits)
    answers: dict[tuple[int, int], list[int]] = {}
    for row, column in says.nonzero().tolist():
        answers.setdefault((row, int(owner[row, column])), []).append(column)
    stated: dict[int, list[int]] = {}
    for row, column in zip(
        nouns.rows[nouns.second].tolist(), nouns.columns[nouns.second].tolist(), strict=True
    ):
        stated.setdefault(row, []).append(column)
    rows, columns, noun = [], [], []
    for (row, branch), said in answers.items():
        known = [one for one in stated.get(row, ()) if int(owner[row, one]) in (0, branch) and one < said[0]]
        if len(known) >= len(said):
            rows += [row] * len(said)
            columns += said
            noun += known[-len(said) :]
    return Recalled(*(torch.tensor(one, dtype=torch.long) for one in (rows, columns, noun)))


def mark_of(relation: str, offset: Place) -> int:
    """5 less the pushes that are missing along the relation's axis, from 1 to 5, by the way from the second
    shape to the first."""
    further = round((offset[0] if relation in ("left of", "right of") else offset[1]) / push.APART)
    missing = 1 + (further if relation in ("left of", "above") else -further)
    return BEST - min(BEST - 1, max(0, missing))
