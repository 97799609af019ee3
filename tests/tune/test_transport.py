import pytest
import torch

from mmreward.models.maps import Transport
from mmreward.tune.fit_maps import learn_transport


def test_a_known_map_is_recovered():
    """Between a Gaussian and itself stretched and moved, the map of least effort is that stretch and move."""
    source = torch.Generator().manual_seed(0)
    stretch, move = torch.tensor([1.5, 0.6]), torch.tensor([1.0, -0.5])

    def texts(count):
        return torch.randn(count, 2, generator=source)

    def images(count):
        return torch.randn(count, 2, generator=source) * stretch + move

    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    transport = learn_transport(texts, images, hidden=24, steps=150, inner=4, batch=128, lr=4e-3)
    assert torch.equal(torch.rand(1), before), "the caller's random numbers were used up"
    test = texts(500)
    error = (transport(test) - (test * stretch + move)).square().mean()
    identity = (test - (test * stretch + move)).square().mean()
    assert float(error) < 0.1 * float(identity)
    right, wrong = transport.quality(test, test * stretch + move), transport.quality(test, -test)
    assert right.shape == (500,) and right.mean() > 0.9 > wrong.mean()


def test_a_fresh_map_is_the_identity():
    texts = torch.randn(4, 6)
    torch.testing.assert_close(Transport(6)(texts), texts)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="texts are 3 wide and images 4"):
        learn_transport(lambda n: torch.rand(n, 3), lambda n: torch.rand(n, 4))
