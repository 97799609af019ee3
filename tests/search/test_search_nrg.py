import pytest
import torch

from mmreward.generator import Conditioning
from mmreward.sampling import solve
from mmreward.search.guided import LatentTerm, PixelTerm, RewardGuided

STD = 0.7
SIGMAS = torch.tensor([0.95, 0.7, 0.4, 0.1])


def gain(s):
    """k in x0_hat = mean + k (x - (1 - s) mean), for x0 ~ N(mean, STD^2)."""
    return (1 - s) * STD**2 / ((1 - s) ** 2 * STD**2 + s**2)


class Normal:
    """The exact flow of x0 ~ N(mean, STD^2), two numbers a row; a row's mean is its prompt."""

    network, parts, lora_targets = torch.nn.Identity(), {}, ()
    steps, guidance, fps = 4, 1.0, None
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, mean=0.0):
        self.mean = mean

    def encode(self, prompts, inputs=()):
        return Conditioning({"shift": torch.tensor([float(prompt) for prompt in prompts])})

    def noise(self, seeds, steps=None):
        return torch.stack([torch.randn(2, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def velocity(self, latents, sigma, conditioning, guidance=1.0):
        s = torch.as_tensor(sigma).expand(len(latents))[:, None]
        mean = self.mean + conditioning.given["shift"][:, None]
        return (latents - mean - gain(s) * (latents - (1 - s) * mean)) / s

    def sigmas(self, steps):
        return torch.linspace(0.99, 0, steps + 1)

    def decode(self, latents):
        return latents


def tilt(latents, sigma, prompts, strength=1.5):
    """ln E[exp(l x0) | x_s], up to a constant."""
    return strength * (gain(sigma)[:, None] * latents).sum(1)


def test_guidance_by_the_exact_value_is_the_flow_of_the_tilted_normal():
    """p(x0) exp(l x0) is N(l STD^2, STD^2)."""
    latents = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    guided = RewardGuided(Normal(), [LatentTerm(tilt)], highest=0.97)
    prompts = ["0", "0", "0", "0"]
    expected = Normal(1.5 * STD**2).velocity(latents, SIGMAS, Normal().encode(prompts))
    torch.testing.assert_close(guided.velocity(latents, SIGMAS, guided.encode(prompts)), expected)


def test_a_reward_of_clean_samples_is_followed_through_x0_hat():
    """d x0_hat / d x = k, so a linear reward of x0_hat is the exact value here."""
    latents = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    guided = RewardGuided(Normal(), [PixelTerm(lambda pixels, prompts: pixels.sum(1), 1.5)], highest=0.97)
    exact = RewardGuided(Normal(), [LatentTerm(tilt)], highest=0.97)
    conditioning = guided.encode(["0"] * 4), exact.encode(["0"] * 4)
    torch.testing.assert_close(
        guided.velocity(latents, SIGMAS, conditioning[0]), exact.velocity(latents, SIGMAS, conditioning[1])
    )


def test_samples_reach_the_tilted_mean():
    guided = RewardGuided(Normal(), [LatentTerm(tilt)], highest=0.999)
    grid = torch.linspace(0.99, 0.0, 60)[:-1]
    with torch.no_grad():
        found = solve(guided, guided.noise(range(2000)), guided.encode(["0"] * 2000), grid)
    assert found.mean() == pytest.approx(1.5 * STD**2, abs=0.05)


def test_terms_add_up_with_their_weights():
    latents, terms = torch.randn(4, 2), [LatentTerm(tilt, 0.5), LatentTerm(tilt, -0.2)]
    both, one = RewardGuided(Normal(), terms), RewardGuided(Normal(), [LatentTerm(tilt, 0.3)])
    torch.testing.assert_close(
        *(g.velocity(latents, SIGMAS, g.encode(["0"] * 4)) for g in (both, one)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("above", "factor"), [("clamp", 4.0), ("skip", 0.0)])
def test_levels_near_one_are_tamed(above, factor):
    latents, levels = torch.randn(2, 2), torch.tensor([1.0, 0.5])
    term = LatentTerm(lambda x, sigma, prompts: x.sum(1))
    guided = RewardGuided(Normal(), [term], highest=0.8, above=above)
    conditioning = guided.encode(["0", "0"])
    shift = guided.velocity(latents, levels, conditioning) - Normal().velocity(
        latents, levels, Normal().encode(["0", "0"])
    )
    torch.testing.assert_close(shift, torch.tensor([[-factor] * 2, [-1.0] * 2]))


def test_rows_find_their_prompts_however_they_are_arranged():
    seen = []

    def note(latents, sigma, prompts):
        seen.append(list(prompts))
        return latents.sum(1)

    guided = RewardGuided(Normal(), [LatentTerm(note)])
    first, second = guided.encode(["1", "2"]), guided.encode(["3", "1"])
    joined = Conditioning.join([first, second])
    guided.velocity(torch.randn(8, 2), 0.5, joined.repeat(2))
    guided.velocity(torch.randn(2, 2), 0.5, joined[torch.tensor([2, 1])])
    assert seen == [["1", "1", "2", "2", "3", "3", "1", "1"], ["3", "2"]]


def test_a_reward_that_is_not_finite_leaves_its_row_alone():
    term = LatentTerm(lambda x, sigma, prompts: torch.where(x[:, 0] > 0, torch.nan, x.sum(1)))
    latents = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    guided = RewardGuided(Normal(), [term])
    shift = guided.velocity(latents, 0.5, guided.encode(["0", "0"])) - Normal().velocity(
        latents, 0.5, Normal().encode(["0", "0"])
    )
    torch.testing.assert_close(shift, torch.tensor([[0.0, 0.0], [-1.0, -1.0]]))
    assert guided.unguided == 1


def test_gradients_flow_through_the_velocity_but_not_through_the_guidance():
    guided, latents = RewardGuided(Normal(), [LatentTerm(tilt)]), torch.randn(2, 2, requires_grad=True)
    plain = Normal().velocity(latents, 0.5, Normal().encode(["0", "0"]))
    (expected,) = torch.autograd.grad(plain.sum(), latents)
    (found,) = torch.autograd.grad(guided.velocity(latents, 0.5, guided.encode(["0", "0"])).sum(), latents)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        assert not guided.velocity(latents, 0.5, guided.encode(["0", "0"])).requires_grad


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="at least one term"):
        RewardGuided(Normal(), [])
    with pytest.raises(ValueError, match="between 0 and 1, not 1"):
        RewardGuided(Normal(), [LatentTerm(tilt)], highest=1.0)
    with pytest.raises(ValueError, match="clamp or skip"):
        RewardGuided(Normal(), [LatentTerm(tilt)], above="drop")
    with pytest.raises(ValueError, match="make it with RewardGuided"):
        RewardGuided(Normal(), [LatentTerm(tilt)]).velocity(torch.randn(1, 2), 0.5, Normal().encode(["0"]))
