"""Policy gradients on trajectories, which replay stochastic steps: Flow-GRPO, GRPO-Guard, Flow-DPPO, D3PO."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from .advantages import best_and_worst
from .config import D3poConfig, PolicyConfig
from .kernels import Transition
from .learner import Copy
from .losses import policy, preference
from .online import Metrics, Policy, Term
from .rollout import Advance, Plan, Rollout, Step, advance, replay

CLIPS = {"grpo": 1e-4, "guard": 2e-6, "dppo": 0.0}
"""Usual clip ranges of the densities' mean over dimensions; dppo has none."""


class RatioError(RuntimeError):
    """The ratio of a replayed step is not 1 although nothing has been updated since it was drawn."""


def check_ratio(log_prob: torch.Tensor, drawn: torch.Tensor, tolerance: float, step: int) -> None:
    """Before the first update of a round every ratio must be 1.

    Raises:
        RatioError: it is not; the message says what usually breaks it.
    """
    worst = float((log_prob.detach() - drawn).exp().sub(1).abs().max())
    if not worst <= tolerance:
        raise RatioError(
            f"before the first update the ratio of step {step} is off by {worst:.2e}, more than "
            f"{tolerance:.0e}: the network in replay is not the one that drew the samples. Usual causes: "
            "dropout or train mode, another batch size or order in replay with half-precision kernels, "
            "another attention backend, noise levels in float64, timesteps cut to integers, weights changed "
            "in between. With precision bf16 a tolerance of 1e-3 is usual (method.ratio_tolerance)."
        )


class PolicyGradient:
    """PPO on each trained step's density (Flow-GRPO), its ratio-normalised form (GRPO-Guard), or Flow-DPPO.

    Args:
        config: the method and its constants.
    """

    whole_groups = False
    trajectories = True

    def __init__(self, config: PolicyConfig) -> None:
        self._config = config
        self.updates = config.updates
        self._clip = CLIPS[config.name] if config.clip is None else config.clip

    def before_round(self, current: Policy) -> Copy | None:
        return None

    def terms(
        self, current: Policy, rollout: Rollout, plan: Plan, fresh: bool
    ) -> Sequence[Callable[[], Term]]:
        return [partial(self._term, current, rollout, step, plan, fresh) for step in rollout.steps]

    def after_round(self, current: Policy, round: int) -> Metrics:
        return {}

    def state(self) -> Mapping[str, Copy]:
        return {}

    def load_state(self, state: Mapping[str, Copy]) -> None:
        pass

    def _term(self, current: Policy, rollout: Rollout, step: Step, plan: Plan, fresh: bool) -> Term:
        now, log_prob = replay(current.generator, rollout, step, plan)
        if fresh:
            check_ratio(log_prob, step.log_prob, self._config.ratio_tolerance, step.index)
        metrics = policy.diagnostics(log_prob.detach(), step.log_prob, self._clip)
        extra = None
        if self._config.kl:
            divergence = self._divergence(current, rollout, step, plan, now, log_prob)
            metrics["kl"] = float(divergence.detach().mean())
            extra = self._config.kl * divergence
        return Term(partial(self._loss, log_prob, step, now.move), extra, metrics)

    def _loss(
        self,
        log_prob: torch.Tensor,
        step: Step,
        move: Transition,
        advantages: torch.Tensor,
        usable: torch.Tensor,
    ) -> torch.Tensor:
        means = (move.mean, step.mean, move.std)
        match self._config.name:
            case "grpo":
                loss = policy.ppo(log_prob, step.log_prob, advantages, self._clip)
            case "guard":
                loss = policy.guard(log_prob, step.log_prob, *means, move.dt, advantages, self._clip)
            case "dppo":
                loss = policy.dppo(log_prob, step.log_prob, *means, advantages, self._config.threshold)
        return loss * usable

    def _divergence(
        self,
        current: Policy,
        rollout: Rollout,
        step: Step,
        plan: Plan,
        now: Advance,
        log_prob: torch.Tensor,
    ) -> torch.Tensor:
        space = self._config.kl_space
        if space == "old_policy":
            return policy.old_policy(log_prob, step.log_prob)
        with torch.no_grad(), current.weights.reference():
            first = advance(current.generator, step.x.float(), rollout.conditioning, plan, step.index)
        match space:
            case "mean_gauss":
                return policy.mean_gauss(now.move.mean, first.move.mean, now.move.std)
            case "mean_mse":
                return policy.mean_mse(now.move.mean, first.move.mean)
            case "velocity_mse":
                return policy.velocity_mse(now.velocity, first.velocity)


class D3po(PolicyGradient):
    """D3PO: of each group, the best sample's steps become likelier than the worst one's (arXiv:2311.13231).

    Needs whole groups in a micro-batch, and rollout.same_noise, as the two trajectories must start alike.
    """

    whole_groups = True

    def __init__(self, config: D3poConfig) -> None:
        super().__init__(
            PolicyConfig(name="grpo", updates=config.updates, ratio_tolerance=config.ratio_tolerance)
        )
        self._beta, self._band = config.beta, config.band

    def _term(self, current: Policy, rollout: Rollout, step: Step, plan: Plan, fresh: bool) -> Term:
        _, log_prob = replay(current.generator, rollout, step, plan)
        if fresh:
            check_ratio(log_prob, step.log_prob, self._config.ratio_tolerance, step.index)
        # The step is replayed a second time, as D3PO's ratio is to the frozen reference and not to the policy
        # that drew the sample, whose density is stored.
        with torch.no_grad(), current.weights.reference():
            _, first = replay(current.generator, rollout, step, plan)
        metrics = policy.diagnostics(log_prob.detach(), step.log_prob, self._band[1] - 1)
        groups = torch.tensor([row.group for row in rollout.rows])
        return Term(partial(self._paired, log_prob, first, groups), None, metrics)

    def _paired(
        self,
        log_prob: torch.Tensor,
        first: torch.Tensor,
        groups: torch.Tensor,
        advantages: torch.Tensor,
        usable: torch.Tensor,
    ) -> torch.Tensor:
        best, worst = pairs_of(advantages, usable, groups)
        loss = preference.d3po(
            log_prob[best], first[best], log_prob[worst], first[worst], self._beta, self._band
        )
        return torch.zeros_like(log_prob).index_add(0, best, loss)


def pairs_of(
    advantages: torch.Tensor, usable: torch.Tensor, groups: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (P,) of the best and of the worst usable sample of each group that is not tied."""
    values = torch.where(usable, advantages.double(), torch.nan).cpu().numpy()
    best, worst = torch.from_numpy(best_and_worst(values, groups.cpu().numpy())).to(advantages.device).T
    return best, worst
