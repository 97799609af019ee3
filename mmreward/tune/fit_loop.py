"""The fit of a preference head on embedded pairs: settings, split, losses, early stopping and examination.

A fifth of the prompts is held out and measured, a tenth decides when to stop, and the head is fitted on the
rest. `fit_head` embeds the pairs, `fit_lora` trains a backbone along. Knows nothing of media or files.
"""

import math
from collections.abc import Hashable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch

from ..models.head_facts import NORMAL, Form, Loss
from ..models.preferences import FORMS, PreferenceHead, Values
from ..monitor.intervals import Measured, mean_of, paired_change
from .losses import bradley_terry, bradley_terry_ties, design_matrix, uncertain

PROMPTS = 20
"""Different prompts below which nothing is fitted."""
HELD_OUT, STOPPING = 5, 10
"""One prompt in so many is measured, and one in so many decides when to stop."""
BATCH, EVERY, PATIENCE = 128, 25, 12
"""Pairs of a step, steps between two looks at the stopping pairs, and looks without a gain before the end."""
RATE, DECAY = 3e-4, 3.0
"""Of AdamW; much decay, as a few thousand pairs do not fill a head."""


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
        steps: at most; with a rank, of head and adapter together.
        seed: of the weights, the batches and the split.
        form: of a head on a Qwen-VL; "basereward" is BaseReward's, see `preferences.BaseRewardHead`.
        rank: of a LoRA adapter of a Qwen-VL that is trained along; 0 leaves the backbone as it is.

    Raises:
        ValueError: a value out of range, or one that belongs to another loss.
    """

    loss: Loss = "bt"
    margin: float | Literal["pairs"] | None = None
    ties: float | None = None
    hidden: int = 64
    steps: int = 2000
    seed: int = 0
    form: Form = "usual"
    rank: int = 0

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
        if self.form not in get_args(Form):
            raise ValueError(f"form is one of {', '.join(get_args(Form))}, not {self.form!r}")
        if self.rank < 0:
            raise ValueError(f"rank is {self.rank}; it is 0, for a frozen backbone, or more")


class EmbeddedPairs(NamedTuple):
    """Pairs, row by row: unit embeddings (P, D) of chosen, rejected and prompt; the margins (P,), NaN where
    the folder has none; True for a tie (P,); the prompts.

    Of a Qwen-VL the two first are readings (P, D + 1), see `StateHead`, and the texts are empty (P, 0).
    """

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

    `before` is the backbone's own ranking, `after` the head, `gain` the paired change; `sure` and `unsure`
    are the head's on the half of the pairs of which it is surer, and on the other.
    """

    before: Measured
    after: Measured
    gain: Measured
    sure: Measured
    unsure: Measured


# --- the split ----------------------------------------------------------------------------------------------


def split(prompts: Sequence[str], seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
    head = new_head(learned, settings, scale).to(device)
    _calibrate(head, learned, settings)
    adam = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    source = torch.Generator().manual_seed(settings.seed)
    best, least, kept = deepcopy(head.state_dict()), mean_loss(head, stopping, settings), 0
    for step in range(1, settings.steps + 1):
        rows = torch.randint(len(learned.prompts), (BATCH,), generator=source).to(device)
        loss = losses(head, learned.of(rows), settings).mean()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        if step % EVERY == 0 or step == settings.steps:
            now = mean_loss(head, stopping, settings)
            if now < least:
                best, least, kept = deepcopy(head.state_dict()), now, step
            elif step - kept >= EVERY * PATIENCE:
                break
    head.load_state_dict(best)
    return finished(head, learned), kept


def finished(head: PreferenceHead, learned: EmbeddedPairs) -> PreferenceHead:
    """The head with values of mean 0, its uncertainty and frozen weights."""
    _centre(head, learned)
    if not head.normal:
        head.precision.copy_(_precision(head, learned))
    return head.requires_grad_(False).eval()


def new_head(pairs: EmbeddedPairs, settings: HeadSettings, scale: float) -> PreferenceHead:
    """An unfitted head for such pairs."""
    width, normal = pairs.texts.shape[1], settings.loss in NORMAL
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if not width:
            kind = FORMS[settings.form]
            return kind(pairs.chosen.shape[1] - 1, settings.hidden, normal=normal, scale=scale)
        return PreferenceHead(width, settings.hidden, normal=normal, scale=scale)


@torch.no_grad()
def _calibrate(head: PreferenceHead, learned: EmbeddedPairs, settings: HeadSettings) -> None:
    """Begin at the scale, among halvings of the encoder's own, that the pairs contradict least: a CLIP's 100
    was made for thousands of other captions, not for two pictures of one."""
    scales = [float(head.scale) / 2**power for power in range(12)]

    def loss(scale: float) -> float:
        head.scale.fill_(scale)
        return mean_loss(head, learned, settings)

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
def mean_loss(head: PreferenceHead, pairs: EmbeddedPairs, settings: HeadSettings) -> float:
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
def examined(head: PreferenceHead, pairs: EmbeddedPairs, untrained: EmbeddedPairs | None = None) -> Accuracy:
    """Accuracy of a head, and of the backbone's own ranking, on pairs that neither was fitted on; ties are
    left out.

    Args:
        head: fitted.
        pairs: embedded as the head reads them.
        untrained: the same pairs by the backbone before it was trained along, where it was.
    """
    clear = pairs.of(~pairs.ties)
    chosen, rejected = _values(head, clear)
    right = (chosen.mean > rejected.mean).double().cpu()
    plain = clear if untrained is None else untrained.of(~pairs.ties)
    starts = [head.start(half, plain.texts) for half in (plain.chosen, plain.rejected)]
    before = (starts[0] > starts[1]).double().cpu().tolist()
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
