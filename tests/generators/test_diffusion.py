import copy
import itertools
import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_stable_diffusion import BETAS, DDIM

from mmreward.generators.diffusion import Schedule, spread

STABLE_DIFFUSION = Schedule(DDIMScheduler(**DDIM))
ZERO_SNR = {**DDIM, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}


def test_levels_of_stable_diffusion():
    # The smallest and largest sigma that k-diffusion lists for it.
    ratios = STABLE_DIFFUSION.levels / (1 - STABLE_DIFFUSION.levels)
    assert ratios[0].item() == pytest.approx(0.0292, abs=5e-5)
    assert ratios[-1].item() == pytest.approx(14.6146, abs=5e-4)
    assert (STABLE_DIFFUSION.levels.diff() > 0).all()


def test_velocity_of_one_number():
    # alpha-bar 0.5 is s = 0.5; with x = 1 and noise 0.2, x0 is 1.214213562.
    z = torch.tensor([1 / math.sqrt(2)])
    velocity = STABLE_DIFFUSION.velocity(torch.tensor([0.2]), z, torch.tensor([0.5]))
    assert velocity.item() == pytest.approx(-1.014213562)
    assert (z - 0.5 * velocity).item() == pytest.approx(1.214213562)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_euler_in_s_is_ddim(spacing, prediction, zero_snr):
    if zero_snr and prediction == "epsilon":
        return  # refused, see below
    scheduler = DDIMScheduler(
        **{**DDIM, "timestep_spacing": spacing}, prediction_type=prediction, rescale_betas_zero_snr=zero_snr
    )
    scheduler.set_timesteps(10)
    schedule = Schedule(scheduler)
    sigmas = schedule.sigmas(10)
    assert torch.equal(schedule.timesteps(sigmas[:-1]), scheduler.timesteps.float())
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    z = x * schedule.start(10)
    for timestep, (now, after) in zip(scheduler.timesteps, itertools.pairwise(sigmas), strict=True):
        torch.testing.assert_close(z / spread(now), x, atol=1e-5, rtol=1e-4)
        predicted = torch.sin(3 * x + timestep)
        x = scheduler.step(predicted, timestep, x).prev_sample
        z = z + (after - now) * schedule.velocity(predicted, z, now)
    torch.testing.assert_close(z, x, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("respacing", [None, "use_karras_sigmas", "use_exponential_sigmas"])
def test_euler_in_s_is_the_euler_scheduler(spacing, prediction, respacing):
    options = {respacing: True} if respacing else {}
    scheduler = EulerDiscreteScheduler(
        **BETAS, timestep_spacing=spacing, steps_offset=1, prediction_type=prediction, **options
    )
    scheduler.set_timesteps(7)
    schedule = Schedule(scheduler)
    sigmas = schedule.sigmas(7)
    torch.testing.assert_close(schedule.timesteps(sigmas[:-1]), scheduler.timesteps, atol=5e-3, rtol=0)
    noise = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    x, z = noise * scheduler.init_noise_sigma, noise * schedule.start(7)
    for timestep, (now, after) in zip(scheduler.timesteps, itertools.pairwise(sigmas), strict=True):
        seen = scheduler.scale_model_input(x, timestep)
        torch.testing.assert_close(z / spread(now), seen, atol=1e-5, rtol=1e-4)
        predicted = torch.sin(3 * seen + timestep)
        x = scheduler.step(predicted, timestep, x).prev_sample
        z = z + (after - now) * schedule.velocity(predicted, z, now)
    torch.testing.assert_close(z, x, atol=1e-5, rtol=1e-4)


def test_a_solver_of_higher_order_keeps_its_spacing_but_starts_as_it_does():
    plain = Schedule(PNDMScheduler(**BETAS, steps_offset=1, skip_prk_steps=True))
    assert torch.equal(plain.sigmas(20), STABLE_DIFFUSION.sigmas(20))
    karras = Schedule(DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True))
    like = EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    torch.testing.assert_close(karras.sigmas(20), Schedule(like).sigmas(20))
    assert karras.start(20) == pytest.approx(float(spread(karras.sigmas(20)[0])))


def test_zero_terminal_snr_starts_with_noise_alone():
    schedule = Schedule(DDIMScheduler(**ZERO_SNR, timestep_spacing="trailing"))
    assert schedule.sigmas(4)[0] == 1
    assert schedule.start(4) == 1
    assert schedule.timesteps(torch.ones(1)) == 999
    with pytest.raises(ValueError, match="only noise"):
        Schedule(DDIMScheduler(**{**ZERO_SNR, "prediction_type": "epsilon"}))


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_one_step_models_start_at_the_last_timestep(kind):
    schedule = Schedule(kind(**BETAS, timestep_spacing="trailing", steps_offset=1))
    assert schedule.timesteps(schedule.sigmas(1)).tolist() == [999, 0]
    assert schedule.start(1) == schedule.sigmas(1)[0]


def test_every_whole_timestep_is_found_again():
    for scheduler in (DDIMScheduler(**DDIM), DDIMScheduler(**ZERO_SNR), DDIMScheduler(clip_sample=False)):
        schedule = Schedule(scheduler)
        assert torch.equal(schedule.timesteps(schedule.levels), torch.arange(1000.0))


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8))
def test_timesteps_rise_with_the_level_between_first_and_last(levels):
    timesteps = STABLE_DIFFUSION.timesteps(torch.tensor(sorted(levels)))
    assert (timesteps.diff() >= 0).all()
    assert timesteps.min() >= 0
    assert timesteps.max() <= 999


def test_sigmas_do_not_move_the_scheduler():
    scheduler = EulerDiscreteScheduler(**BETAS)
    before = copy.deepcopy(scheduler.timesteps)
    Schedule(scheduler).sigmas(3)
    assert torch.equal(scheduler.timesteps, before)


def test_what_is_no_vp_model_is_refused():
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no VP noise levels"):
        Schedule(FlowMatchEulerDiscreteScheduler())
    with pytest.raises(ValueError, match="'velocity' is none of epsilon"):
        Schedule(DDIMScheduler(**{**DDIM, "prediction_type": "velocity"}))
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=f"between 1 and 1000, not {steps}"):
            STABLE_DIFFUSION.sigmas(steps)
