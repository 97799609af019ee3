"""Several rewards into one set of advantages: joint modes, and GARDO's two guards against reward hacking.

`mmreward.compose` makes one `Score` per sample, for results that people read. This module works on the
gathered columns of a rollout and makes advantages: it standardises within groups, and leaves a row out as
soon as one of its rewards failed, so that the remaining rows of a group are still centred.

GARDO (https://arxiv.org/abs/2512.24138). Diversity: good samples that look unlike the rest of their group
count more (`favour_diverse`, on `Embeddings` of a vision encoder, kept until the whole round is drawn).
Uncertainty: only samples that the trained reward likes much better than other rewards do are held to the
reference (`uncertain`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Unpack, get_args, overload

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from .. import models
from ..compose import check_weights
from ..registry import Reward
from .advantages import Advantages, Bools, Floats, GroupOptions, group_advantages, members, scores

JointMode = Literal["zscore_sum", "raw_sum", "weighted_mean", "min", "max", "rank_sum", "gated"]
Mode = Literal["zscore_sum", "raw_sum", "weighted_mean", "min", "max", "rank_sum", "gated", "separate_loss"]

ROUNDING = 1e-9
"""A weighted sum of z-scores below this share of the weights is the rounding of zero."""


@overload
def aggregate(
    columns: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    groups: ArrayLike,
    *,
    mode: JointMode = ...,
    gates: Mapping[str, float] | None = ...,
    restandardise: bool = ...,
    **options: Unpack[GroupOptions],
) -> Advantages: ...
@overload
def aggregate(
    columns: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    groups: ArrayLike,
    *,
    mode: Literal["separate_loss"],
    **options: Unpack[GroupOptions],
) -> dict[str, Advantages]: ...
def aggregate(
    columns: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    groups: ArrayLike,
    *,
    mode: Mode = "zscore_sum",
    gates: Mapping[str, float] | None = None,
    restandardise: bool = False,
    **options: Unpack[GroupOptions],
) -> Advantages | dict[str, Advantages]:
    """Advantages of rows from several rewards.

    - zscore_sum: every reward is standardised within its groups, then weighted and summed (MixGRPO, GDPO).
      The scale and offset of a reward do not matter.
    - rank_sum: the same over ranks within the group; no monotone change of a reward matters.
    - raw_sum, weighted_mean, min, max: of weight * value, then standardised. The mean divides by the sum of
      the weights' sizes. Rewards on different scales swamp each other.
    - gated: zscore_sum, but a row below a gate gets the lowest total of its group, so it never beats a row
      that passes; then standardised. (`compose.gated` gives 0, which can beat a negative total.)
    - separate_loss: one `Advantages` per reward, times its weight: sum the losses (DanceGRPO's VQ and MQ).

    Args:
        columns: reward -> (N,) scores, NaN where failed; those without weight or gate are not looked at.
        weights: reward -> weight; negative ones turn a reward round, 0 leaves it out.
        groups: (N,) integer ids.
        mode: as above.
        gates: reward -> smallest raw value that passes; for mode "gated" only.
        restandardise: zscore_sum and rank_sum: standardise the sums once more over all rows, with the same
            `ddof` (GDPO).
        options: as `group_advantages`. Where rewards are standardised one by one (zscore_sum, rank_sum,
            gated, separate_loss) eps is 0 unless given, since one eps cannot suit every scale.

    Raises:
        ValueError: a weight or gate without scores, a weight that is not finite, no weight but 0, gates or
            restandardise in a mode that has none, or as `group_advantages`.
    """
    gates = gates or {}
    _check(columns, weights, gates, mode, restandardise)
    used = {name: weight for name, weight in weights.items() if weight != 0}
    table = {name: scores(columns[name], groups, name) for name in (*used, *gates)}
    if mode == "separate_loss":
        alone: GroupOptions = {"eps": 0.0, **options}
        return {name: _times(group_advantages(table[name], groups, **alone), used[name]) for name in used}
    # A row that lacks one reward would have another total than its group: it is left out of all of them.
    complete = np.all([np.isfinite(column) for column in table.values()], axis=0)
    table = {name: np.where(complete, column, np.nan) for name, column in table.items()}
    if mode not in ("zscore_sum", "rank_sum", "gated"):
        return group_advantages(_raw_total(table, used, mode), groups, **options)
    ranked = {name: _ranks(table[name], groups) if mode == "rank_sum" else table[name] for name in used}
    total, stats = _standardised_sum(ranked, used, groups, options)
    if mode == "gated":
        _shut(total, table, gates, groups)
        return _with(group_advantages(total, groups, **options), stats)
    if restandardise:
        total = _standard(total, options.get("ddof", 0))
    kept: GroupOptions = {**options, "std_scope": "none", "baseline": "none", "trim": 0.0}
    return _with(group_advantages(total, groups, **kept), stats)


def _raw_total(table: Mapping[str, Floats], weights: Mapping[str, float], mode: str) -> Floats:
    terms = np.stack([weight * table[name] for name, weight in weights.items()])
    if mode == "min":
        return np.asarray(terms.min(axis=0))
    if mode == "max":
        return np.asarray(terms.max(axis=0))
    whole = sum(abs(weight) for weight in weights.values()) if mode == "weighted_mean" else 1.0
    return np.asarray(terms.sum(axis=0) / whole)


def _standardised_sum(
    table: Mapping[str, Floats], weights: Mapping[str, float], groups: ArrayLike, options: GroupOptions
) -> tuple[Floats, dict[str, float]]:
    """Weighted z-scores, NaN where not usable; and each reward's share of groups without spread.

    A group without spread in one reward gets 0 from it ("keep"), as the other rewards may still tell its rows
    apart.
    """
    each: GroupOptions = {"eps": 0.0, **options, "clip": math.inf, "zero_variance": "keep"}
    parts = {name: group_advantages(table[name], groups, **each) for name in weights}
    terms = [weight * parts[name].values for name, weight in weights.items()]
    total = np.sum(terms, axis=0)
    total[np.abs(total) < ROUNDING * np.sum(np.abs(terms), axis=0)] = 0.0
    total[~next(iter(parts.values())).usable] = np.nan
    return total, {f"zero_std_share/{name}": part.stats["zero_std_share"] for name, part in parts.items()}


def _ranks(column: Floats, groups: ArrayLike) -> Floats:
    ranks = np.full_like(column, np.nan)
    for rows in members(groups):
        rows = rows[np.isfinite(column[rows])]
        ranks[rows] = rankdata(column[rows])
    return ranks


def _shut(total: Floats, table: Mapping[str, Floats], gates: Mapping[str, float], groups: ArrayLike) -> None:
    passed: Bools = np.all([table[name] >= least for name, least in gates.items()], axis=0)
    for rows in members(groups):
        rows = rows[np.isfinite(total[rows])]
        if len(rows):
            total[rows[~passed[rows]]] = total[rows].min()


def _standard(total: Floats, ddof: int) -> Floats:
    kept = total[np.isfinite(total)]
    std = float(kept.std(ddof=ddof)) if len(kept) > ddof else 0.0
    return (total - kept.mean()) / std if std > 0 else total


def _times(advantages: Advantages, weight: float) -> Advantages:
    return replace(advantages, values=weight * advantages.values)


def _with(advantages: Advantages, stats: Mapping[str, float]) -> Advantages:
    return replace(advantages, stats={**advantages.stats, **stats})


def _check(
    columns: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    gates: Mapping[str, float],
    mode: str,
    restandardise: bool,
) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
    check_weights(columns, weights, gates)
    if not any(weights.values()):
        raise ValueError(f"no reward has a weight other than 0: {dict(weights)}")
    if bool(gates) != (mode == "gated"):
        raise ValueError(f"mode {mode!r} with gates {dict(gates)}: gates and mode 'gated' go together")
    if restandardise and mode not in ("zscore_sum", "rank_sum"):
        raise ValueError(f"restandardise is for zscore_sum and rank_sum, not {mode!r}")


# --- GARDO --------------------------------------------------------------------------------------------------


class Embeddings:
    """Embeddings of a round's pictures by a vision encoder, made as they are drawn.

    Args:
        encoder: weights of a dual encoder, as for `models.clip`.
        rewards: none of which may be made of it: what it calls different would then be what is optimised.

    Raises:
        ValueError: one is.
    """

    def __init__(self, encoder: str, rewards: Iterable[Reward]) -> None:
        self._encoder = models.clip(encoder)
        taken = {network.fingerprint for reward in rewards for network in reward.networks}
        if self._encoder.fingerprint in taken:
            raise ValueError(f"gardo.encoder {encoder!r}: a reward is made of it; take another encoder")
        self._seen: list[tuple[Sequence[int], torch.Tensor]] = []

    @torch.no_grad()
    def see(self, index: Sequence[int], pixels: torch.Tensor) -> None:
        """Embed pixels (N, 3, H, W) in [0, 1] of these rows; or clips (N, T, 3, H, W), averaged over
        frames."""
        frames = pixels.flatten(0, 1) if pixels.ndim == 5 else pixels
        vectors = self._encoder.embed_pixels(frames).float().cpu()
        self._seen.append((index, vectors.reshape(len(pixels), -1, vectors.shape[-1]).mean(1)))

    def collect(self, processes: int = 1) -> NDArray[np.float64]:
        """Embeddings of all rows of all processes, (N, D) in the order of their index; forgotten
        afterwards."""
        parts = gather_object(self._seen) if processes > 1 else self._seen
        self._seen = []
        index = np.concatenate([np.asarray(rows) for rows, _ in parts])
        vectors = torch.cat([vectors for _, vectors in parts]).double().numpy()
        return np.asarray(vectors[np.argsort(index)])


def favour_diverse(
    advantages: Advantages, embeddings: ArrayLike, groups: ArrayLike, *, clip: float = math.inf
) -> Advantages:
    """Diversity bonus: positive advantages times the distance to the nearest neighbour in the group.

    The distance is 1 - cosine, divided by its mean over the group; rows that are not usable are no
    neighbours. Negative advantages stay: a bad sample earns nothing by being different. A group of
    identical samples stays as it is.

    Args:
        advantages: of `group_advantages` or `aggregate`.
        embeddings: (N, D) of a vision encoder that no reward is made of.
        groups: (N,) integer ids.
        clip: largest size of a result.

    Raises:
        ValueError: another number of rows, or a usable row whose embedding is zero or not finite.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(advantages.values):
        raise ValueError(f"embeddings has shape {vectors.shape}; give ({len(advantages.values)}, D)")
    values = advantages.values.copy()
    for rows in members(groups):
        rows = rows[advantages.usable[rows]]
        if len(rows) > 1:
            factors = _isolation(_unit(vectors, rows))
            values[rows] = np.where(values[rows] > 0, values[rows] * factors, values[rows])
    return replace(advantages, values=np.clip(values, -clip, clip))


def uncertain(proxy: ArrayLike, others: Sequence[ArrayLike], *, share: float = 0.1) -> Bools:
    """Overrated rows (N,) bool: hold these to the reference, leave the others free.

    Overrating is the row's rank by `proxy` minus its mean rank by `others`, in the whole batch. Of the rows
    that are overrated at all, the given share is marked. A row with a failed score is not.

    Args:
        proxy: (N,) scores of the reward that is optimised, NaN where failed.
        others: some (N,) columns of rewards that are not.
        share: of the overrated rows, in (0, 1].

    Raises:
        ValueError: no other reward, columns of unequal length, or a share outside (0, 1].
    """
    if not others:
        raise ValueError("uncertain needs at least one other reward to compare with")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it is above 0 and at most 1")
    columns = [scores(column, np.asarray(proxy), "a reward") for column in (proxy, *others)]
    valid = np.all(np.isfinite(columns), axis=0)
    marked = np.zeros(len(valid), dtype=bool)
    ranks = [rankdata(column[valid]) for column in columns]
    excess = ranks[0] - np.mean(ranks[1:], axis=0)
    overrated = excess[excess > 0]
    if len(overrated):
        count = math.ceil(share * len(overrated))
        marked[valid] = excess >= np.sort(overrated)[-count]
    return marked


def _unit(vectors: Floats, rows: np.ndarray) -> Floats:
    chosen = vectors[rows]
    lengths = np.linalg.norm(chosen, axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ValueError(f"the embedding of row {rows[bad[0]]} has length {lengths[bad[0]]}")
    return np.asarray(chosen / lengths[:, None])


def _isolation(units: Floats) -> Floats:
    """Distance to the nearest other row, divided by its mean, (n,); ones where all rows are the same."""
    distances = 1 - np.clip(units @ units.T, -1, 1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    mean = float(nearest.mean())
    return nearest / mean if mean > 1e-12 else np.ones(len(units))
