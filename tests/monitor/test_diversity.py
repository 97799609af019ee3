from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from mmreward.monitor.pictures import across_groups, thumbnails, within_groups


def distance(rows: torch.Tensor, i: int, j: int) -> float:
    return 1 - cosine_similarity(rows[i], rows[j], dim=0).item()


@given(
    groups=st.lists(st.integers(0, 4), min_size=4, max_size=20).filter(
        lambda ids: 1 < len(set(ids)) < len(ids)
    ),
    seed=st.integers(0, 1000),
)
def test_same_as_comparing_every_pair(groups, seed):
    rows = torch.randn(len(groups), 5, generator=torch.Generator().manual_seed(seed)).double()
    pairs = list(combinations(range(len(groups)), 2))
    inside: dict[int, list[float]] = {}
    for i, j in pairs:
        if groups[i] == groups[j]:
            inside.setdefault(groups[i], []).append(distance(rows, i, j))
    means = [sum(values) / len(values) for values in inside.values()]
    assert within_groups(rows, groups) == pytest.approx(sum(means) / len(means), abs=1e-9)
    apart = [distance(rows, i, j) for i, j in pairs if groups[i] != groups[j]]
    assert across_groups(rows, torch.tensor(groups)) == pytest.approx(sum(apart) / len(apart), abs=1e-9)


def test_collapse_inside_groups_is_not_one_across_them():
    prompts = torch.eye(3).repeat_interleave(4, 0)
    ids = [0] * 4 + [1] * 4 + [2] * 4
    assert within_groups(prompts, ids) == pytest.approx(0, abs=1e-12)
    assert across_groups(prompts, ids) == pytest.approx(1)
    assert within_groups(3 * prompts, ids) == pytest.approx(0, abs=1e-12)  # lengths do not count


def test_rows_that_failed_are_left_out():
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([7, 7, 7, 2**60, 2**60, 2**60 + 1])
    broken = torch.cat([rows, torch.full((2, 4), torch.nan)])
    more = torch.cat([ids, torch.tensor([7, 5])])
    assert within_groups(broken, more) == within_groups(rows, ids)
    assert across_groups(broken, more) == across_groups(rows, ids)


def test_thumbnails_see_layout_and_colour():
    pixels = torch.zeros(4, 3, 32, 32)
    pixels[1] = 1
    pixels[2, 0] = 1
    pixels[3, 0, :, :16] = 1
    rows = thumbnails(pixels)
    assert rows.shape == (4, 6 * 64)
    assert distance(rows, 0, 0) == pytest.approx(0, abs=1e-6)
    assert distance(rows, 0, 1) == pytest.approx(1)
    assert distance(rows, 0, 2) == pytest.approx(1 / 3, abs=1e-6)
    assert distance(rows, 2, 3) == pytest.approx(1 / 6, abs=1e-6)


def test_wrong_arguments_are_named():
    rows = torch.randn(3, 4)
    with pytest.raises(ValueError, match="no group has two samples"):
        within_groups(rows, [0, 1, 2])
    with pytest.raises(ValueError, match=r"1 group\(s\): diversity across prompts"):
        across_groups(rows, [0, 0, 0])
    with pytest.raises(ValueError, match=r"embeddings \(3, 4\) and groups \(2,\)"):
        within_groups(rows, [0, 0])
    with pytest.raises(ValueError, match="length 0 has no direction"):
        within_groups(torch.zeros(3, 4), [0, 0, 0])
    with pytest.raises(ValueError, match=r"must be \(N, 3, H, W\)"):
        thumbnails(rows)
