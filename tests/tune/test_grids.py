import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmreward.tune.kernels import check, compressed, shifted


def test_golden_shift_3():
    expected = [1, 0.9643, 0.9231, 0.8750, 0.8182, 0.7500, 0.6667, 0.5625, 0.4286, 0.2500, 0]
    assert shifted(10, 3).tolist() == pytest.approx(expected, abs=5e-5)


@given(steps=st.integers(1, 200), shift=st.floats(0.05, 20))
def test_every_shifted_grid_is_a_grid(steps, shift):
    grid = check(shifted(steps, shift))
    assert len(grid) == steps + 1
    assert grid[0] == 1


def test_shift_1_is_even():
    assert torch.equal(shifted(8), torch.linspace(1, 0, 9))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([1.0, 0.5, 0.5, 0.0], r"0.5 is followed by 0.5"),
        ([1.0, float("nan"), 0.0], "followed by nan"),
        ([float("nan"), 0.0], "nan is followed by 0"),
        ([0.0, 1.0], "0 is followed by 1"),
        ([1000.0, 500.0, 0.0], "divide timesteps by 1000"),
        ([1.0, 0.5, 0.1], "end at 0.1"),
        ([0.0], "at least one step"),
        ([[1.0, 0.0]], r"not \(1, 2\)"),
    ],
)
def test_what_is_no_grid(levels, message):
    with pytest.raises(ValueError, match=message):
        check(torch.tensor(levels))


def test_float64_is_no_grid():
    with pytest.raises(ValueError, match=r"sigmas are torch\.float64"):
        check(torch.linspace(1, 0, 5, dtype=torch.float64))


@given(steps=st.integers(1, 60), shift=st.floats(0.2, 8), ratio=st.floats(0.01, 1), data=st.data())
def test_compressed_grid(steps, shift, ratio, data):
    grid = shifted(steps, shift)
    start = data.draw(st.integers(0, steps - 1))
    short = check(compressed(grid, start, ratio))
    assert torch.equal(short[: start + 1], grid[: start + 1])
    assert len(short) - 1 - start == max(1, int((steps - start + 1) * ratio) - 1)


@pytest.mark.parametrize(("steps", "last", "ratio"), [(25, 3, 0.4), (25, 3, 0.2), (16, 1, 0.4), (50, 9, 0.5)])
def test_compressed_has_the_levels_of_mixgrpo_flash(steps, last, ratio):
    """Its rule in words: as many levels, from the one behind the last stochastic step evenly down to 0, then
    shifted; the published loop runs over them."""
    times = torch.linspace(1, 0, steps + 1)
    levels = torch.linspace(times[last + 1].item(), 0, int(max((steps - last) * ratio, 1)))
    grid = shifted(steps, 3)
    short = compressed(grid, last + 1, ratio)
    assert len(short) == last + 1 + len(levels)
    torch.testing.assert_close(short[last + 1 :], 3 * levels / (1 + 2 * levels), atol=2e-3, rtol=0)


def test_compressed_takes_every_other_level():
    grid = shifted(13, 3)
    torch.testing.assert_close(compressed(grid, 5, 5 / 9), torch.cat([grid[:5], grid[5::2]]))
    assert torch.equal(compressed(grid, 4, 1.0), grid)


def test_wrong_arguments_are_named():
    for steps, shift, message in [
        (0, 3.0, "steps must be at least 1, not 0"),
        (4, 0.0, "shift must be positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            shifted(steps, shift)
    with pytest.raises(ValueError, match="start 4 is not one of the 4 steps"):
        compressed(shifted(4), 4)
    with pytest.raises(ValueError, match=r"ratio must lie in \(0, 1\], not 0"):
        compressed(shifted(4), 1, 0.0)
