import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from mmreward.tune.losses import bandit_uncertainty, design_matrix, disagreement, prefpaint_weight


def test_prefpaint_goldens():
    found = prefpaint_weight(torch.tensor([0.0, 5.0, 14.0, 100.0]))
    torch.testing.assert_close(found, torch.tensor([2.013753, 1.568312, 1.0, 1.0]))
    assert prefpaint_weight(torch.tensor(0.0), offset=2.0) == pytest.approx(2.21)
    with pytest.raises(ValueError, match="least 3 is above most"):
        prefpaint_weight(torch.tensor(0.0), least=3)


def test_uncertainty_is_large_where_training_had_no_pictures():
    seen = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    design = design_matrix(seen, ridge=0.5)
    torch.testing.assert_close(design, torch.tensor([[25.5, 0.0], [0.0, 0.5]], dtype=torch.float64))
    found = bandit_uncertainty(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]), design)
    torch.testing.assert_close(found, torch.tensor([1 / 25.5, 2.0, math.hypot(3 / 25.5, 8)]))


def test_uncertainty_uses_the_inverse_of_the_whole_matrix():
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    design = design_matrix(features)
    expected = (features.double() @ torch.linalg.inv(design)).norm(dim=1).float()
    torch.testing.assert_close(bandit_uncertainty(features, design), expected)
    with pytest.raises(ValueError, match="ridge is 0"):
        design_matrix(features, ridge=0)
    with pytest.raises(ValueError, match=r"give \(N, D\)"):
        design_matrix(features[0])


def test_disagreement_is_the_divergence_of_the_second_look_from_the_first():
    first, second = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    one, two = (Categorical(logits=look.movedim(1, -1)) for look in (first, second))
    torch.testing.assert_close(disagreement(first, second, 0.5), 0.5 * kl_divergence(two, one))
    assert disagreement(first, first).abs().max() < 1e-6
