"""Dense supervision of the mini-vlm: pretraining of its vision tower, and two auxiliary losses of
instruction.

The tower learns what covers each patch and, for the merged cell that holds a shape's centre, the colour,
the shape and the box. They are classified by dot product with word vectors that then seed the language
model's embeddings, so pictures and words start out in one space.

The compass loss has image tokens state their place in the words' own vectors. The gaze loss supervises one
attention head: where a text names a kind of shape, it shall look at the shapes of that kind. Left to itself
the language model finds out very late that "red circle" in a question points to one image token: it answers
as well as it can from the set of all shapes.

The pictures of all training are sampled here. Knows the tokens of packed rows, and nothing of language tasks.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tvF
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextAttention, apply_rotary_pos_emb

from .corrupt import corrupt, soften
from .vlm_build import CELLS, MEAN, MERGE, PATCH, SIDE, STD
from .world import COLOURS, SHAPES, Scene, Thing, render, sample_scene

BINS = 64
"""Boxes are given in 64ths of the side."""
GRID = SIDE // PATCH
CELL = SIDE // (PATCH * MERGE)


@dataclass(frozen=True, slots=True)
class ScenePicture:
    """Training picture of a scene: uint8 HWC pixels (32 or 64 a side) and how spoilt they are (0: not at
    all)."""

    scene: Scene
    pixels: np.ndarray
    level: float


def draw_scene(rng: np.random.Generator) -> Scene:
    """A scene for training: as in the world at large, but repeated colours, shapes and kinds are common."""
    if rng.random() < 0.02:
        return Scene(())
    count = int(rng.integers(1, 5))
    colours, shapes = list(COLOURS), list(SHAPES)
    if rng.random() < 0.5:
        colours = list(rng.permutation(colours)[: int(rng.integers(1, 3))])
    if rng.random() < 0.4:
        shapes = list(rng.permutation(shapes)[: int(rng.integers(1, 3))])
    kinds = [(str(rng.choice(colours)), str(rng.choice(shapes))) for _ in range(count)]
    return sample_scene(rng, kinds, clutter=int(rng.integers(1, 5)) if rng.random() < 0.1 else 0)


def draw_picture(scene: Scene, rng: np.random.Generator, spoilt: float = 0.25) -> ScenePicture:
    """Picture of a scene at 32 or 64 pixels: clean, softened, or (at rate `spoilt`) with visible
    artifacts."""
    picture = render(scene, 32 if rng.random() < 0.5 else 64)
    level = 0.0
    if rng.random() < spoilt:
        level = float(rng.uniform(0.35, 1.0))
        picture = corrupt(picture, rng, level)
    elif rng.random() < 0.6:
        picture = soften(picture, rng)
        if rng.random() < 0.3:
            picture = soften(picture, rng)
    return ScenePicture(scene, np.asarray(picture), level)


def patchify(pictures: list[np.ndarray]) -> Tensor:
    """Patches (N * 64, 384) of square 32 or 64 pixel pictures, as the processor makes them."""
    whole = torch.empty(len(pictures), 3, SIDE, SIDE, dtype=torch.uint8)
    for side in {picture.shape[0] for picture in pictures}:
        index = [i for i, picture in enumerate(pictures) if picture.shape[0] == side]
        part = torch.from_numpy(np.stack([pictures[i] for i in index])).permute(0, 3, 1, 2)
        if side != SIDE:
            part = tvF.resize(part, [SIDE, SIDE], tvF.InterpolationMode.BICUBIC, antialias=True)
        whole[index] = part
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))
    scaled = (whole.float() - mean) / std
    split = scaled.reshape(len(pictures), 3, CELL, MERGE, PATCH, CELL, MERGE, PATCH).permute(
        0, 2, 5, 3, 6, 1, 4, 7
    )
    return (
        split.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(len(pictures) * GRID * GRID, -1)
    )


# --- targets -----------------------------------------------------------------------------------------------


def targets(scene: Scene) -> dict[str, np.ndarray]:
    """Dense labels of a scene, in the tower's own token order; class 0 or -1 stands for nothing there."""
    patch = np.zeros((2, GRID, GRID), dtype=np.int64)
    cell = np.full((6, CELL, CELL), -1, dtype=np.int64)
    for thing in scene.things:
        colour, shape = list(COLOURS).index(thing.colour), SHAPES.index(thing.shape)
        covered = _cover(thing) > 0.25
        patch[0][covered], patch[1][covered] = colour + 1, shape + 1
        box = [min(max(round(v * BINS), 0), BINS) for v in thing.box]
        cell[:, int(thing.y * CELL), int(thing.x * CELL)] = (colour, shape, *box)
    ordered = patch.reshape(2, CELL, MERGE, CELL, MERGE).transpose(0, 1, 3, 2, 4).reshape(2, -1)
    return {"patch": ordered, "cell": cell.reshape(6, -1)}


def _cover(thing: Thing) -> np.ndarray:
    """The fraction of every patch that the shape covers."""
    fine = 4
    at = (np.arange(GRID * fine) + 0.5) / (GRID * fine)
    dx, dy = at[None, :] - thing.x, at[:, None] - thing.y
    if thing.shape == "circle":
        inside = dx**2 + dy**2 <= thing.r**2
    elif thing.shape == "square":
        inside = np.maximum(abs(dx), abs(dy)) <= thing.r
    else:
        inside = (abs(dy) <= thing.r) & (abs(dx) <= (dy + thing.r) / 2)
    fraction: np.ndarray = inside.reshape(GRID, fine, GRID, fine).mean((1, 3))
    return fraction


# --- pretraining -------------------------------------------------------------------------------------------


class DensePretraining(nn.Module):
    """The vision tower with throw-away heads and word vectors that are kept."""

    def __init__(self, model: Qwen3VLForConditionalGeneration) -> None:
        super().__init__()
        width, inner = model.config.text_config.hidden_size, model.config.vision_config.hidden_size
        self.visual = model.model.visual
        self.words = nn.ParameterDict(
            {
                "colour": nn.Parameter(0.1 * torch.randn(len(COLOURS), width)),
                "shape": nn.Parameter(0.1 * torch.randn(len(SHAPES), width)),
                "number": nn.Parameter(_ordinal(BINS + 1, width)),
            }
        )
        self.corners = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(4))
        self.covers = nn.ModuleList((nn.Linear(inner, len(COLOURS) + 1), nn.Linear(inner, len(SHAPES) + 1)))
        self.centre = nn.Linear(width, 1)
        self.spoilt = nn.Linear(width, 1)

    def loss(self, views: list[ScenePicture]) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of a batch, and its accuracies by head."""
        wanted = [targets(view.scene) for view in views]
        patch = torch.from_numpy(np.stack([w["patch"] for w in wanted], 1)).flatten(1)
        cell = torch.from_numpy(np.stack([w["cell"] for w in wanted], 1)).flatten(1)
        grid = torch.tensor([[1, GRID, GRID]] * len(views))
        with torch.autocast("cpu", torch.bfloat16):
            seen = self.visual(patchify([view.pixels for view in views]), grid_thw=grid)
        inner, merged = seen.last_hidden_state.float(), seen.pooler_output.float()
        cover = sum(F.cross_entropy(head(inner), want) for head, want in zip(self.covers, patch, strict=True))
        occupied = cell[0] >= 0
        centre = self.centre(merged)[:, 0]
        centred = F.binary_cross_entropy_with_logits(centre, occupied.float())
        middle = merged[occupied]
        colour, shape = middle @ self.words["colour"].T, middle @ self.words["shape"].T
        kind = F.cross_entropy(colour, cell[0, occupied]) + F.cross_entropy(shape, cell[1, occupied])
        scores = [corner(middle) @ self.words["number"].T for corner in self.corners]
        boxes = sum(
            F.cross_entropy(s, near(want)) for s, want in zip(scores, cell[2:, occupied], strict=True)
        )
        level = self.spoilt(merged.view(len(views), -1, merged.shape[-1]).mean(1))[:, 0]
        ruined = torch.tensor([float(view.level > 0) for view in views])
        spoilt = F.binary_cross_entropy_with_logits(level, ruined)
        right = (colour.argmax(-1) == cell[0, occupied]) & (shape.argmax(-1) == cell[1, occupied])
        off = torch.stack(
            [(s.argmax(-1) - w).abs().float().mean() for s, w in zip(scores, cell[2:, occupied], strict=True)]
        )
        figures = {
            "kind": right.float().mean().item(),
            "centre": ((centre > 0) == occupied).float().mean().item(),
            "off": off.mean().item(),
            "spoilt": ((level > 0) == (ruined > 0)).float().mean().item(),
        }
        return 0.5 * cover + 4 * centred + kind + 0.4 * boxes + 0.5 * spoilt, figures

    @torch.no_grad()
    def seed_embeddings(
        self, model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        """Copy the learnt word vectors into the language model: with and without a space, plurals too."""
        table = model.get_input_embeddings().weight
        names = {"colour": list(COLOURS), "shape": list(SHAPES)}
        for part, words in names.items():
            for word, vector in zip(words, self.words[part], strict=True):
                for form in (word, f" {word}", *((f"{word}s", f" {word}s") if part == "shape" else ())):
                    table[tokenizer.convert_tokens_to_ids(form)] = vector
        for index, vector in enumerate(self.words["number"]):
            table[tokenizer.convert_tokens_to_ids(str(round(index * 1000 / BINS)))] = vector


# --- places in words ---------------------------------------------------------------------------------------

COMPASS = (("left", "right", 0), ("top", "bottom", 1), ("above", "below", 1))
"""Pairs of words for the two ends of an axis (0: x, 1: y)."""


def compass_loss(
    merged: Tensor, scenes: Sequence[Scene], table: Tensor, tokenizer: PreTrainedTokenizerFast
) -> Tensor:
    """Cross-entropy of a shape's place as its image token states it in the vectors of the words for places.

    Graded: the further to the left, the more of "left" and the less of "right". Without it the language model
    finds colours and shapes at once but takes very long to find out that image tokens have a place.
    """
    cell = torch.from_numpy(np.stack([targets(scene)["cell"] for scene in scenes], 1)).flatten(1)
    occupied = cell[0] >= 0
    box = cell[2:, occupied].float() / BINS
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    losses = []
    for low, high, axis in COMPASS:
        ends = [tokenizer.convert_tokens_to_ids(word) for word in (low, high)]
        further = merged[occupied] @ (table[ends[1]] - table[ends[0]])
        losses.append(F.binary_cross_entropy_with_logits(further, torch.sigmoid(8 * (middle[axis] - 0.5))))
    return torch.stack(losses).mean()


def near(want: Tensor, spread: float = 0.7) -> Tensor:
    """Soft targets (N, 65): a narrow bell around the right bin, since a neighbouring bin is nearly right."""
    distance = torch.arange(BINS + 1)[None] - want[:, None]
    return torch.softmax(-(distance**2) / (2 * spread**2), -1)


def _ordinal(count: int, width: int) -> Tensor:
    """Vectors whose similarity falls with distance: sines and cosines, as positions are encoded."""
    rate = torch.exp(torch.linspace(0, -4.5, width // 2)) * 1.5
    angle = torch.arange(count)[:, None] * rate[None]
    return 0.1 * torch.cat((angle.sin(), angle.cos()), -1)


# --- supervised attention ----------------------------------------------------------------------------------

LAYER, HEAD = 1, 0
"""The second layer is the first in which a noun's token knows the colour before it."""


class Gaze:
    """Inputs of a layer's attention during one forward pass."""

    def __init__(self) -> None:
        self.states = torch.empty(0)
        self.rotation = (torch.empty(0), torch.empty(0))

    def weights(
        self, attention: Qwen3VLTextAttention, mask: Tensor, at: tuple[Tensor, Tensor], head: int = HEAD
    ) -> Tensor:
        """Log attention (N, T) of a head from the tokens `at` (row, column)."""
        heads = (*self.states.shape[:-1], -1, attention.head_dim)
        query = attention.q_norm(attention.q_proj(self.states).view(heads)).transpose(1, 2)
        key = attention.k_norm(attention.k_proj(self.states).view(heads)).transpose(1, 2)
        query, key = apply_rotary_pos_emb(query, key, *self.rotation)
        rows, columns = at
        scores = torch.einsum("nd,ntd->nt", query[rows, head, columns].float(), key[rows, head].float())
        allowed = mask[rows, 0, columns]
        logs: Tensor = (scores * attention.scaling).masked_fill(~allowed, -torch.inf).log_softmax(-1)
        return logs


@contextmanager
def watching(model: Qwen3VLForConditionalGeneration, layer: int = LAYER) -> Iterator[Gaze]:
    """Record what a layer attends with, for the forward pass inside."""
    gaze = Gaze()

    def record(_: nn.Module, arguments: tuple[object, ...], named: dict[str, object]) -> None:
        states, rotation = named["hidden_states"], named["position_embeddings"]
        assert isinstance(states, Tensor) and isinstance(rotation, tuple)
        gaze.states, gaze.rotation = states, rotation

    attention = model.model.language_model.layers[layer].self_attn
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
    """Negative log attention of the head to the named shapes, over all mentions in one-picture rows."""
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
    colours, shapes = kind_tables(tokenizer)
    colour, shape = colours[ids[:, :-1]], shapes[ids[:, 1:]]
    found = ((colour >= 0) & (shape >= 0)).nonzero().tolist()
    rows, columns, cells = [], [], []
    for row, column in found:
        if len(scenes[row]) != 1:
            continue
        kind = (list(COLOURS)[int(colour[row, column])], SHAPES[int(shape[row, column])])
        occupied = [int(t.y * CELL) * CELL + int(t.x * CELL) for t in scenes[row][0].things if t.kind == kind]
        if occupied:
            rows.append(row)
            columns.append(column + 1)
            cells.append([index in occupied for index in range(CELLS)])
    return torch.tensor(rows), torch.tensor(columns), torch.tensor(cells)


@cache
def kind_tables(tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """Vocabulary-long tables: the index of the colour or shape that a token names, or -1."""
    tables = []
    for names, endings in ((list(COLOURS), ("",)), (SHAPES, ("", "s"))):
        table = torch.full((len(tokenizer),), -1)
        for index, name in enumerate(names):
            for form in (f"{gap}{name}{ending}" for gap in ("", " ") for ending in endings):
                table[tokenizer.convert_tokens_to_ids(form)] = index
        tables.append(table)
    return tables[0], tables[1]
