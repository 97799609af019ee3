"""Promises of every family of clips, each with a tiny random pipeline in the real format."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers import LTXImageToVideoPipeline, WanImageToVideoPipeline, WanPipeline
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from support.clip_pipelines import PROMPTS, ltx, pictures, wan, wan_image_to_video, wan_per_token
from support.toys import toy

from mmreward import Media, Sample, Score
from mmreward.generator import Generator
from mmreward.generators.clips import ClipSize
from mmreward.generators.ltx import LTX, LTXImageToVideo
from mmreward.generators.wan import Wan, WanImageToVideo
from mmreward.sampling import media, sample, solve

SEEDS = [11, 12]
STEPS = 3


@dataclass
class Case:
    """A generator, the pipeline under it, and the condition pictures of two rows where it takes some."""

    generator: Any
    inputs: list[list[Media]]

    def ours(self, guidance: float, rows: slice = slice(None)) -> torch.Tensor:
        with torch.no_grad():
            return sample(
                self.generator, PROMPTS[rows], SEEDS[rows], STEPS, guidance, inputs=self.inputs[rows]
            )

    def theirs(self, guidance: float, row: int, **more: Any) -> torch.Tensor:
        """One row as the pipeline makes it."""
        size, shown = self.generator.size, {}
        if self.inputs:
            shown["image"] = self.inputs[row][0].picture()
        if isinstance(self.generator, LTX):
            more |= {"frame_rate": self.generator.fps, "latents": self._packed(row)}
        return self.generator.pipe(
            prompt=PROMPTS[row],
            height=size.height,
            width=size.width,
            num_frames=size.frames,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(SEEDS[row]),
            output_type="pt",
            **shown,
            **more,
        ).frames

    def conditioning(self, rows: slice = slice(None)):
        return self.generator.encode(PROMPTS[rows], self.inputs[rows])

    def _packed(self, row: int) -> torch.Tensor:
        """Latents as LTX pipelines take them, our first frame in place: theirs is a draw of the posterior."""
        latents = self.generator.noise([SEEDS[row]])
        if self.inputs:
            latents[:, :, :1] = self.conditioning().given["frame"][row]
        return latents.flatten(2).transpose(1, 2)


SMALL = {"height": 64, "width": 64, "frames": 5}
BUILD = {
    "wan": lambda: Wan(wan(), **SMALL),
    "wan-experts": lambda: Wan(wan(experts=True), **SMALL, guidance_2=2.5),
    "wan-per-token": lambda: Wan(wan_per_token(WanPipeline), **SMALL),
    "wan-picture": lambda: WanImageToVideo(wan_image_to_video(), **SMALL),
    "wan-picture-experts": lambda: WanImageToVideo(wan_image_to_video(clip=False, experts=True), **SMALL),
    "wan-picture-per-token": lambda: WanImageToVideo(wan_per_token(WanImageToVideoPipeline), **SMALL),
    "ltx": lambda: LTX(ltx(), height=32, width=32, frames=9, fps=12),
    "ltx-picture": lambda: LTXImageToVideo(ltx(LTXImageToVideoPipeline), height=32, width=32, frames=9),
}


@pytest.fixture(params=BUILD)
def case(request) -> Case:
    return Case(BUILD[request.param](), pictures(2, 40) if "picture" in request.param else [])


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_clips_are_those_of_the_pipeline(case, guidance):
    ours = case.ours(guidance)
    assert ours.std() > 0.01
    assert (ours[0] - ours[1]).abs().max() > 0.05
    second = {"guidance_scale_2": 2.5} if getattr(case.generator, "guidance_2", None) else {}
    theirs = torch.cat([case.theirs(guidance, row, **second) for row in range(2)])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_same_clip_alone_and_in_a_batch(case):
    together = case.ours(3.0)
    alone = torch.cat([case.ours(3.0, slice(row, row + 1)) for row in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_noise_depends_on_its_seed_alone(case):
    noise = case.generator.noise([5, 6, 5])
    assert noise.dtype == torch.float32
    assert torch.equal(noise[0], noise[2])
    assert torch.equal(case.generator.noise([6])[0], noise[1])


def test_sigmas_fall_from_one_to_zero(case):
    sigmas = case.generator.sigmas(7)
    assert sigmas.dtype == torch.float32
    assert len(sigmas) == 8
    assert (sigmas[0], sigmas[-1]) == (1, 0)
    assert (sigmas.diff() < 0).all()


def test_a_level_per_row_is_the_level_of_each(case):
    latents, conditioning = case.generator.noise(SEEDS), case.conditioning()
    levels = torch.tensor([0.9, 0.2])  # on both sides of the experts' boundary
    with torch.no_grad():
        together = case.generator.velocity(latents, levels, conditioning, 2.0)
        alone = [
            case.generator.velocity(latents[row : row + 1], level, conditioning[row : row + 1], 2.0)
            for row, level in enumerate(levels.tolist())
        ]
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_gradients_reach_noise_and_network(case):
    generator = case.generator
    latents = generator.noise(SEEDS[:1]).requires_grad_()
    final = solve(generator, latents, case.conditioning(slice(1)), generator.sigmas(2), 2.0)
    generator.decode(final)[:, -1].sum().backward()
    assert latents.grad is not None
    assert latents.grad[:, :, -1].abs().sum() > 0
    trained = {name for name, p in generator.network.named_parameters() if p.grad is not None}
    assert trained
    frozen = [part for role, part in generator.parts.items() if role != "network"]
    assert not any(p.requires_grad for part in frozen for p in part.parameters())


def test_lora_goes_to_its_targets_and_counts(case):
    generator = case.generator
    latents, conditioning = generator.noise(SEEDS), case.conditioning()
    with torch.no_grad():
        before = generator.velocity(latents, 0.8, conditioning)
        config = LoraConfig(r=2, target_modules=list(generator.lora_targets))
        generator.network = get_peft_model(generator.network, config)
        untrained = generator.velocity(latents, 0.8, conditioning)
        added = [(name, p) for name, p in generator.network.named_parameters() if "lora_B" in name]
        for _, parameter in added:
            parameter.normal_()
        after = generator.velocity(latents, 0.8, conditioning)
    for target in generator.lora_targets:
        assert any(f"{target}.lora_B" in name for name, _ in added), target
    torch.testing.assert_close(before, untrained)
    assert (after - before).abs().max() > 1e-3


def test_a_network_in_half_precision_leaves_the_mathematics_in_single(case):
    whole = case.generator
    latents = whole.noise(SEEDS)
    with torch.no_grad():
        expected = whole.velocity(latents, 0.8, case.conditioning(), 2.0)
        for name in ("transformer", "transformer_2"):
            if getattr(whole.pipe, name, None) is not None:
                getattr(whole.pipe, name).to(torch.bfloat16)
        half = type(whole)(whole.pipe, **whole.size._asdict(), fps=whole.fps)
        velocity = half.velocity(latents, 0.8, half.encode(PROMPTS, case.inputs), 2.0)
        pixels = half.decode(velocity)
    assert half.dtype == torch.bfloat16
    assert velocity.dtype == pixels.dtype == torch.float32
    assert (velocity - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_wrong_inputs_name_their_row(case):
    if not case.inputs:
        with pytest.raises(ValueError, match=r"row 1 has a condition picture.*use \w+ImageToVideo"):
            case.generator.encode(PROMPTS, [[], pictures(1)[0]])
        return
    with pytest.raises(ValueError, match="2 prompts but 0 rows of inputs"):
        case.generator.encode(PROMPTS)
    with pytest.raises(ValueError, match="row 1 has 0 condition pictures"):
        case.generator.encode(PROMPTS, [case.inputs[0], []])


def test_another_picture_makes_another_clip(case):
    if case.inputs:
        before = case.ours(1.0, slice(1))
        case.inputs.reverse()
        assert (case.ours(1.0, slice(1)) - before).abs().max() > 1e-3


def test_a_reward_for_clips_scores_samples(case, engine):
    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        frames, rate = sample.video.pixels(), sample.video.fps or 0
        return Score(float(frames.float().mean() / 255), {"frames": len(frames), "fps": rate})

    generator: Generator = case.generator
    reward = toy(score, "brightness", needs=("video",))
    pixels = case.ours(1.0)
    shown = media(pixels, generator.fps)
    results = engine.score([Sample(id=str(n), video=clip) for n, clip in enumerate(shown)], {"light": reward})
    for row, result in zip(pixels, results["light"], strict=True):
        assert result.value == pytest.approx(float(row.mean()), abs=3e-3)
        assert result.parts == {"frames": generator.size.frames, "fps": generator.fps}


@given(
    frames=st.integers(-3, 60),
    height=st.integers(-3, 200),
    temporal=st.sampled_from([1, 4, 8]),
    spatial=st.sampled_from([8, 16, 32]),
)
def test_a_refused_size_comes_with_one_that_works(frames, height, temporal, spatial):
    size = ClipSize(frames, height, 64)
    for _ in range(3):
        try:
            grid = size.latent(temporal, spatial, 2)
        except ValueError as error:
            name, near = str(error).split()[0], int(str(error).split()[-1])
            size = size._replace(**{name: near})
        else:
            assert (grid[0] - 1) * temporal + 1 == size.frames
            assert (grid[1] * spatial, grid[2] * spatial) == size[1:]
            return
    pytest.fail(f"{size} is still refused")
