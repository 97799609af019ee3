"""mini-clip: an open_clip model of the similarity between pictures and captions of shapes world.

Trained with InfoNCE against the batch and against hard negatives (one colour, shape or count changed, or the
relation turned round). While training, three throw-away heads help the towers see: which shape covers a
patch, how many of each kind there are, and where they lie. It knows captions of this world only, and nothing
of artifacts.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from ..assets import ASSETS
from . import world
from .corrupt import soften
from .loop import Plan, fit, tokenizer

SIZE, PATCH, LENGTH, EMBED = 32, 4, 20, 128
MEAN, STD = (0.15, 0.15, 0.15), (0.22, 0.22, 0.22)
KINDS = tuple((colour, shape) for colour in world.COLOURS for shape in world.SHAPES)
BATCH, STEPS_TRAINED, LR = 64, 1200, 1.5e-3
PAIRS = 0.4
"""Share of training scenes that are two single shapes of different kinds, so that their caption can relate
them."""
NEGATIVES = 3
"""Hard negatives per picture in training."""
FOLDER = ASSETS / "mini-clip"


def config() -> dict[str, Any]:
    """The model configuration in open_clip's own terms."""
    vision = {"image_size": SIZE, "patch_size": PATCH, "width": 96, "layers": 4, "head_width": 32}
    text = {
        "context_length": LENGTH,
        "vocab_size": len(tokenizer(LENGTH)),
        "width": 96,
        "heads": 3,
        "layers": 3,
    }
    return {
        "embed_dim": EMBED,
        "vision_cfg": {**vision, "pool_type": "avg"},
        "text_cfg": {**text, "pool_type": "eos", "pad_id": 0, "eos_id": 3, "hf_tokenizer_name": "mini-clip"},
    }


# --- captions --------------------------------------------------------------------------------------------


def edits(caption: world.Caption) -> dict[str, list[world.Caption]]:
    """Every caption that differs from this one in one colour, one shape or one count, by what differs."""
    kinds = dict(caption.kinds)
    found: dict[str, list[world.Caption]] = {"colour": [], "shape": [], "count": []}
    for index, ((colour, shape), number) in enumerate(caption.kinds):
        for other in world.COLOURS:
            if (other, shape) not in kinds:
                found["colour"].append(_put(caption, index, (other, shape), number))
        for other in world.SHAPES:
            if (colour, other) not in kinds:
                found["shape"].append(_put(caption, index, (colour, other), number))
        if caption.total < 4:
            found["count"].append(_put(caption, index, (colour, shape), number + 1))
        if caption.total > 1:
            found["count"].append(_put(caption, index, (colour, shape), number - 1))
    return found


def _put(caption: world.Caption, index: int, kind: tuple[str, str], number: int) -> world.Caption:
    changed = [*caption.kinds[:index], (kind, number), *caption.kinds[index + 1 :]]
    kept = tuple(entry for entry in changed if entry[1])
    # Only two single shapes are ever related, so that grammar alone never gives a wrong caption away.
    related = len(kept) == 2 and all(count == 1 for _, count in kept)
    return world.Caption(kept, caption.relation if related else "")


def negatives(caption: world.Caption, rng: np.random.Generator, count: int) -> list[world.Caption]:
    """`count` different hard negatives, at most 7; colour, shape and count are changed equally often."""
    pools = [[entries[i] for i in rng.permutation(len(entries))] for entries in edits(caption).values()]
    chosen: list[world.Caption] = []
    while len(chosen) < count:
        pool = pools[int(rng.integers(len(pools)))]
        if pool:
            chosen.append(pool.pop())
        elif not any(pools):
            raise ValueError(f"{str(caption)!r} has only {len(chosen)} hard negatives; ask for at most 7")
    return chosen


def turned(caption: world.Caption) -> world.Caption:
    """The same caption with its relation turned round."""
    return world.Caption(caption.kinds, world.OPPOSITE[caption.relation])


# --- training --------------------------------------------------------------------------------------------


class ClipPool(NamedTuple):
    """Pictures rendered ahead of training, with captions and dense labels."""

    pictures: torch.Tensor
    """uint8 (N, 3, 32, 32)."""
    captions: list[world.Caption]
    cells: torch.Tensor
    """Class of each patch, (N, 64): 0 for background, else 1 + index into KINDS."""
    counts: torch.Tensor
    """Number of each kind, (N, 18)."""
    places: torch.Tensor
    """Mean (x, y) of each kind, from the middle in quarters of the side, (N, 18, 2); NaN for none."""


class ClipStudent(torch.nn.Module):
    """The model under training, with the three heads that only training uses."""

    def __init__(self, clip: torch.nn.Module, width: int) -> None:
        super().__init__()
        self.clip = clip
        self.cells = torch.nn.Linear(width, 1 + len(KINDS))
        self.counts = torch.nn.Linear(EMBED, len(KINDS))
        self.places = torch.nn.Linear(EMBED, 2 * len(KINDS))


def render_pool(count: int, seed: int) -> ClipPool:
    """Half of the pictures drawn at 32 pixels, half at 64 and scaled down; half of them softened."""
    rng = np.random.default_rng((seed, 3))
    pictures = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
    captions, cells = [], np.zeros((count, (SIZE // PATCH) ** 2), dtype=np.int64)
    counts = np.zeros((count, len(KINDS)), dtype=np.float32)
    places = np.full((count, len(KINDS), 2), np.nan, dtype=np.float32)
    for index in range(count):
        pair = [KINDS[i] for i in rng.permutation(len(KINDS))[:2]] if rng.random() < PAIRS else None
        scene = world.sample_scene(rng, pair, clutter=int(rng.integers(1, 4)) if rng.random() < 0.1 else 0)
        pictures[index] = np.asarray(_picture(scene, rng))
        captions.append(world.describe(scene, rng, relations=0.8))
        cells[index] = _cells(scene)
        for kind, number in scene.kinds.items():
            counts[index, KINDS.index(kind)] = number
            middles = [(thing.x, thing.y) for thing in scene.things if thing.kind == kind]
            places[index, KINDS.index(kind)] = (np.mean(middles, axis=0) - 0.5) * 4
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    return ClipPool(
        pixels, captions, torch.from_numpy(cells), torch.from_numpy(counts), torch.from_numpy(places)
    )


def _picture(scene: world.Scene, rng: np.random.Generator) -> Image.Image:
    picture = world.render(scene, SIZE if rng.random() < 0.5 else 2 * SIZE)
    if rng.random() < 0.5:
        picture = soften(picture, rng)
    return picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def _cells(scene: world.Scene) -> np.ndarray:
    side = SIZE // PATCH
    ys, xs = (np.indices((side, side)) + 0.5) / side
    cells = np.zeros((side, side), dtype=np.int64)
    for thing in scene.things:
        x1, y1, x2, y2 = thing.box
        cells[(xs > x1) & (xs < x2) & (ys > y1) & (ys < y2)] = 1 + KINDS.index(thing.kind)
    return cells.reshape(-1)


def train(out: Path, scale: float, seed: int) -> None:
    """Train from scratch (or from the checkpoint of a run cut short) and save under `out`/mini-clip."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config())
    model.visual.output_tokens = True
    student = ClipStudent(model, config()["vision_cfg"]["width"])
    pool = render_pool(max(256, int(60_000 * min(1.0, scale))), seed)
    words = tokenizer(LENGTH)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Mapping[str, float]]:
        picked = rng.integers(len(pool.captions), size=BATCH)
        right = [pool.captions[i] for i in picked]
        wrong = [entry for caption in right for entry in _wrong(caption, rng)]
        texts = words([str(c) for c in right + wrong], padding="max_length", max_length=LENGTH)["input_ids"]
        images, tokens = model.visual((pool.pictures[picked].float() / 255 - mean) / std)
        captions = model.encode_text(torch.tensor(texts))
        seen = F.cross_entropy(student.cells(tokens).flatten(0, 1), pool.cells[picked].flatten())
        counted = sum(F.mse_loss(student.counts(v), pool.counts[picked]) for v in (images, captions[:BATCH]))
        asked = torch.from_numpy(np.stack([_places(caption) for caption in right]))
        placed = _place_loss(student, images, pool.places[picked]) + _place_loss(
            student, captions[:BATCH], asked
        )
        also = torch.from_numpy(also_true(right, right + wrong))
        matched, correct = contrast(images, captions, model.logit_scale.clamp(max=4.6).exp(), also)
        return matched + seen + 5 * counted + placed, {
            "match": matched.item(),
            "correct": correct,
            "seen": seen.item(),
        }

    plan = Plan(steps=int(STEPS_TRAINED * scale), lr=LR, ema=0.998, seed=seed)
    fit(student, loss, plan, out / ".checkpoints" / "mini-clip.pt")
    save(model, out / "mini-clip")


def _places(caption: world.Caption) -> np.ndarray:
    """Targets of the place head from a caption's relation, (18, 2): -1 and 1 along its axis, else NaN."""
    places = np.full((len(KINDS), 2), np.nan, dtype=np.float32)
    if caption.relation:
        axis = int(caption.relation in ("above", "below"))
        sign = -1 if caption.relation in ("left of", "above") else 1
        for (kind, _), side in zip(caption.kinds, (sign, -sign), strict=True):
            places[KINDS.index(kind), axis] = side
    return places


def _place_loss(student: ClipStudent, embedded: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    guess = student.places(embedded).unflatten(1, (len(KINDS), 2))
    known = ~places.isnan()
    return F.mse_loss(guess[known], places[known]) if known.any() else guess.sum() * 0


def _wrong(caption: world.Caption, rng: np.random.Generator) -> Iterator[world.Caption]:
    chosen = negatives(caption, rng, NEGATIVES)
    if caption.relation:
        chosen[0] = turned(caption)
    yield from chosen


def also_true(right: Sequence[world.Caption], others: Sequence[world.Caption]) -> np.ndarray:
    """Mask (N, M), True where caption j may be true of picture i although it is not picture i's own.

    The same shapes in any order are, unless both captions relate them and one says the opposite of the other.
    """
    mine, theirs = [_meaning(c) for c in right], [_meaning(c) for c in others]
    found = np.array(
        [[a[0] == b[0] and (not b[1] or world.OPPOSITE.get(a[1]) != b[1]) for b in theirs] for a in mine]
    )
    found[np.arange(len(right)), np.arange(len(right))] = False
    return found


def _meaning(caption: world.Caption) -> tuple[tuple[tuple[tuple[str, str], int], ...], str]:
    ordered = tuple(sorted(caption.kinds))
    swapped = caption.relation and ordered != caption.kinds
    return ordered, world.OPPOSITE[caption.relation] if swapped else caption.relation


def contrast(
    images: torch.Tensor, captions: torch.Tensor, scale: torch.Tensor, also: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """InfoNCE loss of N images against N right captions and then their hard negatives, and the share right.

    Captions that are `also` true of a picture, (N, M), are neither right nor wrong.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(captions, dim=-1).T
    logits = logits.masked_fill(also, -torch.inf)
    target = torch.arange(len(images))
    forth = F.cross_entropy(logits, target)
    back = F.cross_entropy(logits[:, : len(images)].T, target)
    return forth + 0.5 * back, float((logits.argmax(1) == target).float().mean())


def save(model: torch.nn.Module, folder: Path) -> None:
    """Write the folder `open_clip` reads as "local-dir:<folder>"."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
    described = {"model_cfg": config(), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described, indent=2) + "\n")
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    tokenizer(LENGTH).save_pretrained(folder)


# --- measuring -------------------------------------------------------------------------------------------


class Reader(NamedTuple):
    """A loaded mini-clip."""

    model: Any
    preprocess: Any
    tokenizer: Any

    @torch.inference_mode()
    def similarity(self, picture: Image.Image, captions: Sequence[str]) -> np.ndarray:
        """Cosine of the picture with each caption."""
        image = self.model.encode_image(self.preprocess(picture)[None], normalize=True)
        text = self.model.encode_text(self.tokenizer(list(captions)), normalize=True)
        return np.asarray((image @ text.T)[0].float())


def load(folder: Path = FOLDER) -> Reader:
    """Read a saved mini-clip through open_clip."""
    if not (folder / "open_clip_config.json").is_file():
        raise ValueError(
            f"no mini-clip in {str(folder)!r}; train one with: python -m mmreward.mini.train clip"
        )
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return Reader(model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}"))


def measure(folder: Path = FOLDER, count: int = 512, seed: int = 10_007) -> dict[str, float]:
    """Held out: how often the right caption wins against 7 hard negatives, and its relation turned round."""
    reader = load(folder)
    rng = np.random.default_rng((seed, 4))
    picks, relations, misses = [], [], Counter[str]()
    for index in range(count):
        scene = world.sample_scene(rng)
        caption = world.describe(scene, rng, relations=0.5)
        picture = world.render(scene, (32, 64)[index % 2])
        others = negatives(caption, rng, 7)
        scores = reader.similarity(picture, [str(c) for c in (caption, *others)])
        picks.append(scores[0] > scores[1:].max())
        if not picks[-1]:
            kinds = edits(caption)
            winner = others[int(scores[1:].argmax())]
            misses[next(name for name, entries in kinds.items() if winner in entries)] += 1
        if caption.relation:
            pair = reader.similarity(picture, [str(caption), str(turned(caption))])
            relations.append(pair[0] > pair[1])
    missed = {f"missed_{name}": misses[name] / count for name in ("colour", "shape", "count")}
    related = {"relation": float(np.mean(relations)), "relation_n": float(len(relations))}
    return {"top1_of_8": float(np.mean(picks)), **missed, **related, "n": float(count)}
