import colorsys

import numpy as np
import pytest
import torch

from mmreward.mini import world
from mmreward.monitor.pictures import colourfulness, grid_energy, high_frequency, saturation


def natural(size: int, number: int = 48, seed: int = 0) -> torch.Tensor:
    """Pictures with the 1/f spectrum of photographs."""
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size))
    frequency[0, 0] = 1 / size
    noise = torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed))
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) / frequency).real
    smooth = (smooth - smooth.mean((2, 3), keepdim=True)) / smooth.std((1, 2, 3), keepdim=True)
    return (0.5 + 0.18 * smooth).clamp(0, 1)


def ruled(pixels: torch.Tensor, period: int, offset: int = 3, strength: float = 0.06) -> torch.Tensor:
    """The pictures with a faint line every `period` pixels."""
    out = pixels.clone()
    out[:, :, offset::period] += strength
    out[:, :, :, offset::period] += strength
    return out.clamp(0, 1)


def scenes(size: int = 64, number: int = 32) -> torch.Tensor:
    rng = np.random.default_rng(0)
    pictures = [np.array(world.render(world.sample_scene(rng), size)) for _ in range(number)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255


def test_colourfulness_is_the_published_formula():
    pixels = torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    expected = []
    for red, green, blue in 255 * pixels.numpy().astype(np.float64):
        rg, yb = red - green, 0.5 * (red + green) - blue
        spread, centre = np.hypot(rg.std(), yb.std()), np.hypot(rg.mean(), yb.mean())
        expected.append(spread + 0.3 * centre)
    assert colourfulness(pixels).tolist() == pytest.approx(expected, rel=1e-5)
    grey = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert colourfulness(grey).abs().max() < 1e-3
    assert (colourfulness(0.5 * pixels + 0.25) / colourfulness(pixels)).tolist() == pytest.approx([0.5] * 3)


def test_saturation_is_that_of_hsv():
    pixels = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    pixels[0, :, 0, 0] = 0  # black has none
    expected = [
        np.mean([colorsys.rgb_to_hsv(*rgb.tolist())[1] for rgb in one.flatten(1).T]) for one in pixels
    ]
    assert saturation(pixels).tolist() == pytest.approx(expected, rel=1e-5)
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 0.4
    assert saturation(red).item() == 1


def test_high_frequency_is_the_strength_of_a_ripple():
    waves = torch.arange(64.0)
    fine, coarse = (0.5 + 0.1 * torch.cos(2 * torch.pi * f * waves) for f in (0.375, 0.125))
    pixels = torch.stack([fine.expand(3, 64, 64), coarse.expand(3, 64, 64).transpose(1, 2)])
    assert high_frequency(pixels).tolist() == pytest.approx([0.1 / 2**0.5, 0.0], abs=1e-6)
    assert high_frequency(pixels, cutoff=0.1).tolist() == pytest.approx([0.1 / 2**0.5] * 2, abs=1e-6)


def test_high_frequency_of_white_noise_is_its_share_of_the_plane():
    pixels = (0.5 + 0.05 * torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    outside = 1 - torch.pi * 0.25**2  # area beyond a quarter of a cycle, of the unit square of frequencies
    expected = 0.05 * outside**0.5
    assert high_frequency(pixels.expand(-1, 3, -1, -1)).mean().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("patch", [8, 16, 14])
def test_grid_is_found_wherever_it_starts(patch):
    plain = natural(128)
    assert grid_energy(plain, patch).mean().item() == pytest.approx(1, abs=0.2)
    for offset in (0, patch // 2, patch - 1):
        assert grid_energy(ruled(plain, patch, offset), patch).mean() > 5


@pytest.mark.parametrize(("size", "patch"), [(64, 8), (64, 16), (32, 8)])
def test_pictures_of_shapes_world_have_no_grid(size, patch):
    plain = scenes(size)
    assert grid_energy(plain, patch).mean() < 1.6
    assert grid_energy(ruled(plain, patch), patch).mean() > 6


def test_patches_of_different_brightness_are_a_grid():
    plain = natural(256, 16)
    steps = 0.04 * torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    blocky = (plain + steps.repeat_interleave(16, 2).repeat_interleave(16, 3)).clamp(0, 1)
    assert grid_energy(blocky, 16).mean() > 3 * grid_energy(plain, 16).mean()


def test_grid_of_another_period_is_not_one_of_8():
    assert grid_energy(ruled(natural(120), 10), 8).mean() < 1.5


def test_grid_grows_with_the_strength_of_its_lines():
    plain = natural(64)
    energies = [grid_energy(ruled(plain, 8, strength=s), 8).mean().item() for s in (0.0, 0.02, 0.05, 0.1)]
    assert energies == sorted(energies)


def test_blank_pictures_have_nothing():
    blank = torch.full((2, 3, 64, 64), 0.3)
    for monitor in (colourfulness, saturation, high_frequency):
        assert monitor(blank).tolist() == pytest.approx([0, 0], abs=1e-4)
    assert grid_energy(blank, 16).tolist() == pytest.approx([1, 1], abs=1e-4)


def test_wrong_arguments_are_named():
    blank = torch.zeros(1, 3, 64, 64)
    for monitor in (colourfulness, saturation, high_frequency, grid_energy):
        with pytest.raises(ValueError, match=r"must be \(N, 3, H, W\), not \(3, 64, 64\)"):
            monitor(blank[0])
        with pytest.raises(ValueError, match=r"in \[0, 1\], not from 0 to 255"):
            monitor(torch.tensor([0.0, 255.0]).expand(1, 3, 64, 2).repeat(1, 1, 1, 32))
        with pytest.raises(ValueError, match="divide by 255"):
            monitor(blank.to(torch.uint8))
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            monitor(blank + torch.nan)
    with pytest.raises(ValueError, match=r"cutoff must lie between 0 and 0\.5"):
        high_frequency(blank, 0.5)
    with pytest.raises(ValueError, match="up to a quarter of the pictures, which are 64x64"):
        grid_energy(blank, 32)
