import math

import pytest
import torch

from mmreward.monitor.pictures import HARMFUL, grid_energy, measure, saturation

IDS = [0, 0, 1, 1]


def pictures(size: int = 64) -> torch.Tensor:
    return torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_means_by_name():
    found = measure(pictures(), IDS)
    assert set(found) == {"colourfulness", "saturation", "high_frequency", *HARMFUL}
    assert found["saturation"] == pytest.approx(saturation(pictures()).mean().item())
    assert found["grid_16"] == pytest.approx(grid_energy(pictures(), 16).mean().item())
    assert all(math.isfinite(value) for value in found.values())


def test_patch_sizes_that_fit_or_were_asked_for():
    names = [name for name in measure(pictures(40), IDS) if name.startswith("grid")]
    assert names == ["grid_8"]
    names = [name for name in measure(pictures(40), IDS, patches=[4, 10]) if name.startswith("grid")]
    assert names == ["grid_4", "grid_10"]
    with pytest.raises(ValueError, match="a patch of 16 px"):
        measure(pictures(40), IDS, patches=[16])


def test_given_embeddings_replace_the_thumbnails():
    embeddings = torch.eye(2).repeat_interleave(2, 0)
    found = measure(pictures(), IDS, embeddings)
    assert found["diversity_within"] == pytest.approx(0, abs=1e-9)
    assert found["diversity_across"] == pytest.approx(1)
    assert measure(pictures(), IDS)["diversity_across"] < 0.5
