import numpy as np
import pytest

from mmreward.mini import artifact, world


def test_auroc_counts_ties_half():
    scores = np.array([0.1, 0.5, 0.5, 0.9])
    assert artifact.auroc(scores, np.array([False, False, True, True])) == pytest.approx(0.875)
    assert artifact.auroc(scores, np.array([True, True, False, False])) == pytest.approx(0.125)


def test_committed_weights_tell_clean_from_spoiled():
    figures = artifact.measure(count=256)
    assert figures["auroc"] >= 0.95  # the bar is 0.97 over 1024 pictures


def test_committed_labels_and_probabilities():
    classifier = artifact.load()
    assert classifier.model.config.id2label == artifact.LABELS
    rng = np.random.default_rng(0)
    pictures = [world.render(world.sample_scene(rng), 64) for _ in range(3)]
    together = classifier.clean(pictures)
    assert ((together >= 0) & (together <= 1)).all()
    alone = [classifier.clean([picture])[0] for picture in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_missing_folder_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"mmreward\.mini\.train artifact"):
        artifact.load(tmp_path)
