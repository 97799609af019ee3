import numpy as np
import pytest

from mmreward.mini import oracle, world
from mmreward.mini.corrupt import PLAIN, VISIBLE, corrupt, soften


def _scenes(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    for index in range(count):
        scene = world.sample_scene(rng)
        yield scene, world.render(scene, (32, 64)[index % 2]), rng


@pytest.mark.parametrize("level", [PLAIN, 0.6, 1.0])
def test_corruption_is_plainly_visible(level):
    for _, picture, rng in _scenes(100):
        spoiled = corrupt(picture, rng, level)
        assert spoiled.size == picture.size
        change = np.asarray(spoiled, dtype=float) - np.asarray(picture, dtype=float)
        # Clipping and rounding to bytes after the check may cost a little of the guaranteed change.
        assert np.sqrt((change**2).mean()) > 0.7 * VISIBLE


def test_corruption_grows_with_level():
    def mean_change(level: float) -> float:
        changes = []
        for _, picture, rng in _scenes(200):
            spoiled = np.asarray(corrupt(picture, rng, level), dtype=float)
            changes.append(np.sqrt(((spoiled - np.asarray(picture, dtype=float)) ** 2).mean()))
        return float(np.mean(changes))

    assert mean_change(0.1) < mean_change(0.4) < mean_change(1.0)


def test_corruption_is_seeded():
    _, picture, _ = next(_scenes(1))
    first, second = (corrupt(picture, np.random.default_rng(3), 0.5) for _ in range(2))
    assert np.array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize("level", [0.0, -1.0, 1.01, float("nan")])
def test_level_out_of_range_is_named(level):
    _, picture, rng = next(_scenes(1))
    with pytest.raises(ValueError, match="level must be in"):
        corrupt(picture, rng, level)


def test_softening_keeps_every_fact():
    kept = []
    for scene, picture, rng in _scenes(300):
        seen = oracle.read(soften(picture, rng))
        kept.append(sorted(t.kind for t in seen) == sorted(t.kind for t in scene.things))
    assert np.mean(kept) >= 0.98
