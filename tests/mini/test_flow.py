import itertools

import numpy as np
import pytest
import torch

from mmreward.generators.mini_flow import MiniFlow
from mmreward.mini import flow, oracle
from mmreward.sampling import media, sample

PROMPTS = ["a red circle", "two blue squares", "a green triangle above a yellow circle", "a cyan square"]


@pytest.fixture(scope="module")
def generator() -> MiniFlow:
    return MiniFlow()


def test_fold_and_back():
    pixels = torch.rand(2, 3, flow.SIZE, flow.SIZE)
    torch.testing.assert_close(flow.unfold(flow.fold(pixels)), pixels)


def test_noise_depends_on_its_seed_alone(generator):
    noise = generator.noise([5, 6, 5])
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(generator.noise([6])[0], noise[1])


def test_same_picture_alone_and_in_a_batch(generator):
    with torch.inference_mode():
        together = _latents(generator, PROMPTS, [1, 2, 3, 4])
        alone = torch.cat([_latents(generator, [p], [s]) for p, s in zip(PROMPTS, [1, 2, 3, 4], strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)


def _latents(generator: MiniFlow, prompts: list[str], seeds: list[int]) -> torch.Tensor:
    latents, conditioning, levels = generator.noise(seeds), generator.encode(prompts), generator.sigmas(6)
    for now, after in itertools.pairwise(levels):
        latents = latents + (after - now) * generator.velocity(latents, now, conditioning, 3.0)
    return generator.decode(latents)


def test_sigmas_are_those_of_the_saved_scheduler(generator):
    generator.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 10, 10).tolist())
    torch.testing.assert_close(generator.scheduler.sigmas, generator.sigmas(10))


def test_guidance_one_is_the_plain_velocity(generator):
    latents, conditioning = generator.noise([1, 2]), generator.encode(PROMPTS[:2])
    with torch.inference_mode():
        plain = generator.velocity(latents, 0.5, conditioning)
        almost = generator.velocity(latents, torch.tensor([0.5, 0.5]), conditioning, 1 + 1e-6)
    torch.testing.assert_close(plain, almost, atol=1e-3, rtol=0)


def test_lora_targets_exist_and_gradients_flow(generator):
    names = [name for name, _ in generator.network.named_modules()]
    assert all(any(name.endswith(target) for name in names) for target in generator.lora_targets)
    latents = generator.noise([1]).requires_grad_()
    pixels = generator.decode(latents - generator.velocity(latents, 1.0, generator.encode(["a red circle"])))
    pixels.sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_samples_show_their_prompts(generator):
    captions = flow.held_out(48, seed=77)
    pixels = sample(generator, [str(c) for c in captions], list(range(48)))
    pictures = [one.picture() for one in media(pixels)]
    assert all(picture.size == (flow.SIZE, flow.SIZE) for picture in pictures)
    f1 = np.mean([oracle.judge(p, c).f1 for p, c in zip(pictures, captions, strict=True)])
    assert f1 > 0.7


def test_wrong_arguments_are_named(generator):
    with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
        sample(generator, ["a red circle"] * 2, [1])
    with pytest.raises(ValueError, match="steps must be at least 1"):
        sample(generator, ["a red circle"], [1], steps=0)


def test_missing_folder_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"mmreward\.mini\.train flow"):
        flow.load(tmp_path)


def test_training_runs_resumes_and_saves(tmp_path):
    for scale in (0.0007, 0.001):
        flow.train(tmp_path, scale, seed=0)
    pictures = flow.draw(flow.load(tmp_path / "mini-flow"), ["a red circle"], [0], steps=2)
    assert pictures[0].size == (32, 32)
