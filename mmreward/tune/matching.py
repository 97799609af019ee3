"""NFT, AWM, CRD, DGPO, online DPO, and reward-weighted or supervised matching: losses on noised finished
samples.

No step of the sampler is replayed, so any solver may draw the samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from .advantages import best_shares
from .config import MatchingConfig, TimesConfig
from .data import seed_of
from .losses import (
    OLD_DECAY,
    centres,
    crd,
    denoising_error,
    dgpo,
    dpo,
    implicit_reward,
    matching_logp,
    nft,
    policy,
    ppo,
    rwr,
    sft,
    to_probability,
)
from .online import Metrics, Policy, Term
from .policy_gradient import pairs_of
from .rollout import Plan, Rollout
from .steps import LogitNormal, OnGrid, TimeSampler, Uniform
from .weights import Copy, blend

BETAS = {"nft": 1.0, "dgpo": 100.0, "dpo": 100.0, "crd": 1.0}
DECAYS = {"nft": "nft", "dgpo": "dgpo", "crd": "crd"}
GROUPWISE = ("crd", "dgpo", "dpo", "sft")
"""Methods that compare the samples of a group, which share noise levels and noise."""


@dataclass(frozen=True)
class Noised:
    """Finished samples x0 brought to levels s: latents x (N, ...), levels (N,), and the true velocity."""

    x: torch.Tensor
    sigma: torch.Tensor
    target: torch.Tensor


def time_sampler(times: TimesConfig, sigmas: torch.Tensor) -> TimeSampler:
    """Where noise levels come from; `sigmas` are those of the sampler."""
    match times.name:
        case "grid":
            return OnGrid(tuple(sigmas.tolist()))
        case "uniform":
            return Uniform()
        case "logit_normal":
            return LogitNormal(shift=times.shift)


class Matching:
    """Trains the velocity at noised samples, by how good they are.

    Args:
        config: which method, with its constants.
        weights: the policy as it is now; the first old policy of the methods that have one.
    """

    trajectories = False

    def __init__(self, config: MatchingConfig, weights: Copy) -> None:
        self._config = config
        self.updates = config.updates
        self.whole_groups = config.name in GROUPWISE
        self._beta = BETAS.get(config.name, 1.0) if config.beta is None else config.beta
        self._decay = OLD_DECAY[config.decay or DECAYS[config.name]] if config.name in DECAYS else None
        self._old: Copy = weights if self._decay is not None else {}
        self._begun: Copy = {}

    def before_round(self, current: Policy) -> Copy | None:
        if self._config.name == "awm" and self.updates > 1:
            self._begun = current.weights.copy()
        return self._old if self._config.name in ("nft", "crd") else None

    def terms(
        self, current: Policy, rollout: Rollout, plan: Plan, fresh: bool
    ) -> Sequence[Callable[[], Term]]:
        return [
            partial(self._term, current, rollout, plan, fresh, i) for i in range(self._config.times.number)
        ]

    def after_round(self, current: Policy, round: int) -> Metrics:
        if self._decay is None:
            return {}
        decay = self._decay(round)
        blend(self._old, current.weights.parameters, decay)
        return {"old_decay": decay}

    def state(self) -> Mapping[str, Copy]:
        return {"old": self._old} if self._old else {}

    def load_state(self, state: Mapping[str, Copy]) -> None:
        self._old = dict(state["old"]) if "old" in state else {}

    def _term(self, current: Policy, rollout: Rollout, plan: Plan, fresh: bool, number: int) -> Term:
        noised = self._noise(rollout, plan, number)
        v = current.generator.velocity(noised.x, noised.sigma, rollout.conditioning, plan.guidance)
        metrics = {"matching_error": float(denoising_error(v.detach(), noised.target).mean())}
        old = self._elsewhere(current, noised, rollout, plan) if self._needs_other(fresh) else None
        if old is not None:
            metrics["old_deviation"] = float(policy.velocity_mse(v.detach(), old).mean())
        extra = None
        if self._config.kl:
            with torch.no_grad(), current.weights.reference():
                first = current.generator.velocity(
                    noised.x, noised.sigma, rollout.conditioning, plan.guidance
                )
            divergence = policy.velocity_mse(v, first)
            metrics["kl"] = float(divergence.detach().mean())
            extra = self._config.kl * divergence
        groups = torch.tensor([row.group for row in rollout.rows], device=v.device)
        return Term(partial(self._loss, v, old, noised, rollout.final, groups), extra, metrics)

    def _needs_other(self, fresh: bool) -> bool:
        return self._config.name in ("nft", "crd", "dgpo", "dpo") or (
            self._config.name == "awm" and not fresh
        )

    def _elsewhere(self, current: Policy, noised: Noised, rollout: Rollout, plan: Plan) -> torch.Tensor:
        """The velocity of the old policy; for online DPO, which has none, of the frozen reference."""
        old = self._old or self._begun
        frozen = current.weights.using(old) if old else current.weights.reference()
        with torch.no_grad(), frozen:
            return current.generator.velocity(noised.x, noised.sigma, rollout.conditioning, plan.guidance)

    def _noise(self, rollout: Rollout, plan: Plan, number: int) -> Noised:
        """Noise the finished samples; where a group is compared, all of it alike."""
        x0 = rollout.final.float()
        units = [row.group if self.whole_groups else row.index for row in rollout.rows]
        keys = sorted(set(units))
        levels = torch.Generator().manual_seed(seed_of(plan.seed, "times", plan.round, keys[0], number))
        sigmas = dict(
            zip(
                keys,
                time_sampler(self._config.times, plan.sigmas).sample(len(keys), levels).tolist(),
                strict=True,
            )
        )
        drawn = {
            key: torch.randn(
                x0.shape[1:],
                generator=torch.Generator().manual_seed(seed_of(plan.seed, "noise", plan.round, key, number)),
            )
            for key in keys
        }
        noise = torch.stack([drawn[unit] for unit in units]).to(x0.device)
        sigma = torch.tensor([sigmas[unit] for unit in units], dtype=torch.float32, device=x0.device)
        level = sigma.view(-1, *(1,) * (x0.ndim - 1))
        return Noised((1 - level) * x0 + level * noise, sigma, noise - x0)

    def _loss(
        self,
        v: torch.Tensor,
        old: torch.Tensor | None,
        noised: Noised,
        x0: torch.Tensor,
        groups: torch.Tensor,
        advantages: torch.Tensor,
        usable: torch.Tensor,
    ) -> torch.Tensor:
        config, beta = self._config, self._beta
        p = to_probability(advantages, mode=config.mapping)
        error = denoising_error(v, noised.target)
        match config.name:
            case "awm":
                log_prob, before = (
                    matching_logp(each, noised.target, noised.sigma, weighting=config.weighting)
                    for each in (v, v.detach() if old is None else old)
                )
                loss = ppo(log_prob, before, advantages, config.clip)
            case "rwr":
                loss = rwr(error, advantages, temperature=config.temperature)
            case "sft":
                values = torch.where(usable, advantages.double(), torch.nan).cpu().numpy()
                best = best_shares(values, groups.cpu().numpy())
                loss = sft(error, torch.from_numpy(best).to(error))
            case _:
                assert old is not None
                if config.name == "nft":
                    loss = nft(v, old, noised.x, x0.float(), noised.sigma, p, beta)
                elif config.name == "crd":
                    q = implicit_reward(v, old, noised.target)
                    centre = centres(q, p, groups, temperature=config.temperature)
                    loss = crd(q, p, centre, beta=beta)
                elif config.name == "dgpo":
                    loss = dgpo(error, denoising_error(old, noised.target), advantages, groups, beta)
                else:
                    loss = self._preferred(error, old, noised, advantages, usable, groups)
        return loss * usable

    def _preferred(
        self,
        error: torch.Tensor,
        first: torch.Tensor,
        noised: Noised,
        advantages: torch.Tensor,
        usable: torch.Tensor,
        groups: torch.Tensor,
    ) -> torch.Tensor:
        """Online DPO: the best against the worst of each group; the loss stands in the best one's row."""
        best, worst = pairs_of(advantages, usable, groups)
        reference = denoising_error(first, noised.target)
        loss = dpo(error[best], reference[best], error[worst], reference[worst], self._beta)
        return torch.zeros_like(error).index_add(0, best, loss)
