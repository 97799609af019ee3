import math

import pytest
import torch

from mmreward.monitor.pictures import HARMFUL, grid_energy, kl_summary, measure, saturation

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


def test_kl_summary():
    kl = torch.arange(101.0).reshape(1, 101)
    assert kl_summary(kl) == {"kl": 50.0, "kl_p95": 95.0, "kl_max": 100.0, "kl_failed": 0.0}
    some = kl_summary(torch.tensor([1.0, torch.nan, 3.0, torch.inf]))
    assert (some["kl"], some["kl_max"], some["kl_failed"]) == (2.0, 3.0, 0.5)
    none = kl_summary(torch.tensor([torch.nan]))
    assert math.isnan(none["kl"])
    assert none["kl_failed"] == 1
    with pytest.raises(ValueError, match="no KL values"):
        kl_summary(torch.empty(0))
