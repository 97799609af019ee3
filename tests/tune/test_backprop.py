"""Methods of back-propagation, on a toy whose gradients are known and on mini-flow."""

import itertools

import pytest
import torch

from mmreward import load
from mmreward.generator import Conditioning
from mmreward.generators.mini_flow import MiniFlow
from mmreward.sampling import solve
from mmreward.tune import backprop
from mmreward.tune.backprop import recovered

PROMPTS = ["a red circle", "two blue squares", "a green triangle"]
SIGMAS = torch.linspace(1, 0, 6)


class Toy:
    """Velocity tanh(scale[step] * latents) + 0.1: one parameter a step, whose gradient says which ran.

    `calls` are the noise levels asked for, and whether a graph was built.
    """

    guidance, steps, lora_targets = 1.0, 5, ()
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        self.network = torch.nn.ParameterDict(
            {"scale": torch.nn.Parameter(torch.tensor([0.9, -0.4, 0.3, 0.7, -0.2]))}
        )
        self.calls: list[tuple[float, bool]] = []

    def velocity(self, latents, sigma, conditioning, guidance=1.0):
        level = torch.as_tensor(sigma)
        self.calls.append((round(float(level.flatten()[0]), 4), torch.is_grad_enabled()))
        step = ((1 - level) * 5).round().long().clamp(0, 4)
        scale = self.network["scale"][step]
        return torch.tanh(scale.reshape(-1, *[1] * (latents.ndim - 1)) * latents) + 0.1

    def decode(self, latents):
        return latents


class Exact(Toy):
    """Knows the one picture there is: v = (x - x0) / s."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def velocity(self, latents, sigma, conditioning, guidance=1.0):
        level = torch.as_tensor(sigma).reshape(-1, *[1] * (latents.ndim - 1))
        return (latents - self.clean) / level * (1 + 0 * self.network["scale"].sum())


def inputs(rows=3):
    latents = torch.randn(rows, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return Conditioning({"hidden": torch.zeros(rows, 1)}), latents


def brightness(pixels, prompts):
    return pixels.flatten(1).sin().mean(1)


def gradient(toy):
    return torch.zeros(5) if toy.network["scale"].grad is None else toy.network["scale"].grad


def run(method, toy, **options):
    given, latents = inputs()
    outcome = method(toy, given, latents, SIGMAS, brightness, PROMPTS, **options)
    outcome.mean().backward()
    return outcome


@pytest.mark.parametrize("last", [1, 2, 4, 5])
def test_draft_reaches_the_last_steps_and_no_other(last):
    toy = Toy()
    outcome = run(backprop.draft, toy, last=last)
    assert [with_graph for _, with_graph in toy.calls] == [False] * (5 - last) + [True] * last
    assert ((gradient(toy) != 0) == (torch.arange(5) >= 5 - last)).all()
    assert len(outcome.visits) == last
    assert [float(seen.sigma) for seen in outcome.visits] == pytest.approx(SIGMAS[5 - last : 5].tolist())


def test_draft_over_all_steps_is_plain_back_propagation():
    toy, plain = Toy(), Toy()
    outcome = run(backprop.draft, toy, last=5)
    given, latents = inputs()
    rewards = brightness(solve(plain, latents, given, SIGMAS), PROMPTS)
    (-rewards).mean().backward()
    torch.testing.assert_close(outcome.rewards, rewards.detach())
    torch.testing.assert_close(gradient(toy), gradient(plain))


def test_checkpointing_gives_the_same_gradient_for_more_forwards():
    toy, kept = Toy(), Toy()
    run(backprop.draft, toy, last=3, recompute=True)
    run(backprop.draft, kept, last=3)
    torch.testing.assert_close(gradient(toy), gradient(kept))
    assert (len(kept.calls), len(toy.calls)) == (5, 5 + 3)


def test_align_prop_is_draft_with_a_drawn_number_of_steps():
    depths = set()
    for seed in range(20):
        toy, same = Toy(), Toy()
        last = int(run(backprop.align_prop, toy, seed=seed, low=2, high=4).metrics["steps"])
        run(backprop.draft, same, last=last)
        torch.testing.assert_close(gradient(toy), gradient(same))
        depths.add(last)
    assert depths == {2, 3, 4}


def test_draft_lv_with_one_copy_is_draft_1_and_with_more_still_one_step_deep():
    one, plain, many = Toy(), Toy(), Toy()
    run(backprop.draft_lv, one, seeds=[1, 2, 3], copies=1)
    run(backprop.draft, plain, last=1)
    torch.testing.assert_close(gradient(one), gradient(plain))
    outcome = run(backprop.draft_lv, many, seeds=[1, 2, 3], copies=4)
    assert (gradient(many)[:4] == 0).all() and gradient(many)[4] != 0
    assert len(outcome.visits) == 4 and outcome.loss.shape == (3,)
    again = [seen.latents for seen in outcome.visits[1:]]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(again, 2))


def test_draft_lv_noises_the_finished_picture_back_to_the_last_level():
    given, _ = inputs(2)
    clean, latents = torch.full((2, 3, 40, 40), 0.7), torch.randn(2, 3, 40, 40)
    outcome = backprop.draft_lv(
        Exact(clean), given, latents, SIGMAS, brightness, PROMPTS[:2], seeds=[5, 6], copies=2
    )
    noise = (outcome.visits[1].latents - 0.8 * clean) / 0.2
    assert noise.mean().abs() < 0.05 and noise.std() == pytest.approx(1, abs=0.05)


def test_draft_lv_has_less_variance_than_draft_1():
    """Over seeds, the gradient of one batch of re-noised copies spreads less than that of a single one."""

    def spread(copies):
        found = []
        for seed in range(24):
            toy = Toy()
            given, _ = inputs(1)
            start = torch.randn(1, 3, 1, 1, generator=torch.Generator().manual_seed(seed))
            backprop.draft_lv(
                toy, given, start, SIGMAS[-2:], brightness, PROMPTS[:1], seeds=[seed], copies=copies
            ).mean().backward()
            found.append(gradient(toy)[4])
        return torch.stack(found).std()

    assert spread(16) < spread(1)


@pytest.mark.parametrize("seed", range(6))
def test_refl_learns_from_one_late_step_alone(seed):
    toy = Toy()
    outcome = run(backprop.refl, toy, seed=seed, low=2, high=4)
    step = int(outcome.metrics["step"])
    assert 2 <= step <= 4 and len(toy.calls) == step + 1
    assert ((gradient(toy) != 0) == (torch.arange(5) == step)).all()
    assert outcome.metrics["sigma"] == pytest.approx(float(SIGMAS[step]))


def test_refl_draws_every_step_of_its_range_and_the_last_quarter_by_default():
    given, latents = inputs()
    steps = {
        backprop.refl(Toy(), given, latents, SIGMAS, brightness, PROMPTS, seed=seed).metrics["step"]
        for seed in range(20)
    }
    assert steps == {3, 4}


def test_refl_judges_the_promised_picture_and_leaves_rows_above_the_margin_alone():
    given, latents = inputs()
    clean = torch.stack([torch.full((3, 4, 4), value) for value in (0.1, 0.5, 1.2)])
    outcome = backprop.refl(
        Exact(clean),
        given,
        latents,
        SIGMAS,
        brightness,
        PROMPTS,
        seed=0,
        low=1,
        high=1,
        margin=0.6,
        scale=0.5,
    )
    want = brightness(clean, PROMPTS)
    torch.testing.assert_close(outcome.rewards, want)
    torch.testing.assert_close(outcome.loss, 0.5 * (0.6 - want).clamp(min=0))
    assert float(outcome.loss[2].detach()) == 0


@pytest.mark.parametrize("stride", [0.05, 0.3, 1.0])
def test_direct_align_gets_back_to_the_picture_from_any_level_when_the_velocity_is_right(stride):
    clean = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    given, _ = inputs(64)
    seen = []

    def watch(pixels, prompts):
        seen.append(pixels.detach())
        return brightness(pixels, prompts)

    outcome = backprop.direct_align(
        Exact(clean),
        given,
        clean,
        watch,
        ["a red circle"] * 64,
        seeds=range(64),
        low=0.05,
        high=1.0,
        stride=stride,
    )
    torch.testing.assert_close(seen[0], clean, atol=1e-4, rtol=1e-4)
    levels = outcome.visits[0].sigma
    assert levels.min() < 0.2 and levels.max() > 0.8


def test_direct_align_never_steps_below_no_noise():
    """A stride longer than the level ends at 0, where x0_hat is x - s v whatever the noise was."""
    given, clean = inputs()
    toy, seen = Toy(), []

    def watch(pixels, prompts):
        seen.append(pixels.detach())
        return brightness(pixels, prompts)

    outcome = backprop.direct_align(
        toy, given, clean, watch, PROMPTS, seeds=[1, 2, 3], low=0.3, high=0.5, stride=1.0
    )
    (visit,) = outcome.visits
    level = visit.sigma.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(seen[0], visit.latents - level * visit.velocity.detach())


def test_what_is_recovered_is_off_by_the_error_of_the_velocity_alone():
    """(s - s') / (1 - s') times the error, with its sign turned."""
    clean, noise, error = torch.tensor([2.0]), torch.tensor([-1.0]), torch.tensor([0.3])
    now, after = torch.tensor(0.7), torch.tensor(0.6)
    noisy = (1 - now) * clean + now * noise
    stepped = noisy + (after - now) * (noise - clean + error)
    torch.testing.assert_close(recovered(stepped, noise, after), clean - (0.1 / 0.4) * error)


def test_a_relative_reward_cancels_what_does_not_depend_on_the_words():
    def biased(pixels, prompts):
        words = torch.tensor([float(prompt.startswith("good")) for prompt in prompts])
        return 100 * pixels.flatten(1).mean(1) + words * pixels.flatten(1).amax(1)

    pixels = torch.rand(3, 3, 4, 4)
    difference = backprop.relative(biased, "good", "bad")(pixels, PROMPTS)
    torch.testing.assert_close(difference, pixels.flatten(1).amax(1), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="always 0"):
        backprop.relative(biased, "good", "good")


def test_ctrl_u_compares_two_neighbouring_levels_with_the_same_noise():
    given, clean = inputs()
    toy = Toy()
    outcome = backprop.ctrl_u(toy, given, clean, brightness, PROMPTS, seeds=[1, 2, 3], highest=0.4, gap=0.01)
    first, second = outcome.visits
    assert (first.sigma >= 0).all() and (first.sigma < 0.4).all()
    torch.testing.assert_close(second.sigma, first.sigma + 0.01)
    level, above = (seen.sigma.reshape(-1, 1, 1, 1) for seen in outcome.visits)
    noise = (second.latents - (1 - above) * clean) / above
    torch.testing.assert_close(first.latents, (1 - level) * clean + level * noise, atol=1e-5, rtol=1e-4)
    outcome.mean().backward()
    assert gradient(toy).abs().sum() > 0


def test_ctrl_u_golden_and_over_maps():
    """weight(u) * -r + u with u = |r - r'| : r = 1, 3; r' = 2, 3 -> -exp(-1) + 1 and -3."""
    given, clean = inputs(1)
    answers = iter([torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 3.0]])])
    outcome = backprop.ctrl_u(
        Toy(), given, clean, lambda pixels, prompts: next(answers), PROMPTS[:1], seeds=[0]
    )
    assert float(outcome.loss[0]) == pytest.approx((1 - 0.367879441 - 3) / 2)
    assert float(outcome.rewards[0]) == pytest.approx(2)
    assert outcome.metrics["disagreement"] == pytest.approx(0.5)


def test_an_agreeing_pair_costs_what_the_plain_reward_costs():
    given, _ = inputs()
    clean = torch.randn(3, 3, 4, 4)
    outcome = backprop.ctrl_u(Exact(clean), given, clean, brightness, PROMPTS, seeds=[1, 2, 3])
    torch.testing.assert_close(outcome.loss, -brightness(clean, PROMPTS), atol=2e-3, rtol=0)


METHODS = [
    (backprop.draft, {}),
    (backprop.draft_lv, {"seeds": [4, 5, 6]}),
    (backprop.align_prop, {"seed": 3}),
    (backprop.refl, {"seed": 3}),
]


@pytest.mark.parametrize(("method", "options"), METHODS, ids=lambda value: getattr(value, "__name__", ""))
def test_equal_arguments_give_equal_numbers(method, options):
    torch.manual_seed(1)
    first = run(method, Toy(), **options)
    torch.manual_seed(2)
    second = run(method, Toy(), **options)
    assert torch.equal(first.loss, second.loss)


@pytest.mark.parametrize(("method", "options"), METHODS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_row_without_a_reward_stays_nan_and_out_of_the_mean(method, options):
    def patchy(pixels, prompts):
        values = brightness(pixels, prompts)
        missing = torch.tensor([prompt == PROMPTS[1] for prompt in prompts])
        return values.masked_fill(missing, torch.nan)

    given, latents = inputs()
    toy = Toy()
    outcome = method(toy, given, latents, SIGMAS, patchy, PROMPTS, **options)
    assert outcome.rewards.isnan().tolist() == outcome.loss.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(outcome.mean(), outcome.loss[[0, 2]].mean())
    outcome.mean().backward()
    assert gradient(toy).isfinite().all() and gradient(toy).abs().sum() > 0
    blind = method(
        toy,
        given,
        latents,
        SIGMAS,
        lambda pixels, _: pixels.flatten(1).mean(1) * torch.nan,
        PROMPTS,
        **options,
    )
    with pytest.raises(ValueError, match="none of the 3 rows"):
        blind.mean()


def test_a_visit_is_all_that_a_penalty_on_the_velocity_needs():
    toy, reference = Toy(), Toy()
    with torch.no_grad():
        reference.network["scale"] += 0.1
    given, latents = inputs()
    seen = backprop.draft(toy, given, latents, SIGMAS, brightness, PROMPTS, last=2).visits[-1]
    assert not seen.latents.requires_grad
    theirs = reference.velocity(seen.latents, seen.sigma, seen.conditioning)
    (seen.velocity - theirs.detach()).square().mean().backward()
    assert gradient(toy)[4] < 0


def test_wrong_arguments_are_named():
    given, latents = inputs()
    fixed = (Toy(), given, latents, SIGMAS, brightness, PROMPTS)
    for last in (0, 6):
        with pytest.raises(ValueError, match=f"from 1 to the 5 steps there are, not {last}"):
            backprop.draft(*fixed, last=last)
    with pytest.raises(ValueError, match="low 3 and high 2"):
        backprop.align_prop(*fixed, seed=0, low=3, high=2)
    with pytest.raises(ValueError, match="low 0 and high 5"):
        backprop.refl(*fixed, seed=0, low=0, high=5)
    with pytest.raises(ValueError, match="3 rows but 2 seeds"):
        backprop.draft_lv(*fixed, seeds=[1, 2])
    with pytest.raises(ValueError, match="copies"):
        backprop.draft_lv(*fixed, seeds=[1, 2, 3], copies=0)
    with pytest.raises(ValueError, match="3 pictures but 1 prompts"):
        backprop.draft(*fixed[:-1], PROMPTS[:1])
    with pytest.raises(ValueError, match=r"the reward gave \(3, 3, 4, 4\)"):
        backprop.draft(*fixed[:-2], lambda pixels, prompts: pixels, PROMPTS)
    clean = (Toy(), given, latents, brightness, PROMPTS)
    with pytest.raises(ValueError, match="stride"):
        backprop.direct_align(*clean, seeds=[1, 2, 3], stride=0)
    with pytest.raises(ValueError, match="low 0"):
        backprop.direct_align(*clean, seeds=[1, 2, 3], low=0)
    with pytest.raises(ValueError, match="highest 1"):
        backprop.ctrl_u(*clean, seeds=[1, 2, 3], highest=1.0)


def test_a_few_steps_of_draft_raise_the_reward_of_mini_flow():
    generator = MiniFlow()
    generator.network.requires_grad_(True)
    adam = torch.optim.Adam(generator.network.parameters(), lr=1e-4)
    reward = load("clipscore", weights="mini-clip").score_tensor
    given, latents, sigmas = generator.encode(PROMPTS), generator.noise([1, 2, 3]), generator.sigmas(2)
    values = []
    for _ in range(4):
        outcome = backprop.draft(generator, given, latents, sigmas, reward, PROMPTS, last=1)
        values.append(float(outcome.rewards.mean()))
        adam.zero_grad()
        outcome.mean().backward()
        adam.step()
    assert values[-1] > values[0] + 0.02
