"""ReNO on a generator of four numbers a latent, and once on mini-flow."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Sample, Score, load
from mmreward.generator import Conditioning
from mmreward.generators.mini_flow import MiniFlow
from mmreward.sampling import sample
from mmreward.search.job import Spent
from mmreward.search.reno import chi_energy, optimise_noise
from mmreward.search.reno_terms import Reno, Term, Transform

TARGETS = {"low": 0.2, "high": 0.8, "broken": math.nan}


class Toy:
    """Latents (N, 3, 2, 2); the velocity is a fixed share of the latents, a picture their sigmoid."""

    lora_targets = ()
    steps, guidance, fps = 1, 1.0, None
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, level: float = 1.0) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.network.weight, 0.5)
        self.level = level
        self.rows: list[int] = []

    @property
    def parts(self):
        return {"network": self.network}

    def encode(self, prompts, inputs=()):
        target = torch.tensor([[TARGETS[prompt]] for prompt in prompts])
        return Conditioning({"target": target}, {"target": torch.zeros_like(target)})

    def noise(self, seeds, steps=None):
        draws = [torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(draws) * self.level

    def velocity(self, latents, sigma, conditioning, guidance=1.0):
        assert len(conditioning) == len(latents)
        self.rows.append(len(latents))
        return self.network(latents.unsqueeze(-1)).squeeze(-1)

    def sigmas(self, steps):
        return torch.linspace(self.level, 0, steps + 1)

    def decode(self, latents):
        return torch.sigmoid(latents)


def nearness(pixels, prompts):
    """1 where the mean colour is what the prompt asks for, less elsewhere."""
    wanted = torch.tensor([TARGETS[prompt] for prompt in prompts])
    return 1 - (pixels.flatten(1).mean(1) - wanted).square()


def optimise(prompts, generator=None, terms=None, watch=None, seeds=None, **settings):
    samples = [Sample(id=str(i), prompt=prompt) for i, prompt in enumerate(prompts)]
    terms = terms or {"near": Term(nearness)}
    settings = {"iterations": 20, "lr": 20.0, **settings}
    seeds = list(range(len(prompts))) if seeds is None else seeds
    return optimise_noise(generator or Toy(), samples, seeds, terms, Reno(**settings), watch=watch)


def test_chi_energy_golden():
    noise = torch.full((1, 16384), math.sqrt(16383 / 16384), dtype=torch.float64)
    assert 0.01 * float(chi_energy(noise)) == pytest.approx(-712.988118, abs=1e-6)


@given(st.integers(2, 400), st.floats(0.3, 3.0), st.integers(0, 99))
def test_chi_energy_is_least_at_sqrt_d_minus_1(d, scale, seed):
    direction = torch.nn.functional.normalize(
        torch.randn(1, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    at_minimum = (direction * math.sqrt(d - 1)).requires_grad_()
    (gradient,) = torch.autograd.grad(chi_energy(at_minimum).sum(), at_minimum)
    assert gradient.abs().max() < 1e-9
    least, away = chi_energy(at_minimum.detach()), chi_energy(at_minimum.detach() * scale)
    assert float(away) >= float(least) - 1e-9


def test_the_reward_rises_and_the_network_stays_as_it_was():
    generator = Toy()
    before = generator.network.weight.clone()
    found = optimise(["low", "high"], generator)
    near = found.curves.rewards["near"]
    assert (near.amax(0) > near[0]).all()
    assert torch.equal(generator.network.weight, before) and generator.network.weight.grad is None
    assert generator.network.weight.requires_grad


def test_the_best_latents_give_the_best_pixels_again():
    generator = Toy(level=0.9)
    found = optimise(["low", "high"], generator, steps=3)
    samples = [Sample(prompt="low"), Sample(prompt="high")]
    conditioning = generator.encode([sample.prompt for sample in samples])
    latents = found.latents
    for now, after in zip(generator.sigmas(3), generator.sigmas(3)[1:], strict=False):
        latents = latents + (after - now) * generator.velocity(latents, now, conditioning)
    torch.testing.assert_close(generator.decode(latents), found.pixels)
    rewards = nearness(found.pixels, ["low", "high"])
    torch.testing.assert_close(rewards, found.curves.rewards["near"].amax(0))


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_together_as_one_by_one(optimiser):
    settings = {"optimiser": optimiser, "lr": 20.0 if optimiser == "sgd" else 0.2}
    together = optimise(["low", "high", "low"], **settings)
    for row, prompt in enumerate(["low", "high", "low"]):
        alone = optimise([prompt], seeds=[row], **settings)
        torch.testing.assert_close(alone.latents[0], together.latents[row])
        torch.testing.assert_close(alone.curves.loss[:, 0], together.curves.loss[:, row])
        assert alone.best[0] == together.best[row]


def test_the_first_picture_is_that_of_plain_sampling():
    generator = Toy(level=0.9)
    found = optimise(["low", "high"], generator, steps=3, seeds=[4, 5])
    torch.testing.assert_close(found.start, sample(generator, ["low", "high"], [4, 5], steps=3))
    unit = optimise(["low", "high"], steps=3, seeds=[4, 5])
    torch.testing.assert_close(found.curves.norm[0], unit.curves.norm[0])


def test_of_equal_pictures_the_first_is_kept_and_minus_infinity_is_no_loss():
    flat = {"flat": Term(lambda pixels, prompts: pixels.flatten(1).sum(1) * 0)}
    assert optimise(["low"], terms=flat, iterations=4).best == (0,)
    endless = {"endless": Term(lambda pixels, prompts: pixels.flatten(1).sum(1) / 0)}
    assert optimise(["low"], terms=endless, iterations=4).best == (None,)


def test_keep_best_looks_at_the_rewards_alone():
    # So heavy a regulariser shortens or lengthens the noise whatever the reward says about it.
    short = {"regularise": 50.0, "clip": 1.0, "lr": 0.5, "momentum": 0.0}
    found = optimise(["low"], terms={"near": Term(nearness)}, **short)
    near = found.curves.rewards["near"][:, 0]
    assert found.best[0] == int(near.argmax())
    torch.testing.assert_close(nearness(found.pixels, ["low"])[0], near.max())
    away = optimise(["low"], terms={"near": Term(nearness, -1.0)}, iterations=8)
    assert away.best[0] == int(away.curves.rewards["near"][:, 0].argmin())


def test_every_latent_has_its_own_clip():
    loud = {"loud": Term(lambda pixels, prompts: nearness(pixels, prompts) * torch.tensor([1e4, 1.0]))}
    quiet = {"quiet": Term(nearness)}
    settings = {"iterations": 2, "lr": 1.0, "momentum": 0.0, "regularise": 0.0, "clip": 0.05}
    both = optimise(["low", "low"], terms=loud, **settings)
    steps = both.curves.distance[1] * math.sqrt(12)
    assert float(steps[0]) == pytest.approx(0.05, rel=1e-4)
    alone = optimise(["low"], terms=quiet, seeds=[1], **settings).curves.distance[1] * math.sqrt(12)
    torch.testing.assert_close(steps[1:], alone)


def test_the_last_iteration_is_not_stepped():
    found = optimise(["low"], iterations=1)
    assert float(found.curves.distance[0]) == 0.0 and found.best == (0,)
    torch.testing.assert_close(found.pixels, found.start)
    assert found.spent == Spent(forwards=1, backwards=0, decodes=1, calls=1)


def test_a_latent_that_breaks_stops_and_the_others_go_on():
    found = optimise(["low", "broken", "high"], iterations=6)
    alone = optimise(["low"], iterations=6)
    assert found.best[1] is None and "loss of iteration 0 is not finite" in found.stopped[1]
    torch.testing.assert_close(found.pixels[1], found.start[1])
    torch.testing.assert_close(found.latents[0], alone.latents[0])
    assert found.stopped[0] == found.stopped[2] == ""
    assert found.curves.loss[1:, 1].isnan().all() and found.curves.loss[:, 2].isfinite().all()


def test_a_latent_that_breaks_later_keeps_its_last_good_noise():
    limit = optimise(["low"]).curves.rewards["near"][7, 0]

    def fragile(pixels, prompts):
        rewards = nearness(pixels, prompts)
        return torch.where(rewards > limit - 1e-7, torch.tensor(math.nan), rewards)

    found = optimise(["low"], terms={"near": Term(fragile)})
    ended = int(found.curves.loss[:, 0].isfinite().sum())
    assert 0 < ended <= 7 and f"iteration {ended}" in found.stopped[0]
    assert found.best[0] is not None and found.best[0] < ended and found.latents.isfinite().all()


def test_a_gradient_that_is_not_finite_stops_a_latent_too():
    def steep(pixels, prompts):
        rewards = nearness(pixels, prompts)
        return rewards + torch.sqrt((rewards - rewards.detach()).abs())  # value as before, slope 0 / 0

    found = optimise(["low"], terms={"steep": Term(steep)}, iterations=5)
    assert found.best == (0,) and "gradient of iteration 0" in found.stopped[0]


def test_drift_of_the_norm_stops_a_latent():
    free = optimise(["high"], regularise=0.0, iterations=40, lr=40.0)
    assert float((free.curves.norm[:, 0] - 1).abs().max()) > 0.5
    held = optimise(["high"], regularise=0.0, iterations=40, lr=40.0, max_drift=0.5)
    assert "length left its bounds" in held.stopped[0]
    assert held.curves.norm[1:, 0].isfinite().sum() < 39
    assert float((held.curves.norm[1:, 0] - 1).abs().nan_to_num(0).max()) <= 0.5


def test_held_out_rewards_are_seen_and_never_optimised():
    seen = []

    def watch(samples):
        seen.append([sample.image.array().mean() for sample in samples])
        return {"brightness": [Score(float(value) / 255) for value in seen[-1]]}

    watched = optimise(["low", "high"], watch=watch, iterations=8, watch_every=3)
    plain = optimise(["low", "high"], iterations=8)
    assert torch.equal(watched.latents, plain.latents)
    assert list(watched.curves.watched) == [0, 3, 6, 7] and len(seen) == 4
    assert watched.curves.watched[7]["brightness"][0].value == pytest.approx(seen[-1][0] / 255)


def test_a_stopped_latent_is_not_watched():
    def watch(samples):
        return {"one": [Score(1.0) for _ in samples]}

    found = optimise(["low", "broken"], watch=watch, iterations=3)
    assert found.curves.watched[2]["one"][0].ok and found.curves.watched[2]["one"][1] is None


def test_checkpointing_changes_the_cost_and_nothing_else():
    with_it = optimise(["low"], steps=3, checkpoint=True, iterations=5)
    without = optimise(["low"], steps=3, checkpoint=False, iterations=5)
    torch.testing.assert_close(with_it.latents, without.latents)
    assert with_it.spent == Spent(forwards=27, backwards=12, decodes=5, calls=5)
    assert without.spent == Spent(forwards=15, backwards=12, decodes=5, calls=5)


def test_what_is_counted_is_what_the_network_does():
    generator = Toy()
    found = optimise(["low", "high"], generator, steps=2, iterations=4)
    assert sum(generator.rows) == found.spent.forwards


def test_guidance_counts_twice():
    assert optimise(["low"], iterations=1, guidance=2.0).spent.forwards == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, not 0"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"clip": -1.0}, "clip must be above 0"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"regularise": -1.0}, "regularise must be"),
        ({"max_drift": 0.0}, "max_drift must be"),
        ({"optimiser": "lbfgs"}, "'sgd' or 'adam', not 'lbfgs'"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Reno(**settings)


def test_wrong_numbers_of_things_are_named():
    with pytest.raises(ValueError, match="1 samples but 2 seeds"):
        optimise(["low"], seeds=[1, 2])
    with pytest.raises(ValueError, match="0 samples"):
        optimise([])


def test_mini_flow_draws_what_clip_likes_better():
    clip = load("clipscore", weights="mini-clip").score_tensor
    samples = [
        Sample(id="0", prompt="a red circle and a blue square"),
        Sample(id="1", prompt="two cyan squares"),
    ]
    settings = Reno(iterations=4, steps=2, checkpoint=False)
    found = optimise_noise(
        MiniFlow(), samples, [1, 2], {"clip": Term(clip, transform=Transform(1.0))}, settings
    )
    curve = found.curves.rewards["clip"]
    assert (curve[-1] > curve[0]).all()
    assert float((found.curves.norm - 1).abs().max()) < 0.05
