"""Online methods on the forward process: NFT, AWM, CRD, DGPO, DPO, RPO, reward-weighted and supervised
matching.

A finished sample is noised again and the velocity at the noised latents is trained, by how good the sample
was. No step of the sampler is replayed, so any solver may draw the samples. The losses are in
`losses.flow_matching` and `losses.preference`; here is what surrounds them: noise levels, the old policy of
each method, and `OLD_DECAY`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from .advantages import best_shares
from .config import ForwardProcessConfig, TimesConfig
from .data import seed_of
from .learner import Copy, blend
from .losses import (
    centres,
    crd,
    denoising_error,
    dgpo,
    dpo,
    hold_clipped,
    implicit_reward,
    matching_logp,
    nft,
    policy,
    ppo,
    rpo,
    rwr,
    sft,
    to_probability,
)
from .online import Metrics, Policy, Term
from .policy_gradient import pairs_of
from .rollout import Plan, Rollout
from .steps import LogitNormal, OnGrid, TimeSampler, Uniform

BETAS = {"nft": 1.0, "dgpo": 100.0, "dpo": 100.0, "crd": 1.0}
DECAYS = {"nft": "nft", "dgpo": "dgpo", "crd": "crd"}
GROUPWISE = ("crd", "dgpo", "dpo", "rpo", "sft")
"""Methods that compare the samples of a group, which share noise levels and noise."""
COMPARED = ("nft", "crd", "dgpo", "dpo", "rpo")
"""Methods whose loss contains the velocity of an older policy, or of the frozen reference."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """Decay of the old policy: 0 before step `start`, then base + slope (step - start), at most `most`."""

    base: float = 0.0
    slope: float = 0.0
    most: float = 1.0
    start: int = 0

    def __call__(self, step: int) -> float:
        """In [0, 1]: old <- decay * old + (1 - decay) * new; 0 copies the new weights.

        Raises:
            ValueError: a negative step.
        """
        if step < 0:
            raise ValueError(f"step is {step}; it counts from 0")
        return min(self.base + self.slope * (step - self.start), self.most) if step >= self.start else 0.0


OLD_DECAY: Mapping[str, Ramp] = {
    "copy": Ramp(),
    "nft": Ramp(slope=0.001, most=0.5),
    "nft_late": Ramp(slope=0.0075, most=0.999, start=75),
    "dgpo": Ramp(slope=0.001, most=0.3),
    "crd": Ramp(base=0.25, slope=0.005, most=0.999),
}
"""The schedules of the papers' code: DiffusionNFT's types 0 ("copy"), 1 and 2, DGPO's, CRD's."""


@dataclass(frozen=True)
class Noised:
    """Finished samples x0 at noise levels s: latents x (N, ...), levels (N,) and the true velocity, noise -
    x0."""

    x: torch.Tensor
    sigma: torch.Tensor
    target: torch.Tensor


def time_sampler(times: TimesConfig, sigmas: torch.Tensor) -> TimeSampler:
    """The distribution that noise levels are drawn from; `sigmas` are the levels of the sampler."""
    match times.name:
        case "grid":
            return OnGrid(tuple(sigmas.tolist()))
        case "uniform":
            return Uniform()
        case "logit_normal":
            return LogitNormal(shift=times.shift)


class ForwardProcess:
    """Trains the velocity at noised samples, by how good they are.

    Args:
        config: which method, with its constants.
        weights: the policy as it is now; the first old policy of the methods that have one.
    """

    trajectories = False

    def __init__(self, config: ForwardProcessConfig, weights: Copy) -> None:
        self._config = config
        self.updates = config.updates
        self.whole_groups = config.name in GROUPWISE
        self._beta = BETAS.get(config.name, 1.0) if config.beta is None else config.beta
        self._decay = OLD_DECAY[config.decay or DECAYS[config.name]] if config.name in DECAYS else None
        self._old: Copy = weights if self._decay is not None else {}
        self._round_start: Copy = {}

    def before_round(self, current: Policy) -> Copy | None:
        # Ratios are to the policy that drew the samples. In the first update that is the current one, so its
        # weights are only needed where more updates follow.
        has_ratio = self._config.name == "awm" or self._config.hold_clipped is not None
        if has_ratio and self.updates > 1:
            self._round_start = current.weights.copy()
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
        frozen = partial(self._frozen_velocity, current, noised, rollout, plan)
        start = frozen(self._round_start) if self._round_start and not fresh else None
        old = frozen(self._old) if self._config.name in COMPARED else start
        if old is not None:
            metrics["old_deviation"] = float(policy.velocity_mse(v.detach(), old).mean())
        extra = None
        if self._config.kl:
            divergence = policy.velocity_mse(v, frozen({}))
            metrics["kl"] = float(divergence.detach().mean())
            extra = self._config.kl * divergence
        groups = torch.tensor([row.group for row in rollout.rows], device=v.device)
        return Term(partial(self._loss, v, old, start, noised, rollout.final, groups), extra, metrics)

    def _frozen_velocity(
        self, current: Policy, noised: Noised, rollout: Rollout, plan: Plan, weights: Copy
    ) -> torch.Tensor:
        """The velocity under a copy of the weights, without gradient; under the frozen reference where it is
        empty."""
        frozen = current.weights.using(weights) if weights else current.weights.reference()
        with torch.no_grad(), frozen:
            return current.generator.velocity(noised.x, noised.sigma, rollout.conditioning, plan.guidance)

    def _noise(self, rollout: Rollout, plan: Plan, number: int) -> Noised:
        """Noise the finished samples; where a group is compared, all of it alike.

        Differences of errors within a group then come from the samples and not from the draw.
        """
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
        start: torch.Tensor | None,
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
                    if config.hold_clipped is not None and start is not None:
                        drawn = denoising_error(start, noised.target)
                        error = hold_clipped(error, drawn, advantages, config.hold_clipped)
                    loss = dgpo(error, denoising_error(old, noised.target), advantages, groups, beta)
                else:
                    loss = self._preferred(error, old, noised, advantages, usable, groups)
        return loss * usable

    def _preferred(
        self,
        error: torch.Tensor,
        reference: torch.Tensor,
        noised: Noised,
        advantages: torch.Tensor,
        usable: torch.Tensor,
        groups: torch.Tensor,
    ) -> torch.Tensor:
        """Online DPO and RPO: the best against the worst of each group; the loss stands in the best one's
        row."""
        best, worst = pairs_of(advantages, usable, groups)
        frozen = denoising_error(reference, noised.target)
        errors = (error[best], frozen[best], error[worst], frozen[worst])
        if self._config.name == "rpo":
            preferred = torch.sigmoid((advantages[best] - advantages[worst]) / self._config.temperature)
            loss = rpo(*errors, preferred, self._beta)
        else:
            loss = dpo(*errors, self._beta)
        return torch.zeros_like(error).index_add(0, best, loss)
