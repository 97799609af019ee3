"""Fitting a preference head on compared pairs, which the reward `head` reads: `mmreward fit head`.

Embeds the pictures and prompts of a folder of pairs with a frozen dual encoder, once each. A fifth of the
prompts is held out and measured, a tenth decides when to stop, and the head is fitted on the rest.
"""

import math
from asyncio import gather
from collections.abc import Hashable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from .. import models
from ..data.pair_folder import PreferencePair, read_pairs
from ..engine.engine import Engine
from ..errors import Unscorable
from ..models.base import content_of
from ..models.encoders import Encoder, Vector
from ..models.head_facts import NORMAL, HeadFacts, Loss
from ..models.preferences import PreferenceHead, Values, check_new, write_head
from ..monitor.intervals import Measured, mean_of, paired_change
from .losses import bradley_terry, bradley_terry_ties, design_matrix, uncertain

FEWEST, PROMPTS = 32, 20
"""Usable pairs and different prompts below which nothing is fitted; a head wants thousands."""
HELD_OUT, STOPPING = 5, 10
"""One prompt in so many is measured, and one in so many decides when to stop."""
BATCH, EVERY, PATIENCE = 128, 25, 12
"""Pairs of a step, steps between two looks at the stopping pairs, and looks without a gain before the end."""
RATE, DECAY = 3e-4, 3.0
"""Of AdamW; much decay, as a few thousand pairs do not fill a head."""
CHUNK = 1024
"""Pairs that are embedded together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """Settings of a fit.

    Args:
        loss: "bt" (Bradley-Terry), "btt" (with ties, of which the pairs' column tie says which they are),
            "margin" (the chosen one is to lead by `margin`), "uncertainty" (HPSv3's, as its code has it) or
            "integrated" (the likelihood of the same normal rewards). See `losses.comparisons`.
        margin: of "margin"; a number, or "pairs" for each pair's own column margin; default 0.57, HPSv3's.
        ties: k of "btt", above 1, the larger the likelier ties are; default 5, VideoReward's.
        hidden: width of the head's layers.
        steps: at most.
        seed: of the weights, the batches and the split.

    Raises:
        ValueError: a value out of range, or one that belongs to another loss.
    """

    loss: Loss = "bt"
    margin: float | Literal["pairs"] | None = None
    ties: float | None = None
    hidden: int = 64
    steps: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss is one of {', '.join(get_args(Loss))}, not {self.loss!r}")
        for name, owner in (("margin", "margin"), ("ties", "btt")):
            if getattr(self, name) is not None and self.loss != owner:
                raise ValueError(f"{name} {getattr(self, name)} belongs to the loss {owner}, not {self.loss}")
        if isinstance(self.margin, str):
            if self.margin != "pairs":
                raise ValueError(f"margin is a number or 'pairs', not {self.margin!r}")
        elif self.margin is not None and not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"margin is {self.margin}; it is a number from 0 up, or 'pairs'")
        if self.ties is not None and not 1 < self.ties < math.inf:
            raise ValueError(f"ties is {self.ties}; it is above 1")
        if self.hidden < 1 or self.steps < 1:
            raise ValueError(f"hidden {self.hidden} and steps {self.steps} are at least 1")


class EmbeddedPairs(NamedTuple):
    """Pairs, row by row: unit embeddings (P, D) of chosen, rejected and prompt; the margins (P,), NaN where
    the folder has none; True for a tie (P,); the prompts."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    texts: torch.Tensor
    margins: torch.Tensor
    ties: torch.Tensor
    prompts: list[str]

    def of(self, kept: torch.Tensor) -> "EmbeddedPairs":
        """The rows of a mask (P,) or of indices."""
        rows = torch.arange(len(self.prompts))[kept.cpu()].tolist()
        there = kept.to(self.texts.device)
        return EmbeddedPairs(
            self.chosen[there],
            self.rejected[there],
            self.texts[there],
            self.margins[there],
            self.ties[there],
            [self.prompts[row] for row in rows],
        )


class Accuracy(NamedTuple):
    """Held-out accuracies: share of pairs whose chosen one has the higher value, equal values being wrong.

    `before` is the encoder's cosine, `after` the head, `gain` the paired change; `sure` and `unsure` are the
    head's on the half of the pairs of which it is surer, and on the other.
    """

    before: Measured
    after: Measured
    gain: Measured
    sure: Measured
    unsure: Measured


@dataclass(frozen=True, slots=True)
class HeadSummary:
    """Summary of a fit: pairs fitted on, for stopping and held out, the reason of each unusable one, the step
    whose weights were kept, and the held-out accuracy."""

    backbone: str
    loss: Loss
    fitted: int
    stopping: int
    held_out: int
    prompts: int
    """Held out."""
    ties: int
    """Held-out ties, which no accuracy counts."""
    unusable: tuple[str, ...]
    left_out: int
    """Ties that the loss has no use for."""
    step: int
    accuracy: Accuracy
    out: Path

    def __str__(self) -> str:
        reason = f", such as: {self.unusable[0]}" if self.unusable else ""
        ties = f", {self.left_out} ties left out (--loss btt learns from them)" if self.left_out else ""
        found = self.accuracy
        return (
            f"{self.loss} on {self.backbone}\n"
            f"{self.fitted} pairs fitted on, {self.stopping} for stopping (at step {self.step}), "
            f"{self.held_out} held out, {len(self.unusable)} unusable{reason}{ties}\n"
            f"accuracy on held-out pairs of {self.prompts} prompts, with 95 % intervals over prompts\n"
            f"  cosine of the encoder      {_shown(found.before)}\n"
            f"  head                       {_shown(found.after)}\n"
            f"  gain in points             {found.gain.signed(1)}\n"
            f"  half it is surer of        {_shown(found.sure)}\n"
            f"  other half                 {_shown(found.unsure)}\n"
            f"-> {self.out}"
        )


def _shown(share: Measured) -> str:
    low, high = share.interval or (math.nan, math.nan)
    return f"{share.mean:.3f} ({low:.3f} to {high:.3f})"


def fit_head(
    pairs: Path,
    backbone: str,
    out: Path,
    engine: Engine,
    settings: HeadSettings | None = None,
    *,
    dtype: str = "float32",
    resize: str = "tensor",
) -> HeadSummary:
    """Fit a preference head on a folder of pairs and write it to the new folder `out`.

    Prompts are held out whole, and condition pictures are not looked at. The fit stops where the loss of the
    stopping pairs no longer falls; its start, the encoder's cosine by the best scale, counts. Values have a
    mean of 0 over the pictures of the pairs that were fitted on.

    Args:
        pairs: a folder that `mmreward pairs` wrote.
        backbone: the dual encoder, as for `clipscore`.
        out: a folder that is not there yet; the reward `head` reads it.
        engine: runs the encoder.
        settings: loss, steps and seed.
        dtype, resize: of the encoder, as for `clipscore`; the reward takes them from the folder.

    Raises:
        ValueError: pairs that cannot be read, too few usable ones or prompts, no margins where the loss takes
            the pairs' own, no ties for "btt", or an `out` that is there already.
    """
    settings = settings or HeadSettings()
    check_new(out)
    encoder = models.clip(backbone, dtype=dtype, resize=resize)
    given = read_pairs(pairs)
    kept = [pair for pair in given if settings.loss == "btt" or not pair.tie]
    if settings.loss == "btt" and not any(pair.tie for pair in kept):
        raise ValueError(f"{pairs} has no ties, and btt learns from them: `mmreward pairs --ties` keeps them")
    embedded, problems = embed(kept, encoder, engine)
    if settings.margin == "pairs" and not embedded.margins.isfinite().all():
        raise ValueError(f"{pairs} has pairs without the column margin, a number: give --margin a number")
    learned, stopping, measured = (embedded.of(mask) for mask in _split(embedded.prompts, settings.seed))
    head, step = fitted(learned, stopping, settings, engine.run(encoder.factor()))
    found = examined(head, measured)
    summary = HeadSummary(
        backbone=backbone,
        loss=settings.loss,
        fitted=len(learned.prompts),
        stopping=len(stopping.prompts),
        held_out=len(measured.prompts),
        prompts=len(set(measured.prompts)),
        ties=int(measured.ties.sum()),
        unusable=tuple(problems),
        left_out=len(given) - len(kept),
        step=step,
        accuracy=found,
        out=out,
    )
    write_head(out, head, _facts(encoder, settings, head, summary, dtype))
    return summary


def _facts(
    encoder: Encoder, settings: HeadSettings, head: PreferenceHead, summary: HeadSummary, dtype: str
) -> HeadFacts:
    found = summary.accuracy
    figures = {
        "settings": asdict(settings),
        "pairs": {name: getattr(summary, name) for name in ("fitted", "stopping", "held_out", "prompts")},
        "step": summary.step,
        "held-out accuracy": {name: _shown(getattr(found, name)) for name in ("before", "after")},
    }
    return HeadFacts(
        encoder=encoder.name,
        content=content_of(encoder.network.source),
        dtype=dtype,
        resize=encoder.resize,
        loss=settings.loss,
        width=head.width,
        hidden=head.hidden,
        figures=figures,
    )


# --- data ---------------------------------------------------------------------------------------------------


def embed(
    pairs: Sequence[PreferencePair], encoder: Encoder, engine: Engine
) -> tuple[EmbeddedPairs, list[str]]:
    """Embeddings of the usable pairs, and the reason of each unusable one."""
    results: list[tuple[Vector, Vector, Vector] | str] = []
    for start in range(0, len(pairs), CHUNK):
        results += engine.run(_embed_all(pairs[start : start + CHUNK], encoder))
    both = zip(pairs, results, strict=True)
    found = [(pair, result) for pair, result in both if not isinstance(result, str)]
    problems = [result for result in results if isinstance(result, str)]
    if len(found) < FEWEST:
        reason = f"; one that is not: {problems[0]}" if problems else ""
        raise ValueError(f"{len(found)} pairs are usable, and a fit takes {FEWEST} at least{reason}")
    device = encoder.network.device
    chosen, rejected, texts = (
        torch.from_numpy(np.stack(column)).to(device) for column in zip(*(r for _, r in found), strict=True)
    )
    margins = torch.tensor([_margin(pair) for pair, _ in found], device=device)
    ties = torch.tensor([pair.tie for pair, _ in found], device=device)
    return EmbeddedPairs(chosen, rejected, texts, margins, ties, [pair.prompt for pair, _ in found]), problems


async def _embed_all(
    pairs: Sequence[PreferencePair], encoder: Encoder
) -> list[tuple[Vector, Vector, Vector] | str]:
    return await gather(*(_embed_one(pair, encoder) for pair in pairs))


async def _embed_one(pair: PreferencePair, encoder: Encoder) -> tuple[Vector, Vector, Vector] | str:
    """Embeddings of chosen, rejected and prompt; or the reason why the pair is unusable."""
    if "video" in (pair.chosen.kind, pair.rejected.kind):
        return "the pair is of clips, and a head looks at pictures"
    try:
        chosen, rejected, text = await gather(
            encoder.image(pair.chosen), encoder.image(pair.rejected), encoder.text(pair.prompt)
        )
    except Unscorable as error:
        return str(error)
    return chosen, rejected, text.vector


def _margin(pair: PreferencePair) -> float:
    given = pair.facts.get("margin")
    if not isinstance(given, int | float) or isinstance(given, bool) or given < 0:
        return math.nan
    return float(given)


def _split(prompts: Sequence[str], seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masks (P,) of the pairs to fit on, to stop by and to measure: all pairs of a prompt or none.

    Raises:
        ValueError: too few different prompts.
    """
    different = list(dict.fromkeys(prompts))
    if len(different) < PROMPTS:
        raise ValueError(f"the pairs have {len(different)} different prompts; a fit takes {PROMPTS} at least")
    order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed)).tolist()
    held, stopped = len(different) // HELD_OUT, len(different) // STOPPING
    part = {different[place]: (rank >= held) + (rank >= held + stopped) for rank, place in enumerate(order)}
    parts = torch.tensor([part[prompt] for prompt in prompts])
    return parts == 2, parts == 1, parts == 0


# --- the fit ------------------------------------------------------------------------------------------------


def fitted(
    learned: EmbeddedPairs, stopping: EmbeddedPairs, settings: HeadSettings, scale: float
) -> tuple[PreferenceHead, int]:
    """The head with the lowest loss on the stopping pairs, and the step it was reached at.

    Args:
        learned, stopping: embedded pairs.
        settings: of the fit.
        scale: of the cosine at first.
    """
    device = learned.texts.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = PreferenceHead(
            learned.texts.shape[1], settings.hidden, normal=settings.loss in NORMAL, scale=scale
        ).to(device)
    _calibrate(head, learned, settings)
    adam = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    source = torch.Generator().manual_seed(settings.seed)
    best, least, kept = deepcopy(head.state_dict()), _mean_loss(head, stopping, settings), 0
    for step in range(1, settings.steps + 1):
        rows = torch.randint(len(learned.prompts), (BATCH,), generator=source).to(device)
        loss = losses(head, learned.of(rows), settings).mean()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        if step % EVERY == 0 or step == settings.steps:
            now = _mean_loss(head, stopping, settings)
            if now < least:
                best, least, kept = deepcopy(head.state_dict()), now, step
            elif step - kept >= EVERY * PATIENCE:
                break
    head.load_state_dict(best)
    _centre(head, learned)
    if not head.normal:
        head.precision.copy_(_precision(head, learned))
    return head.requires_grad_(False).eval(), kept


@torch.no_grad()
def _calibrate(head: PreferenceHead, learned: EmbeddedPairs, settings: HeadSettings) -> None:
    """Begin at the scale, among halvings of the encoder's own, that the pairs contradict least: a CLIP's 100
    was made for thousands of other captions, not for two pictures of one."""
    scales = [float(head.scale) / 2**power for power in range(12)]

    def loss(scale: float) -> float:
        head.scale.fill_(scale)
        return _mean_loss(head, learned, settings)

    head.scale.fill_(min(scales, key=loss))


@torch.no_grad()
def _centre(head: PreferenceHead, learned: EmbeddedPairs) -> None:
    """Move the values, of which pairs know the differences alone, to a mean of 0 over the fitted pictures."""
    head.last.bias[0] -= torch.cat([values.mean for values in _values(head, learned)]).double().mean().float()


def losses(head: PreferenceHead, pairs: EmbeddedPairs, settings: HeadSettings) -> torch.Tensor:
    """Loss of each pair, (P,)."""
    chosen, rejected = _values(head, pairs)
    difference = chosen.mean - rejected.mean
    if settings.loss in NORMAL:
        assert chosen.log_sigma is not None and rejected.log_sigma is not None
        form: Literal["published", "integrated"] = (
            "published" if settings.loss == "uncertainty" else "integrated"
        )
        return uncertain(chosen.mean, rejected.mean, chosen.log_sigma, rejected.log_sigma, form)
    if settings.loss == "btt":
        k = 5.0 if settings.ties is None else settings.ties
        win, tie = bradley_terry_ties(difference, k=k), bradley_terry_ties(difference, "tie", k)
        return torch.where(pairs.ties, tie, win)
    if settings.loss == "margin":
        if settings.margin == "pairs":
            return bradley_terry(difference, pairs.margins)
        return bradley_terry(difference, 0.57 if settings.margin is None else settings.margin)
    return bradley_terry(difference)


@torch.no_grad()
def _mean_loss(head: PreferenceHead, pairs: EmbeddedPairs, settings: HeadSettings) -> float:
    return float(losses(head, pairs, settings).double().mean())


def _values(head: PreferenceHead, pairs: EmbeddedPairs) -> tuple[Values, Values]:
    """Of the chosen and of the rejected ones."""
    return head(pairs.chosen, pairs.texts), head(pairs.rejected, pairs.texts)


@torch.no_grad()
def _precision(head: PreferenceHead, pairs: EmbeddedPairs) -> torch.Tensor:
    """Inverse of PrefPaint's design matrix of all pictures that the head was fitted on."""
    features = torch.cat([values.features for values in _values(head, pairs)])
    inverse: torch.Tensor = torch.linalg.inv(design_matrix(features))
    return inverse.float()


@torch.no_grad()
def examined(head: PreferenceHead, pairs: EmbeddedPairs) -> Accuracy:
    """Accuracy of a head, and of the encoder's cosine, on pairs that neither was fitted on; ties are left
    out."""
    clear = pairs.of(~pairs.ties)
    chosen, rejected = _values(head, clear)
    right = (chosen.mean > rejected.mean).double().cpu()
    cosines = [(half * clear.texts).sum(-1) for half in (clear.chosen, clear.rejected)]
    before = (cosines[0] > cosines[1]).double().cpu().tolist()
    doubt = torch.hypot(*(head.uncertainty(values) for values in (chosen, rejected))).cpu()
    order = doubt.argsort(stable=True)
    half = len(order) // 2
    units: list[Hashable] = list(clear.prompts)

    def share(rows: torch.Tensor) -> Measured:
        return mean_of(right[rows].tolist(), [units[row] for row in rows.tolist()])

    return Accuracy(
        before=mean_of(before, units),
        after=mean_of(right.tolist(), units),
        gain=paired_change(before, right.tolist(), 100, units),
        sure=share(order[:half]),
        unsure=share(order[half:]),
    )
