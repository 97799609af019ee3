import numpy as np
import pytest

from mmreward.tune.scales import SCALES


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("pickscore/26", 20.8, 0.8),
        ("clip/30", 30.0, 1.0),
        ("hps*100", 0.287, 28.7),
        ("jpeg_kb/-500", 250.0, -0.5),
        ("videoreward_vq", 3.6757 + 2.2476, 1.0),
        ("videoreward_mq", 1.1646, 0.0),
        ("prefpaint", 0.4064 - 2.3021, -1.0),
    ],
)
def test_scales_of_published_recipes(name, raw, expected):
    found = SCALES[name]([raw, np.nan])
    assert found[0] == pytest.approx(expected)
    assert np.isnan(found[1])
