"""Every loss raises a reward on a toy: two-dimensional samples, of which the first coordinate should grow."""

from collections.abc import Callable

import pytest
import torch

from mmreward.tune import losses
from mmreward.tune.advantages import best_and_worst, best_shares, group_advantages

GROUPS = torch.arange(16).repeat_interleave(8)


class Flow(torch.nn.Module):
    """The exact velocity for standard normal data, plus something linear to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = torch.nn.Linear(3, 2)
        torch.nn.init.zeros_(self.learned.weight)
        torch.nn.init.zeros_(self.learned.bias)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        exact = (2 * sigma - 1) / ((1 - sigma) ** 2 + sigma**2)
        return exact[:, None] * x + self.learned(torch.cat([x, sigma[:, None]], dim=1))

    @torch.no_grad()
    def draw(self, noise: torch.Tensor, steps: int = 8) -> torch.Tensor:
        x = noise
        for i in range(steps):
            x = x - self(x, torch.full((len(x),), 1 - i / steps)) / steps
        return x


class Round:
    """What a loss may look at: one rollout of the current network, noised, and three networks' velocities."""

    def __init__(self, flow: Flow, reference: Flow, draw: torch.Generator) -> None:
        self.x0 = flow.draw(torch.randn(len(GROUPS), 2, generator=draw))
        scored = group_advantages(self.x0[:, 0].numpy(), GROUPS.numpy())
        self.advantages = torch.tensor(scored.values, dtype=torch.float32)
        self.p = losses.to_probability(self.advantages)
        noise = torch.randn(16, 2, generator=draw).repeat_interleave(8, dim=0)
        self.sigma = torch.rand(16, generator=draw).repeat_interleave(8)
        self.x = (1 - self.sigma[:, None]) * self.x0 + self.sigma[:, None] * noise
        self.target = noise - self.x0
        self.v = flow(self.x, self.sigma)
        self.v_old, self.v_ref = self.v.detach(), reference(self.x, self.sigma).detach()
        self.d = losses.denoising_error(self.v, self.target)
        self.d_ref = losses.denoising_error(self.v_ref, self.target)


def nft(r: Round) -> torch.Tensor:
    return losses.nft(r.v, r.v_old, r.x, r.x0, r.sigma, r.p)


def awm(r: Round) -> torch.Tensor:
    return losses.awm(r.v, r.target, r.sigma, losses.matching_logp(r.v_old, r.target, r.sigma), r.advantages)


def crd(r: Round) -> torch.Tensor:
    q = losses.implicit_reward(r.v, r.v_old, r.target)
    return losses.crd(q, r.p, losses.centres(q, r.p, GROUPS, temperature=0.5))


def dgpo(r: Round) -> torch.Tensor:
    return losses.dgpo(r.d, r.d_ref, r.advantages, GROUPS, beta=10)


def rwr(r: Round) -> torch.Tensor:
    return losses.rwr(r.d, r.advantages)


def sft(r: Round) -> torch.Tensor:
    return losses.sft(r.d, torch.tensor(best_shares(r.x0[:, 0].numpy(), GROUPS.numpy())))


def pair_errors(r: Round) -> tuple[torch.Tensor, ...]:
    best, worst = torch.tensor(best_and_worst(r.x0[:, 0].numpy(), GROUPS.numpy())).T
    return r.d[best], r.d_ref[best], r.d[worst], r.d_ref[worst]


def dpo(r: Round) -> torch.Tensor:
    return losses.dpo(*pair_errors(r), beta=1.0)


def hinge(r: Round) -> torch.Tensor:
    return losses.hinge(*pair_errors(r), beta=1.0)


def ipo(r: Round) -> torch.Tensor:
    return losses.ipo(*pair_errors(r), beta=0.1)


FORWARD = [nft, awm, crd, dgpo, rwr, sft, dpo, hinge, ipo]


@pytest.mark.parametrize("loss", FORWARD, ids=lambda loss: loss.__name__)
def test_loss_without_trajectory_raises_the_reward(loss):
    draw = torch.Generator().manual_seed(0)
    flow, reference = Flow(), Flow()
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss(Round(flow, reference, draw)).mean().backward()
        optimizer.step()
    rewarded, other = flow.draw(torch.randn(512, 2, generator=draw)).mean(0)
    assert rewarded > 0.5
    assert other.abs() < rewarded / 2


def gaussian(x: torch.Tensor, mean: torch.Tensor, std: float) -> torch.Tensor:
    return torch.distributions.Normal(mean, std).log_prob(x).mean(1)


STD = 0.5
GRADIENTS: dict[str, Callable[..., torch.Tensor]] = {
    "ppo": lambda logp, logp_old, new, old, a: losses.ppo(logp, logp_old, a, clip=0.1),
    "guard": lambda logp, logp_old, new, old, a: losses.guard(
        logp, logp_old, new, old, STD, -0.1, a, clip=0.1
    ),
    "dppo": lambda logp, logp_old, new, old, a: losses.dppo(logp, logp_old, new, old, STD, a, threshold=0.01),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_policy_gradient_moves_the_mean_of_a_step(name):
    draw = torch.Generator().manual_seed(0)
    mean = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([mean], lr=0.02)
    for _ in range(40):
        old = mean.detach().clone().expand(len(GROUPS), 2)
        drawn = old + STD * torch.randn(len(GROUPS), 2, generator=draw)
        scored = group_advantages(drawn[:, 0].numpy(), GROUPS.numpy())
        advantages = torch.tensor(scored.values, dtype=torch.float32)
        for _ in range(2):
            new = mean.expand(len(GROUPS), 2)
            logp, logp_old = gaussian(drawn, new, STD), gaussian(drawn, old, STD)
            optimizer.zero_grad()
            GRADIENTS[name](logp, logp_old, new, old, advantages).mean().backward()
            optimizer.step()
    assert mean[0] > 0.5
    assert mean[1].abs() < mean[0] / 2
