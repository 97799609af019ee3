"""VBench's subject_consistency, background_consistency and temporal_flickering against a second writing with
torchvision's transforms and transformers' models.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Lambda, Normalize, Resize

from mmreward import Engine, Media, Sample, load, models
from mmreward.engine.batching import Budget
from mmreward.evals.published.checkpoints import SIDE, save_clip
from mmreward.evals.published.vits import dino_folder
from mmreward.rewards.learned.consistency import likenesses

SHAPES = [(5, 40, 64), (3, 70, 33), (4, 32, 32), (2, 100, 41)]
CONSISTENT = ("subject_consistency", "background_consistency")


def frames(shape, seed):
    count, height, width = shape
    draw = np.random.default_rng(seed)
    coarse = torch.tensor(draw.integers(0, 256, (1, 3, 6, 7 + count)).astype(np.float32))
    whole = F.interpolate(coarse, size=(height, width + 6 * count), mode="bilinear")[0].permute(1, 2, 0)
    moving = [whole[:, 5 * n : 5 * n + width] for n in range(count)]
    return torch.stack(moving).round().clamp(0, 255).to(torch.uint8).numpy()


CLIPS = [frames(shape, seed) for seed, shape in enumerate(SHAPES)]
SAMPLES = [Sample(id=str(n), video=Media(clip, "video", fps=8.0)) for n, clip in enumerate(CLIPS)]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    return {
        "subject_consistency": dino_folder(folder / "dino"),
        "background_consistency": save_clip(folder / "clip"),
    }


# --- a second writing ---------------------------------------------------------------------------------------


def dino_places(module, rows, columns):
    """DINO's `interpolate_pos_encoding`."""
    known = module.embeddings.position_embeddings
    grid = int(math.sqrt(known.shape[1] - 1))
    if rows == columns == grid:
        return known
    patches = known[:, 1:].reshape(1, grid, grid, known.shape[2]).permute(0, 3, 1, 2)
    scale = ((rows + 0.1) / math.sqrt(grid**2), (columns + 0.1) / math.sqrt(grid**2))
    patches = F.interpolate(patches, scale_factor=scale, mode="bicubic")
    assert patches.shape[2:] == (rows, columns)
    patches = patches.permute(0, 2, 3, 1).reshape(1, -1, known.shape[2])
    return torch.cat((known[:, :1], patches), dim=1)


def dino(folder):
    from transformers import ViTModel

    module = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    sized = Compose(
        [
            Resize(32, antialias=False),
            Lambda(lambda x: x.float().div(255.0)),
            Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    def embed(clip):
        vectors = []
        for image in sized(torch.Tensor(clip).permute(0, 3, 1, 2)):
            places = dino_places(module, image.shape[1] // 8, image.shape[2] // 8)
            # transformers' own stretch is put out of the way by positions that fit already.
            module.embeddings.interpolate_pos_encoding = lambda *_, places=places: places
            cut = image[None, :, : image.shape[1] // 8 * 8, : image.shape[2] // 8 * 8]
            vectors.append(module(cut, interpolate_pos_encoding=True).last_hidden_state[0, 0])
        return torch.stack(vectors)

    return embed


def clip_tower(folder):
    from transformers import CLIPModel

    module = CLIPModel.from_pretrained(folder).eval()
    sized = Compose(
        [
            Resize(SIDE, interpolation=InterpolationMode.BICUBIC, antialias=False),
            CenterCrop(SIDE),
            Lambda(lambda x: x.float().div(255.0)),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )

    def embed(clip):
        found = module.get_image_features(pixel_values=sized(torch.Tensor(clip).permute(0, 3, 1, 2)))
        return getattr(found, "pooler_output", found)

    return embed


def upstream(embed, clip):
    with torch.no_grad():
        features = F.normalize(embed(clip), dim=-1, p=2)
    total = 0.0
    for place in range(1, len(features)):
        one = features[place][None]
        before = max(0.0, F.cosine_similarity(features[place - 1][None], one).item())
        first = max(0.0, F.cosine_similarity(features[0][None], one).item())
        total += (before + first) / 2
    return total / (len(features) - 1)


@pytest.mark.parametrize(("name", "make"), [*zip(CONSISTENT, (dino, clip_tower), strict=True)])
def test_consistency_is_the_publishers(engine, weights, name, make):
    embed = make(weights[name])
    scores = engine.score(SAMPLES, load(name, weights=weights[name]))[name]
    theirs = [upstream(embed, clip) for clip in CLIPS]
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 1e-3, "equal values would prove nothing"
    for score in scores:
        assert score.value == pytest.approx((score.parts["before"] + score.parts["first"]) / 2)


def test_flicker_is_the_publishers(engine):
    scores = engine.score(SAMPLES, load("temporal_flickering"))["temporal_flickering"]
    for clip, score in zip(CLIPS, scores, strict=True):
        pairs = [np.mean(np.abs(a.astype(np.float32) - b)) for a, b in pairwise(clip)]
        assert score.value == pytest.approx((255.0 - np.mean(pairs)) / 255.0, abs=1e-6)
        assert score.parts["worst"] == pytest.approx((255.0 - np.max(pairs)) / 255.0, abs=1e-6)


@pytest.mark.parametrize("name", CONSISTENT)
def test_values_do_not_depend_on_the_batch(engine, weights, name):
    reward = load(name, weights=weights[name])
    together = [score.value for score in engine.score(SAMPLES, reward)[name]]
    alone = [engine.score([sample], reward)[name][0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=3), cache_bytes=0) as other:
        backward = [score.value for score in other.score(SAMPLES[::-1], reward)[name]]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


# --- traps --------------------------------------------------------------------------------------------------


def rewards(weights):
    return {"temporal_flickering": load("temporal_flickering")} | {
        name: load(name, weights=weights[name]) for name in CONSISTENT
    }


def test_what_does_not_move_is_worth_one(engine, weights):
    still = Sample(video=Media(np.repeat(CLIPS[0][:1], 3, axis=0), "video", fps=8.0))
    scores = engine.score([still], rewards(weights))
    assert [score.value for (score,) in scores.values()] == pytest.approx([1, 1, 1], abs=1e-6)
    assert all(score.value <= 1 for (score,) in scores.values())


def test_one_frame_is_no_clip(engine, weights):
    """Upstream divides by nought, or calls it perfect."""
    one = Sample(video=Media(CLIPS[0][:1], "video", fps=8.0))
    for (score,) in engine.score([one], rewards(weights)).values():
        assert not score.ok and "one frame" in score.note


def test_opposite_frames_are_worth_nothing_and_not_less():
    units = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], np.float32)
    before, first = likenesses(units)
    assert before.tolist() == [0, 0] and first.tolist() == [0, 0]


def test_a_frame_of_another_shape_keeps_it(weights):
    """DINO sees a wide frame whole: the middle alone would have 16 patches and the class token."""
    network = models.frame_embedder(weights["subject_consistency"], "dino")
    assert network.sized(torch.zeros(3, 40, 100, dtype=torch.uint8)).shape == (3, 32, 80)


def test_another_network_is_refused(engine, weights):
    reward = load("subject_consistency", weights=weights["background_consistency"])
    with pytest.raises(ValueError, match="a clip model is not a ViT"):
        engine.score(SAMPLES[:1], reward)
