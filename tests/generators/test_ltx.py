"""LTX-Video's own parts: the decoder that denoises, the schedule by length, the pinned first frame."""

import pytest
import torch
from diffusers import LTXImageToVideoPipeline, LTXVideoTransformer3DModel
from support.clip_pipelines import PROMPTS, ltx, pictures

from mmreward.generators.ltx import LTX, LTXImageToVideo
from mmreward.sampling import sample, solve

SMALL = {"height": 32, "width": 32, "frames": 5}


def test_a_denoising_decoder_agrees_with_the_pipeline():
    pipe = ltx(denoising_vae=True)
    generator = LTX(pipe, **SMALL, decode_timestep=0.1, decode_noise_scale=0.3)
    with torch.no_grad():
        ours = sample(generator, PROMPTS[:1], [7], steps=2, guidance=1.0)
    latents = generator.noise([7]).flatten(2).transpose(1, 2)
    torch.manual_seed(0)  # for the noise inside the decoder; that of the latents has a generator
    theirs = pipe(
        prompt=PROMPTS[0],
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=2,
        guidance_scale=1.0,
        latents=latents,
        generator=torch.Generator().manual_seed(0),
        decode_timestep=0.1,
        decode_noise_scale=0.3,
        output_type="pt",
    ).frames
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_denoising_decoder_is_a_function_of_the_latents():
    generator = LTX(ltx(denoising_vae=True), **SMALL)
    latents = generator.noise([1, 2])
    with torch.no_grad():
        pixels = generator.decode(latents)
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        again = torch.cat([generator.decode(latents[:1]), generator.decode(latents[1:])])
        assert torch.equal(torch.rand(1), expected)  # what others draw is not disturbed
    torch.testing.assert_close(pixels, again, atol=1e-5, rtol=0)


def test_longer_clips_stay_at_high_noise_for_longer():
    short, long = (LTX(ltx(), height=64, width=64, frames=frames).sigmas(8) for frames in (5, 61))
    assert (long[1:-2] > short[1:-2]).all()
    torch.testing.assert_close(short[-2:], torch.tensor([0.1, 0.0]))  # as the scheduler's shift_terminal


def test_one_step_goes_all_the_way():
    assert LTX(ltx(), **SMALL).sigmas(1).tolist() == [1, 0]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_clip_too_long_for_its_scheduler_is_refused():
    with pytest.raises(ValueError, match=r"finds no noise levels for .* make a smaller clip"):
        LTX(ltx(), height=256, width=256, frames=61).sigmas(8)


def test_the_clip_begins_with_its_picture():
    generator = LTXImageToVideo(ltx(LTXImageToVideoPipeline), **SMALL)
    conditioning = generator.encode(PROMPTS, pictures(2))
    with torch.no_grad():
        final = solve(generator, generator.noise([1, 2]), conditioning, generator.sigmas(4), 3.0)
    torch.testing.assert_close(final[:, :, :1], conditioning.given["frame"], atol=1e-5, rtol=0)


def test_the_picture_is_encoded_as_the_pipeline_does():
    pipe = ltx(LTXImageToVideoPipeline)
    generator = LTXImageToVideo(pipe, **SMALL)
    shown = pictures(1, size=50)
    frame = generator.encode(PROMPTS[:1], shown).given["frame"]
    image = pipe.video_processor.preprocess(shown[0][0].picture(), height=32, width=32)
    with torch.no_grad():
        mode = pipe.vae.encode(image.unsqueeze(2)).latent_dist.mode()
    theirs = pipe._normalize_latents(mode, pipe.vae.latents_mean, pipe.vae.latents_std)
    torch.testing.assert_close(frame, theirs)


def test_the_frame_rate_is_told_to_the_network():
    slow, fast = (LTX(ltx(), **SMALL, fps=fps) for fps in (8, 30))
    assert (slow.fps, fast.fps, LTX(ltx(), **SMALL).fps) == (8, 30, 25)
    with torch.no_grad():
        velocities = [g.velocity(g.noise([1]), 0.5, g.encode(PROMPTS[:1])) for g in (slow, fast)]
    assert (velocities[0] - velocities[1]).abs().max() > 1e-5


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="frames must be 1 more than 4 times n, not 6: 5"):
        LTX(ltx(), frames=6)
    pipe = ltx()
    pipe.transformer = LTXVideoTransformer3DModel(
        patch_size=2, num_layers=1, num_attention_heads=1, attention_head_dim=12, cross_attention_dim=12
    )
    with pytest.raises(ValueError, match="patches of 1 x 2"):
        LTX(pipe, **SMALL)
