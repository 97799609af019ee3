"""Fitting the maps that the rewards `d2_align` and `pisces` read, from pictures with prompts: `mmreward fit`.

Embeds a data set with a dual encoder, holds out a tenth of the prompts, fits one of the maps of `fit_maps` on
the rest, writes the file, and reports cosines of the held-out prompts before and after.
"""

import math
from asyncio import gather
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.nn import functional as F

from .. import models
from ..data.rows import Row, read_rows
from ..engine.engine import Engine
from ..errors import Unscorable
from ..models.encoder_handle import Encoder, Vector
from ..models.maps import Map, Shift, check_new, write_map
from ..types import lacking, oversized
from .fit_maps import Draw, learn_bias, learn_transport

if TYPE_CHECKING:
    from ..models.viclip import ClipEncoder

Either: TypeAlias = "Encoder | ClipEncoder"
Kind = Literal["d2-align", "pisces"]
STEPS: dict[Kind, int] = {"d2-align": 2000, "pisces": 1000}
PUSH = 1.5
"""The weight in D2-Align's paper."""
FEWEST = 32
"""Usable rows below which nothing is fitted; a map wants thousands."""
HELD_OUT = 10
"""One prompt in so many is measured instead of fitted on."""
CHUNK = 4096
"""Rows that are embedded together."""


class Embedded(NamedTuple):
    """Row by row: prompts, and unit embeddings (N, D) of them and of their pictures."""

    prompts: list[str]
    texts: torch.Tensor
    images: torch.Tensor


class Cosines(NamedTuple):
    """Means over prompts that were not fitted on: as they are, and moved."""

    before: float
    after: float


@dataclass(frozen=True, slots=True)
class FitSummary:
    """Summary of a fit: rows fitted on, rows held out, and the reason of each unusable row."""

    kind: Kind
    weights: str
    fitted: int
    held_out: int
    unusable: tuple[str, ...]
    own: Cosines
    """With the pictures of the same rows."""
    others: Cosines
    """With the pictures that were fitted on, all of other prompts."""
    out: Path

    def __str__(self) -> str:
        reason = f", such as: {self.unusable[0]}" if self.unusable else ""
        return (
            f"{self.kind} on {self.weights}\n"
            f"{self.fitted} rows fitted on, {self.held_out} held out, {len(self.unusable)} unusable{reason}\n"
            f"cosine of held-out prompts with    plain   moved\n"
            f"  their own pictures             {self.own.before:7.4f} {self.own.after:7.4f}\n"
            f"  pictures of other prompts      {self.others.before:7.4f} {self.others.after:7.4f}\n"
            f"-> {self.out}"
        )


def fit_file(
    kind: Kind,
    data: Path,
    weights: str,
    out: Path,
    engine: Engine,
    *,
    steps: int | None = None,
    seed: int = 0,
    push: float | None = None,
) -> FitSummary:
    """Fit a map on a dual encoder's embeddings and write it to the new file `out`.

    Args:
        kind: "d2-align" learns what moving all prompts alike earns; "pisces" carries prompts to where
            pictures lie.
        data: as `mmreward score` reads it; rows need a prompt and a picture, or a clip for a ViCLIP. For
            d2-align, pictures that the untuned generator drew for their prompts; for pisces, real pictures
            and any prompts.
        weights: the dual encoder, as for `clipscore`, float32, pictures resized as "tensor" does; or the
            file of a ViCLIP.
        out: ends in .safetensors.
        engine: runs the encoder.
        steps: of the fit; see `STEPS` unless given.
        seed: of the fit, and of which prompts are held out.
        push: D2-Align's weight, above 0.5; see `PUSH` unless given. The reward takes it from the file.

    Raises:
        ValueError: data that cannot be read, too few usable rows or prompts, a setting out of range or of the
            other kind, or an `out` that is there already.
    """
    check_new(out)
    steps, push = _settled(kind, steps, push)
    encoder = models.clip_encoder(weights) if models.reads_clips(weights) else models.clip(weights)
    embedded, problems = _embed(read_rows(data), encoder, engine)
    measured = _held_out(embedded.prompts, seed)
    texts, images = embedded.texts[~measured], embedded.images[~measured]
    moved = _fit(kind, texts, images, steps, seed, push)
    write_map(out, moved, encoder, len(texts))
    own, others = _cosines(moved, embedded.texts[measured], embedded.images[measured], images)
    return FitSummary(kind, weights, len(texts), int(measured.sum()), tuple(problems), own, others, out)


def _settled(kind: Kind, steps: int | None, push: float | None) -> tuple[int, float]:
    if kind not in STEPS:
        raise ValueError(f"kind is {' or '.join(STEPS)}, not {kind!r}")
    if kind == "pisces" and push is not None:
        raise ValueError(f"push {push} belongs to d2-align; leave it out for pisces")
    steps = STEPS[kind] if steps is None else steps
    push = PUSH if push is None else push
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not 0.5 < push < math.inf:
        raise ValueError(f"push must be above 0.5, where a prompt stays in its place, not {push}")
    return steps, push


# --- data ---------------------------------------------------------------------------------------------------


def _embed(rows: Iterable[Row], encoder: Either, engine: Engine) -> tuple[Embedded, list[str]]:
    """Embeddings of the usable rows, and the reason of each unusable one."""
    results = [one for chunk in _chunks(rows) for one in engine.run(_embed_all(chunk, encoder))]
    problems = [result for result in results if isinstance(result, str)]
    found = [result for result in results if not isinstance(result, str)]
    if len(found) < FEWEST:
        reason = f"; one that is not: {problems[0]}" if problems else ""
        raise ValueError(f"{len(found)} rows are usable, and a fit takes {FEWEST} at least{reason}")
    prompts, texts, images = zip(*found, strict=True)
    return Embedded(list(prompts), _stacked(texts), _stacked(images)), problems


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


async def _embed_all(rows: Sequence[Row], encoder: Either) -> list[tuple[str, Vector, Vector] | str]:
    return await gather(*(_embed_one(row, encoder) for row in rows))


async def _embed_one(row: Row, encoder: Either) -> tuple[str, Vector, Vector] | str:
    """Prompt, its embedding and the picture's; or the reason why the row is unusable."""
    if row.sample is None:
        return row.problem
    kind = "image" if isinstance(encoder, Encoder) else "video"
    if reason := lacking(row.sample, ("prompt", kind)) or oversized(row.sample):
        return reason
    seen = row.sample.image if isinstance(encoder, Encoder) else row.sample.video
    assert seen is not None
    try:
        image, text = await gather(encoder.image(seen), encoder.text(row.sample.prompt))
    except Unscorable as error:
        return str(error)
    return row.sample.prompt, text.vector, image


def _stacked(vectors: Sequence[Vector]) -> torch.Tensor:
    return torch.from_numpy(np.stack(vectors))


def _held_out(prompts: Sequence[str], seed: int) -> torch.Tensor:
    """Held-out rows, (N,) bool: all rows of a prompt or none, as its pictures are alike.

    Raises:
        ValueError: too few different prompts.
    """
    different = list(dict.fromkeys(prompts))
    if len(different) < HELD_OUT:
        raise ValueError(f"the rows have {len(different)} different prompts; a fit takes {HELD_OUT} at least")
    order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {different[index] for index in order[: len(different) // HELD_OUT]}
    return torch.tensor([prompt in chosen for prompt in prompts])


# --- the fit ------------------------------------------------------------------------------------------------


def _fit(kind: Kind, texts: torch.Tensor, images: torch.Tensor, steps: int, seed: int, push: float) -> Map:
    if kind == "d2-align":
        return Shift(learn_bias(images, texts, weight=push, steps=steps, seed=seed), push)
    return learn_transport(_draws(texts, seed), _draws(images, seed + 1), steps=steps, seed=seed)


def _draws(pool: torch.Tensor, seed: int) -> Draw:
    source = torch.Generator().manual_seed(seed)
    return lambda count: pool[torch.randint(len(pool), (count,), generator=source)]


@torch.no_grad()
def _cosines(
    moved: Map, texts: torch.Tensor, own: torch.Tensor, others: torch.Tensor
) -> tuple[Cosines, Cosines]:
    """Mean cosines of prompts with their own pictures (N, D), and with all of another set of pictures."""
    mapped = F.normalize(moved(texts), dim=-1)
    middle = others.mean(0)  # the mean over all pairs is the product of the means
    return (
        Cosines(*(float((some * own).sum(-1).mean()) for some in (texts, mapped))),
        Cosines(*(float((some @ middle).mean()) for some in (texts, mapped))),
    )
