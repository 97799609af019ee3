"""Losses that train a reward model on compared pairs: Bradley-Terry, with a margin, with ties, with
uncertainty.

Each takes rewards of chosen and rejected, or their difference, (P,), and gives one value per pair. `head`
gives them their rewards; nothing here knows a network.
"""

import math
from typing import Literal, get_args

import torch
from torch.nn.functional import logsigmoid, softplus

from .policy import check_rows

Outcome = Literal["win", "tie"]
REACH, NODES = 9.0, 601
"""Standard deviations on either side, and nodes, of the trapezoid rule over a normal variable: within 1e-6 of
the integral for a standard deviation of z up to 10, and 1e-4 up to 40."""


def bradley_terry(difference: torch.Tensor, margin: float | torch.Tensor = 0.0) -> torch.Tensor:
    """Bradley-Terry loss -log sigmoid(d - m) for rewards chosen - rejected, in their shape.

    Args:
        difference: d.
        margin: m, by which the chosen one is to lead; one number (HPSv3's `constant_margin` has 0.57) or one
            per pair (Llama 2, https://arxiv.org/abs/2307.09288).
    """
    return -logsigmoid(difference.float() - margin)


def bradley_terry_ties(difference: torch.Tensor, outcome: Outcome = "win", k: float = 5.0) -> torch.Tensor:
    """Bradley-Terry with ties: -log P(first wins) or -log P(tie) for rewards first - second, in their shape.

    P(win) = sigmoid(d - ln k), P(loss) = sigmoid(-d - ln k), and the tie has the rest, which is
    (k^2 - 1) times their product. Source: Bradley-Terry with ties in VideoReward,
    https://arxiv.org/abs/2501.13918

    Raises:
        ValueError: an unknown outcome, or k not above 1, which would leave no room for ties.
    """
    if not k > 1:
        raise ValueError(f"k is {k}; it is above 1, or ties have no probability")
    if outcome not in get_args(Outcome):
        raise ValueError(
            f"outcome is win or tie, not {outcome!r}; for a loss turn the sign of the difference"
        )
    d, shift = difference.float(), math.log(k)
    if outcome == "win":
        return -logsigmoid(d - shift)
    return -logsigmoid(d - shift) - logsigmoid(-d - shift) - math.log(k * k - 1)


def uncertain(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    log_sigma_chosen: torch.Tensor,
    log_sigma_rejected: torch.Tensor,
    form: Literal["published", "integrated"] = "published",
) -> torch.Tensor:
    """HPSv3's loss of rewards that are normal variables, (P,): z ~ N(chosen - rejected, the sum of both
    variances).

    "published" is -E[log sigmoid(z)], as the code of HPSv3 and EditReward has it, there by 1000 draws in
    half precision, here by quadrature. Its sigma only ever shrinks: -log sigmoid is convex, so a wider z
    always costs more (Jensen); evals/heads.md has what is left of it. "integrated" is -log E[sigmoid(z)], the
    likelihood of a comparison whose rewards are unknown, where a pair that contradicts the means widens z.
    Source: https://arxiv.org/abs/2508.03789

    Args:
        chosen, rejected: means.
        log_sigma_chosen, log_sigma_rejected: logarithms of the standard deviations.
        form: as above.

    Raises:
        ValueError: shapes that differ, or an unknown form.
    """
    check_rows(
        chosen=chosen,
        rejected=rejected,
        log_sigma_chosen=log_sigma_chosen,
        log_sigma_rejected=log_sigma_rejected,
    )
    if form not in ("published", "integrated"):
        raise ValueError(f"form is published or integrated, not {form!r}")
    mean = chosen.float() - rejected.float()
    variances = torch.stack([2 * log_sigma_chosen.float(), 2 * log_sigma_rejected.float()]).logsumexp(0)
    z = mean[..., None] + (variances / 2).exp()[..., None] * _nodes(mean)
    if form == "published":
        return (softplus(-z) * _log_weights(mean).exp()).sum(-1)
    return -(logsigmoid(z) + _log_weights(mean)).logsumexp(-1)


def _nodes(like: torch.Tensor) -> torch.Tensor:
    return torch.linspace(-REACH, REACH, NODES, dtype=torch.float32, device=like.device)


def _log_weights(like: torch.Tensor) -> torch.Tensor:
    """Logarithms of the weights of a standard normal variable at the nodes; the weights sum to one."""
    return (-_nodes(like).square() / 2).log_softmax(0)
