"""Losses of training as pure functions: tensors in, one differentiable value per row out. No file knows a
network.

The caller averages, so that masking rows and several processes stay exact. `policy`: one step of a
trajectory, and KL penalties. `flow_matching`: noised finished samples. `preference`: pairs and groups.
`comparisons`: reward models from pairs. `uncertainty`: loss weights.
"""

from .comparisons import bradley_terry, bradley_terry_ties, uncertain
from .flow_matching import awm, centres, crd, implicit_reward, matching_logp, nft, rwr, sft, to_probability
from .policy import (
    diagnostics,
    dppo,
    guard,
    guard_log_ratio,
    mean_gauss,
    mean_mse,
    old_policy,
    ppo,
    velocity_mse,
)
from .preference import (
    d3po,
    denoising_error,
    dgpo,
    dpo,
    group_preference,
    hinge,
    hold_clipped,
    ipo,
    rpo,
)
from .uncertainty import (
    certainty,
    design_matrix,
    disagreement,
    prefpaint_weight,
)

__all__ = [
    "awm",
    "bradley_terry",
    "bradley_terry_ties",
    "centres",
    "certainty",
    "crd",
    "d3po",
    "denoising_error",
    "design_matrix",
    "dgpo",
    "diagnostics",
    "disagreement",
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
    "rpo",
    "rwr",
    "sft",
    "to_probability",
    "uncertain",
    "velocity_mse",
]
