import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from mmreward.tune.losses import design_matrix, disagreement, prefpaint_weight


def test_prefpaint_goldens():
    found = prefpaint_weight(torch.tensor([0.0, 5.0, 14.0, 100.0]))
    torch.testing.assert_close(found, torch.tensor([2.013753, 1.568312, 1.0, 1.0]))
    assert prefpaint_weight(torch.tensor(0.0), offset=2.0) == pytest.approx(2.21)
    with pytest.raises(ValueError, match="least 3 is above most"):
        prefpaint_weight(torch.tensor(0.0), least=3)


def test_the_design_matrix_by_hand():
    seen = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    design = design_matrix(seen, ridge=0.5)
    torch.testing.assert_close(design, torch.tensor([[25.5, 0.0], [0.0, 0.5]], dtype=torch.float64))
    with pytest.raises(ValueError, match="ridge is 0"):
        design_matrix(seen, ridge=0)
    with pytest.raises(ValueError, match=r"give \(N, D\)"):
        design_matrix(seen[0])


def test_disagreement_is_the_divergence_of_the_second_look_from_the_first():
    first, second = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    one, two = (Categorical(logits=look.movedim(1, -1)) for look in (first, second))
    torch.testing.assert_close(disagreement(first, second, 0.5), 0.5 * kl_divergence(two, one))
    assert disagreement(first, first).abs().max() < 1e-6
