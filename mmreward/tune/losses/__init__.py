"""Every loss of the alignment half as a pure function: tensors in, one differentiable value per row out.

The caller averages, so that masking rows and several processes stay exact. No file knows a network.
"""

from .distillation import centres, crd, implicit_reward
from .kl import mean_gauss, mean_mse, old_policy, reward_scaled, velocity_mse
from .matching import awm, matching_logp, nft, rwr, sft, to_probability
from .pairwise import bradley_terry_ties
from .policy import diagnostics, dppo, guard, guard_log_ratio, ppo
from .preference import d3po, denoising_error, dgpo, dpo, group_preference, hinge, hold_clipped, ipo, rpo
from .schedules import OLD_DECAY, clip_at
from .weights import (
    bandit_uncertainty,
    certainty,
    design_matrix,
    disagreement,
    discounted,
    prefpaint_weight,
)

__all__ = [
    "OLD_DECAY",
    "awm",
    "bandit_uncertainty",
    "bradley_terry_ties",
    "centres",
    "certainty",
    "clip_at",
    "crd",
    "d3po",
    "denoising_error",
    "design_matrix",
    "dgpo",
    "diagnostics",
    "disagreement",
    "discounted",
    "dpo",
    "dppo",
    "group_preference",
    "guard",
    "guard_log_ratio",
    "hinge",
    "hold_clipped",
    "implicit_reward",
    "ipo",
    "matching_logp",
    "mean_gauss",
    "mean_mse",
    "nft",
    "old_policy",
    "ppo",
    "prefpaint_weight",
    "reward_scaled",
    "rpo",
    "rwr",
    "sft",
    "to_probability",
    "velocity_mse",
]
