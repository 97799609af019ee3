"""Wan's own parts: its schedulers, its two transformers, its causal VAE and its refusals."""

import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
)
from support.clip_pipelines import PROMPTS, pictures, wan, wan_image_to_video, wan_per_token, wan_transformer

from mmreward.generators.wan import Experts, Wan, WanImageToVideo
from mmreward.sampling import solve

SMALL = {"height": 32, "width": 32, "frames": 5}


def test_shift_of_unipc_bends_the_noise_levels():
    pipe = wan()
    pipe.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    before = pipe.scheduler.sigmas.clone()
    sigmas = Wan(pipe, **SMALL).sigmas(10)
    shifted = torch.tensor([1, 0.9643, 0.9231, 0.8750, 0.8182, 0.75, 0.6667, 0.5625, 0.4286, 0.25, 0])
    torch.testing.assert_close(sigmas, shifted, atol=3e-3, rtol=0)  # it ends one training step before 0
    assert sigmas[0] == 1  # UniPC says 1 - 1e-6, where an SDE step would explode
    torch.testing.assert_close(pipe.scheduler.sigmas, before)


def test_sigmas_of_euler_are_those_of_the_pipeline_and_leave_it_alone():
    pipe = wan(shift=8.0)
    pipe.scheduler.set_timesteps(4)
    expected, steps = pipe.scheduler.sigmas.clone(), pipe.scheduler.num_inference_steps
    generator = Wan(pipe, **SMALL)
    torch.testing.assert_close(generator.sigmas(4), expected)
    generator.sigmas(9)
    assert pipe.scheduler.num_inference_steps == steps


def test_a_scheduler_of_another_kind_is_refused():
    pipe = wan()
    pipe.scheduler = EulerDiscreteScheduler()
    with pytest.raises(ValueError, match="EulerDiscreteScheduler has no flow sigmas; use FlowMatch"):
        Wan(pipe, **SMALL).sigmas(4)


def test_the_low_noise_transformer_sees_low_noise_only():
    generator = Wan(wan(experts=True), **SMALL)
    latents, conditioning = generator.noise([1, 2, 3]), generator.encode([*PROMPTS, PROMPTS[0]])
    levels = torch.tensor([0.3, 0.7, 0.9])  # the boundary is 0.7, and belongs to the high side
    with torch.no_grad():
        before = generator.velocity(latents, levels, conditioning)
        generator.pipe.transformer_2.proj_out.weight.zero_()
        after = generator.velocity(latents, levels, conditioning)
    assert [bool(same) for same in (before == after).flatten(1).all(dim=1)] == [False, True, True]


def test_both_transformers_are_trained():
    generator = Wan(wan(experts=True), **SMALL)
    final = solve(generator, generator.noise([1]), generator.encode(PROMPTS[:1]), generator.sigmas(2))
    final.square().mean().backward()
    names = {name.split(".")[0] for name, p in generator.network.named_parameters() if p.grad is not None}
    assert names == {"high", "low"}
    assert isinstance(generator.network, Experts)


def test_guidance_2_counts_below_the_boundary_only():
    pipe = wan(experts=True)
    latents = Wan(pipe, **SMALL).noise([1, 1])
    velocities = []
    for guidance_2 in (None, 3.0, 5.0):
        generator = Wan(pipe, **SMALL, guidance_2=guidance_2)
        conditioning = generator.encode([PROMPTS[0]] * 2)
        with torch.no_grad():
            velocities.append(generator.velocity(latents, torch.tensor([0.9, 0.4]), conditioning, 3.0))
    same, three, five = velocities
    torch.testing.assert_close(same, three)
    torch.testing.assert_close(three[0], five[0])
    assert (three[1] - five[1]).abs().max() > 1e-4


def test_decoding_is_causal_and_leaves_nothing_behind():
    generator = Wan(wan(), **SMALL)
    latents = torch.randn(1, *generator.shape, requires_grad=True)
    pixels = generator.decode(latents)
    assert pixels.shape == (1, 5, 3, 32, 32)
    (of_first,) = torch.autograd.grad(pixels[:, 0].sum(), latents, retain_graph=True)
    (of_last,) = torch.autograd.grad(pixels[:, -1].sum(), latents)
    assert of_first[:, :, 1:].abs().max() == 0
    assert of_last[:, :, 0].abs().max() > 0  # through the cache
    assert torch.equal(generator.decode(latents), pixels)
    assert all(cached is None for cached in generator.vae._feat_map)


def test_the_clip_of_a_per_token_model_begins_with_its_picture():
    generator = WanImageToVideo(wan_per_token(WanImageToVideoPipeline), height=64, width=64, frames=5)
    conditioning = generator.encode(PROMPTS, pictures(2))
    with torch.no_grad():
        final = solve(generator, generator.noise([1, 2]), conditioning, generator.sigmas(4), 3.0)
    torch.testing.assert_close(final[:, :, :1], conditioning.given["frame"], atol=1e-5, rtol=0)


def test_defaults_are_those_of_the_checkpoint():
    generator = Wan(wan())
    assert (generator.size, generator.fps) == ((81, 480, 832), 16)
    generator = Wan(wan_per_token(WanPipeline))
    assert (generator.size, generator.fps) == ((121, 704, 1280), 24)


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match=r"frames must be 1 more than 4 times n, not 8: 9"):
        Wan(wan(), frames=8)
    with pytest.raises(ValueError, match=r"frames must be .* not 0: 1"):
        Wan(wan(), frames=0)
    with pytest.raises(ValueError, match=r"width must be a multiple of 16, not 100: 96"):
        Wan(wan(), width=100)
    with pytest.raises(ValueError, match="guidance_2 is for a second transformer"):
        Wan(wan(), **SMALL, guidance_2=3.0)
    pipe = wan(experts=True)
    pipe.transformer_2 = None
    with pytest.raises(ValueError, match="no transformer_2"):
        Wan(pipe, **SMALL)


def test_pipelines_of_the_other_task_are_refused():
    with pytest.raises(ValueError, match="takes 12 channels, not 4; use WanImageToVideo"):
        Wan(wan(in_channels=12), **SMALL)
    pipe = wan_image_to_video(clip=False)
    pipe.transformer = wan_transformer()
    with pytest.raises(ValueError, match="takes 4 channels, not 12; use Wan"):
        WanImageToVideo(pipe, **SMALL)


def test_incomplete_image_to_video_pipelines_are_refused():
    pipe = wan_image_to_video()
    pipe.image_encoder = None
    with pytest.raises(ValueError, match="no image_encoder"):
        WanImageToVideo(pipe, **SMALL)
    pipe.transformer = wan_transformer(in_channels=12, pos_embed_seq_len=34, image_dim=4)
    with pytest.raises(ValueError, match="wants a last frame too"):
        WanImageToVideo(pipe, **SMALL)


def test_a_fresh_scheduler_of_the_same_shift_gives_the_same_clip():
    pipe = wan(shift=5.0)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    torch.testing.assert_close(Wan(pipe, **SMALL).sigmas(3), Wan(wan(shift=5.0), **SMALL).sigmas(3))
