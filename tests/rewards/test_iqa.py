"""The reward `iqa` against a stand-in for pyiqa of the same interface, and against pyiqa where it is."""

import sys
import textwrap
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torchvision.transforms import Resize

from mmreward import Engine, Media, Sample, load
from mmreward.models import packaged
from mmreward.models.iqa import Measure

STAND_IN = {
    "__init__.py": "from .api_helpers import create_metric",
    "default_model_configs.py": """
        DEFAULT_CONFIGS = {
            "brightness": {"metric_mode": "NR", "score_range": "0, 1"},
            "neighbours": {"metric_mode": "NR", "score_range": "~0, ~100", "lower_better": True},
            "crops": {"metric_mode": "NR", "score_range": "0, ~"},
            "distance": {"metric_mode": "FR", "score_range": "0, 1", "lower_better": True},
            "several": {"metric_mode": "NR", "score_range": "quality: 0, 1; rank: 0, 2"},
            "fid_inception": {"metric_mode": "NR", "lower_better": True},
            "clipscore": {"metric_mode": "NR"},
        }
    """,
    "api_helpers.py": """
        import torch
        from .default_model_configs import DEFAULT_CONFIGS

        class InferenceModel(torch.nn.Module):
            def __init__(self, name):
                super().__init__()
                self.name, self.gain = name, torch.nn.Parameter(torch.ones(1))
                self.metric_mode = DEFAULT_CONFIGS[name]["metric_mode"]

            def forward(self, target, ref=None):
                assert target.dim() == 4 and 0 <= target.min() and target.max() <= 1
                means = self.gain * target.mean((1, 2, 3))
                if self.name == "brightness":
                    assert target.shape[-1] >= 8, "Input is too small"
                    return means
                if self.name == "neighbours":  # each sees its batch
                    return 100 * means / means.sum() if len(means) > 1 else 50 * means
                if self.name == "crops":
                    return means + torch.rand(len(means))
                if self.name == "distance":
                    return (target - ref).abs().mean((1, 2, 3)), "more"
                return torch.stack([means, means])

        def create_metric(metric_name, as_loss=False, device=None, **kwargs):
            return InferenceModel(metric_name).to(device)
    """,
}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package pyiqa of a few measures, which share the real one's interface."""
    (tmp_path / "pyiqa").mkdir()
    for name, text in STAND_IN.items():
        (tmp_path / "pyiqa" / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyiqa"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyiqa"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def pictures(*sizes, seed=0):
    draw = np.random.default_rng(seed)
    return [Media(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in sizes]


def scores(engine, metric, samples):
    engine.cache.clear()
    return engine.score(samples, load("iqa", metric=metric))["iqa"]


def test_range_and_direction_are_pyiqas(stand_in):
    info = load("iqa", metric="brightness").info
    assert (info.range, info.higher_is_better, info.needs) == ((0.0, 1.0), True, ("image",))
    info = load("iqa", metric="neighbours").info
    assert (info.range, info.higher_is_better) == ((-np.inf, np.inf), False)
    assert load("iqa", metric="crops").info.range == (0.0, np.inf)
    info = load("iqa", metric="distance").info
    assert (info.range, info.needs) == ((-np.inf, np.inf), ("image", "inputs"))
    assert load("iqa", metric="several").info.range == (-np.inf, np.inf)


def test_a_picture_has_one_number_whatever_its_neighbours_and_their_order(stand_in, engine):
    shown = pictures((16, 16), (16, 16), (24, 16), (16, 16))
    samples = [Sample(id=str(n), image=media) for n, media in enumerate(shown)]
    for metric in ("neighbours", "crops"):
        together = scores(engine, metric, samples)
        back = scores(engine, metric, samples[::-1])[::-1]
        for sample, one, other in zip(samples, together, back, strict=True):
            (alone,) = scores(engine, metric, [sample])
            assert alone.value == one.value == other.value
    mean = shown[0].array().mean() / 255
    assert scores(engine, "neighbours", samples)[0].value == pytest.approx(50 * mean, rel=1e-5)


def test_one_that_needs_a_reference_compares_with_the_one_input(stand_in, engine):
    one, other, small = pictures((16, 16), (16, 16), (8, 16))
    samples = [
        Sample(id="fine", image=one, inputs=(other,)),
        Sample(id="same", image=one, inputs=(one,)),
        Sample(id="sizes", image=one, inputs=(small,)),
        Sample(id="two", image=one, inputs=(one, other)),
        Sample(id="none", image=one),
    ]
    fine, same, sizes, two, none = scores(engine, "distance", samples)
    assert fine.value == pytest.approx(np.abs(one.array() / 255 - other.array() / 255).mean(), abs=1e-6)
    assert same.value == 0
    assert sizes.note == "the picture is 16 x 16 and its reference 16 x 8: give equal sizes"
    assert two.note == "distance compares with one picture, and inputs has 2"
    assert none.status == "missing" and not any(score.ok for score in (sizes, two, none))


def test_what_a_measure_cannot_do_costs_its_own_picture(stand_in, engine):
    large, small = pictures((16, 16), (4, 4))
    broken = Media(b"no picture")
    samples = [Sample(id=str(n), image=media) for n, media in enumerate((large, small, broken))]
    found = scores(engine, "brightness", samples)
    assert found[0].ok and not found[1].ok and not found[2].ok
    assert found[1].note == "pyiqa's brightness cannot measure it: Input is too small"
    (several,) = scores(engine, "several", [Sample(image=large)])
    assert several.note == "pyiqa's several gives several numbers of a picture, and none is its score"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("brightnes", "pyiqa has no measure 'brightnes': did you mean 'brightness'?"),
        ("fid_inception", "fid_inception compares sets of pictures, and a reward looks at one"),
        ("clipscore", "pyiqa's clipscore reads a caption: take `clipscore` of this package, with scale="),
    ],
)
def test_measures_that_are_no_reward_are_refused(stand_in, metric, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        load("iqa", metric=metric)


def test_the_measure_and_the_package_are_in_the_fingerprint(stand_in):
    one, other = (load("iqa", metric=metric).fingerprint for metric in ("brightness", "crops"))
    assert one != other


def test_a_missing_package_is_one_line_that_says_both_ways_out(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    packaged.measure.__wrapped__  # noqa: B018 - it is shared, and nothing of it is kept
    with pytest.raises(
        ValueError, match="iqa needs pyiqa: pip install pyiqa, or name an interpreter"
    ) as refused:
        load("iqa", metric="musiq-of-nobody")
    assert "\n" not in str(refused.value) and "python: /path/to" in str(refused.value)


@pytest.mark.skipif(find_spec("pyiqa") is None, reason="pyiqa is no dependency of this package")
@pytest.mark.parametrize("metric", ["piqe", "psnr", "ssim"])
def test_numbers_are_pyiqas_own(engine, metric):
    import pyiqa
    import torch

    one, other = pictures((96, 120), (96, 120))
    net = pyiqa.create_metric(metric, device=torch.device("cpu"))
    pixels = [media.pixels()[None].float() / 255 for media in (one, other)]
    expected = float(net(*pixels) if net.metric_mode == "FR" else net(pixels[0]))
    sample = Sample(image=one, inputs=(other,) if net.metric_mode == "FR" else ())
    (score,) = scores(engine, metric, [sample])
    assert score.value == pytest.approx(expected, rel=1e-6)


def test_imaging_quality_scales_as_the_publisher(stand_in, engine, monkeypatch):
    """`brightness` for MUSIQ: what it is given is what counts."""
    monkeypatch.setattr(
        "mmreward.models.measure", lambda metric, longest: Measure("brightness", longest), raising=True
    )
    draw = np.random.default_rng(3)
    clip = draw.integers(0, 256, (2, 700, 401, 3), dtype=np.uint8)
    (score,) = engine.score([Sample(video=Media(clip, "video", fps=8.0))], load("imaging_quality"))[
        "imaging_quality"
    ]
    images = torch.Tensor(clip).permute(0, 3, 1, 2)
    scale = 512.0 / 700
    small = Resize(size=(int(scale * 700), int(scale * 401)), antialias=False)(images) / 255.0
    each = small.mean((1, 2, 3))
    assert score.value == pytest.approx(float(each.mean()) / 100, rel=1e-5)
    assert score.parts["least"] == pytest.approx(float(each.min()) / 100, rel=1e-5)
    assert Measure("brightness").fingerprint != Measure("brightness", 512).fingerprint
