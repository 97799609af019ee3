import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmreward.tune.kernels import shifted
from mmreward.tune.steps import LogitNormal, OnGrid, TimeSampler, Uniform

GRID = tuple(shifted(6, 3).tolist())
SAMPLERS = [
    Uniform(),
    Uniform(stratified=False),
    LogitNormal(),
    LogitNormal(stratified=False),
    OnGrid(GRID),
    OnGrid(GRID, "without"),
    OnGrid(GRID, "forced"),
]


def draw(sampler: TimeSampler, num_rows: int, seed: int = 0) -> torch.Tensor:
    return sampler.sample(num_rows, torch.Generator().manual_seed(seed))


@given(st.sampled_from(SAMPLERS), st.integers(0, 70), st.integers(0, 10_000))
def test_levels_lie_in_range_and_follow_the_generator(sampler, num_rows, seed):
    levels = draw(sampler, num_rows, seed)
    assert levels.shape == (num_rows,)
    assert levels.dtype == torch.float32
    assert ((levels > 0) & (levels <= 1)).all()
    assert torch.equal(levels, draw(sampler, num_rows, seed))


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if getattr(s, "first", "") != "forced"])
def test_rows_are_exchangeable(sampler):
    """No row has levels of its own: its mean over many batches is that of all rows."""
    levels = torch.stack([draw(sampler, 4, seed) for seed in range(3000)])
    torch.testing.assert_close(levels.mean(0), levels.mean().expand(4), atol=0.025, rtol=0)
    assert len({tuple(row.argsort().tolist()) for row in levels}) == 24 or isinstance(sampler, OnGrid)


@pytest.mark.parametrize("stratified", [True, False])
def test_uniform_levels_are_uniform(stratified):
    levels = draw(Uniform(0.2, 0.6, stratified), 20_000).sort().values
    torch.testing.assert_close(levels, torch.linspace(0.2, 0.6, 20_000), atol=6e-3, rtol=0)


def test_stratified_rows_fall_into_one_part_each():
    levels = draw(Uniform(0.2, 1.0), 40).sort().values
    assert torch.equal(((levels - 0.2) / 0.8 * 40).floor(), torch.arange(40.0))


@pytest.mark.parametrize("stratified", [True, False])
def test_logits_are_normal_and_shifted(stratified):
    """A shift by k moves every logit by ln k."""
    levels = draw(LogitNormal(0.3, 0.8, shift=3.0, stratified=stratified), 40_000).double()
    logits = torch.logit(levels)
    assert logits.mean().item() == pytest.approx(0.3 + math.log(3), abs=0.02)
    assert logits.std().item() == pytest.approx(0.8, abs=0.02)
    quantiles = torch.quantile(logits, torch.tensor([0.1587, 0.5, 0.8413], dtype=torch.float64))
    assert quantiles.tolist() == pytest.approx([0.6 - 0.0014, 1.3986, 2.1986], abs=0.05)


def test_logit_normal_levels_are_clamped():
    levels = draw(LogitNormal(std=20.0, low=0.1, high=0.9), 1000)
    assert levels.min().item() == pytest.approx(0.1)
    assert levels.max().item() == pytest.approx(0.9)
    assert (levels == levels.max()).float().mean() > 0.4


@pytest.mark.parametrize("repeats", [1, 3])
def test_grid_levels_are_met_equally_often(repeats):
    assert sorted(draw(OnGrid(GRID), 6 * repeats).tolist(), reverse=True) == sorted(
        list(GRID[:-1]) * repeats, reverse=True
    )
    assert set(draw(OnGrid(GRID, "without"), 5 * repeats).tolist()) == set(GRID[1:-1])


def test_forced_first_level_is_met_exactly_once_in_any_row():
    batches = torch.stack([draw(OnGrid(GRID, "forced"), 3, seed) for seed in range(300)])
    assert torch.equal((batches == 1).sum(1), torch.ones(300, dtype=torch.long))
    assert (batches == 1).sum(0).min() > 60
    assert draw(OnGrid(GRID, "forced"), 1).tolist() == [1.0]


def test_wrong_arguments_are_named():
    for low, high in [(0.0, 1.0), (0.5, 0.4), (0.1, 1.1), (math.nan, 1.0)]:
        with pytest.raises(ValueError, match="0 < low <= high <= 1"):
            Uniform(low, high)
    with pytest.raises(ValueError, match="0 < low <= high <= 1"):
        LogitNormal(low=0.0)
    with pytest.raises(ValueError, match="shift above 0"):
        LogitNormal(shift=0.0)
    for wrong in [(1.0, 0.5), (0.5, 1.0, 0.0), (1000.0, 0.0), (0.0,)]:
        with pytest.raises(ValueError, match="sigmas must fall from at most 1 to 0"):
            OnGrid(wrong)
    with pytest.raises(ValueError, match="first is one of with, without, forced"):
        OnGrid(GRID, "never")
    with pytest.raises(ValueError, match="leaves no level"):
        OnGrid((1.0, 0.0), "without")
