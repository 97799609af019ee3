"""StableReinforce in TRL's GRPO (R1-Reward, arXiv:2505.02835): a pre-clipped ratio and an advantage filter.

    StableGRPOTrainer(reward_funcs=..., train_dataset=..., ...)
    GatedGRPOTrainer(gate=..., stable=True, ...)

A ratio that overflows before it is clipped is infinite, and its gradient with it; one outlier among the
rewards dominates an update. The two guards are functions of tensors here; the trainer hands them what TRL
computes. Needs TRL (`pip install mmreward[trl]`), 1.16 or later, as it stands on methods that TRL does not
call public.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import trl

RATIO_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
"""TRL's losses of a ratio that PPO's clip comes after."""
Trainer: Any = trl.GRPOTrainer
"""Untyped for type checkers: most methods that are overridden or called here have no annotations."""


def pre_clipped_log_ratio(
    logp: torch.Tensor, logp_old: torch.Tensor, *, low: float = 1e-3, high: float = 1e3
) -> torch.Tensor:
    """clip(logp - logp_old, ln low, ln high): its exponential stays within [low, high] and finite.

    The usual clip of PPO comes after it. Outside the bounds there is no gradient, and an infinite log-ratio
    ends at the bound on its side. `logp_old` receives no gradient.

    Args:
        logp, logp_old: of one shape, under the new and the old policy.
        low, high: bounds of the ratio; the paper's 1e-3 and 1e3.

    Raises:
        ValueError: unequal shapes, or bounds that are not 0 < low <= 1 <= high.
    """
    if logp.shape != logp_old.shape:
        raise ValueError(f"logp has shape {tuple(logp.shape)} and logp_old {tuple(logp_old.shape)}")
    if not (0 < low <= 1 <= high and math.isfinite(high)):
        raise ValueError(f"bounds {low} and {high}: 0 < low <= 1 <= high")
    return (logp - logp_old.detach()).clamp(math.log(low), math.log(high))


def within_sigmas(values: torch.Tensor, *, sigmas: float = 3.0) -> torch.Tensor:
    """Rows (N,) bool no further than `sigmas` standard deviations from the mean of the whole buffer.

    A failed row (NaN) is in neither statistic, and not within. R1-Reward's published code compares z-scores
    with mean - 3 and mean + 3 of the raw values instead, and so loses everything where the mean is large.

    Args:
        values: (N,) rewards, returns or advantages; NaN is a failed one.
        sigmas: 3 in the paper. With n rows no |z| exceeds sqrt(n - 1), so up to 10 rows 3 filters nothing.

    Raises:
        ValueError: another shape than (N,), an infinite value, or sigmas not above 0.
    """
    if values.ndim != 1:
        raise ValueError(f"values have shape {tuple(values.shape)}; they are (N,)")
    infinite = values.isinf().nonzero()
    if len(infinite):
        row = int(infinite[0])
        raise ValueError(f"values[{row}] is {float(values[row])}; a failed score is NaN")
    if not sigmas > 0:
        raise ValueError(f"sigmas is {sigmas}; it is above 0")
    column = values.double()
    distance = (column - column.nanmean()).abs()
    std = (
        distance.square().nanmean().sqrt()
    )  # from these very distances, so that rounding makes no outlier of equals
    return distance <= sigmas * std  # NaN is within nothing


class StableGRPOTrainer(Trainer):  # type: ignore[misc]
    """GRPOTrainer with StableReinforce's two guards.

    The log-ratio of every token is held within +-ln 1000 before TRL takes its exponential. After scoring,
    completions whose advantage is an outlier of the whole batch, over all processes, get the advantage 0, as
    TRL gives completions without a score; their share is logged as "stable/outliers". Evaluation is not
    filtered.

    Args:
        *args: of GRPOTrainer, as are all other arguments.
        stable: off, this is GRPOTrainer.

    Raises:
        ValueError: a loss without PPO's clip (see `RATIO_LOSSES`).
    """

    def __init__(self, *args: Any, stable: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if stable and self.loss_type not in RATIO_LOSSES:
            raise ValueError(
                f"stable clips a ratio before PPO's clip, and loss_type {self.loss_type!r} has none: "
                f"take one of {', '.join(RATIO_LOSSES)}"
            )
        self._stable = stable
        self._failed = torch.zeros(0, dtype=torch.bool)
        self._clipping: dict[str, Any] | None = None

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        """Rewards of all processes; here the rows that have none are known."""
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._failed = rewards.isnan().all(1)
        return rewards

    def _generate_and_score_completions(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        training = self.model.training
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._stable and training:
            own = batch["advantages"]
            # TRL gives failed rows 0, which here would count as an average one.
            everywhere = self.accelerator.gather(own).masked_fill(self._failed, torch.nan)
            kept = within_sigmas(everywhere)
            outliers = (~kept & ~self._failed).float().mean()
            self._metrics["train"]["stable/outliers"].append(float(outliers))
            start = self.accelerator.process_index * len(own)
            batch["advantages"] = own * kept[start : start + len(own)]
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        # Without old log-probabilities the batch is on policy, and TRL's ratio is exactly 1.
        clips = self._stable and inputs.get("old_per_token_logps") is not None
        self._clipping = dict(inputs) if clips else None
        try:
            loss: torch.Tensor = super()._compute_loss(model, self._clipping or inputs)
        finally:
            self._clipping = None
        return loss

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        """Log-probabilities (B, T); within `_compute_loss` moved to where their ratio is clipped."""
        logps, *rest = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if self._clipping is not None:
            old = self._clipping["old_per_token_logps"]
            ratio = pre_clipped_log_ratio(logps, old)
            # Within the bounds the very numbers stay, free of the rounding of old + (logps - old).
            clipped = torch.where(ratio == logps - old, logps, old + ratio)
            reference = self._clipping.get("ref_per_token_logps")
            if reference is not None:
                # TRL's KL penalty reads the same log-probabilities. Moving the reference along leaves their
                # difference, and its gradient, as it was: the penalty is not clipped.
                self._clipping["ref_per_token_logps"] = reference + (clipped - logps)
            logps = clipped
        return (logps, *rest)
