import pytest
import torch
from torch.nn import functional as F

from mmreward.models.maps import shifted
from mmreward.tune.fit_maps import learn_bias


def units(count, width, seed):
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_shifted_golden():
    """e = (1, 0), b = (0, .75): e+- = (.8, +-.6), e- + 1.5 (e+ - e-) = (.8, 1.2), of length sqrt(2.08)."""
    moved = shifted(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 0.75]))
    torch.testing.assert_close(moved, torch.tensor([[0.8, 1.2]]) / 2.08**0.5)


def test_no_bias_and_the_middle_change_nothing():
    texts = units(5, 8, 0)
    torch.testing.assert_close(shifted(texts, torch.zeros(8)), texts)
    bias = 0.3 * F.normalize(
        torch.ones(8) - texts[0] * texts[0].sum(), dim=-1
    )  # at a right angle to the text
    torch.testing.assert_close(shifted(texts[:1], bias, weight=0.5), texts[:1])


def test_the_bias_that_was_planted_is_found():
    """Pictures lie where their prompts do, all pushed one way: that way is what the encoder likes anyhow."""
    texts, way = units(200, 16, 1), units(1, 16, 2)[0]
    images = F.normalize(texts + 0.4 * way, dim=-1)
    bias = learn_bias(images, texts, steps=300, batch=64)
    assert float(F.cosine_similarity(bias, way, dim=0)) > 0.95
    assert (images * shifted(texts, bias)).sum(-1).mean() > (images * texts).sum(-1).mean() + 0.03


def test_the_vector_stays_within_its_radius_and_depends_on_the_seed_alone():
    texts, images = units(20, 8, 3), units(20, 8, 4)
    torch.manual_seed(0)
    first = learn_bias(images, texts, steps=100, lr=0.1, radius=0.2)
    torch.manual_seed(1)
    assert torch.equal(first, learn_bias(images, texts, steps=100, lr=0.1, radius=0.2))
    assert float(first.norm()) <= 0.2 + 1e-6
    assert not first.requires_grad


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(3, 8\) and \(4, 8\)"):
        learn_bias(units(3, 8, 0), units(4, 8, 0))
    with pytest.raises(ValueError, match="radius must be between 0 and 1, not 1"):
        learn_bias(units(3, 8, 0), units(3, 8, 0), radius=1)
