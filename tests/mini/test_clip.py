import numpy as np
import pytest
import torch

from mmreward.mini import clip, world
from mmreward.mini.loop import tokenizer


def _captions(count: int):
    rng = np.random.default_rng(1)
    return [world.describe(world.sample_scene(rng), rng, relations=0.5) for _ in range(count)], rng


def test_negatives_are_different_real_captions():
    captions, rng = _captions(300)
    for caption in captions:
        wrong = clip.negatives(caption, rng, 7)
        assert len({str(w) for w in wrong}) == 7
        for other in wrong:
            assert dict(other.kinds) != dict(caption.kinds)
            assert 1 <= other.total <= 4
            assert world.parse_caption(str(other)).total == other.total
            if other.relation:
                assert [number for _, number in other.kinds] == [1, 1]


def test_too_many_negatives_are_refused():
    with pytest.raises(ValueError, match="ask for at most 7"):
        clip.negatives(world.parse_caption("a red circle"), np.random.default_rng(0), 50)


def test_turned_relation():
    caption = world.parse_caption("a red circle left of a blue square")
    assert str(clip.turned(caption)) == "a red circle right of a blue square"


def test_captions_true_of_the_same_picture_are_not_negatives():
    texts = [
        "a red circle left of a blue square",
        "a blue square right of a red circle",
        "a blue square and a red circle",
        "a red circle right of a blue square",
        "a blue square left of a red circle",
        "a red circle",
        "a red circle above a blue square",
    ]
    captions = [world.parse_caption(text) for text in texts]
    assert clip.also_true(captions[:1], captions).tolist() == [[False, True, True, False, False, False, True]]


def test_every_caption_is_in_the_vocabulary():
    words = tokenizer(clip.LENGTH)
    captions, _ = _captions(500)
    ids = words([str(c) for c in captions], padding="max_length", max_length=clip.LENGTH)["input_ids"]
    assert all(len(row) == clip.LENGTH for row in ids)
    assert words.unk_token_id not in {token for row in ids for token in row}
    assert words.tokenize("A Red,circle") == ["a", "red", ",", "circle"]


def test_contrast_prefers_the_right_caption():
    images = torch.eye(4)
    captions = torch.cat([torch.eye(4), -torch.eye(4)])
    also = torch.zeros(4, 8, dtype=torch.bool)
    loss, correct = clip.contrast(images, captions, torch.tensor(20.0), also)
    worse, _ = clip.contrast(images, -captions, torch.tensor(20.0), also)
    assert correct == 1.0
    assert loss < worse


def test_committed_weights_pick_the_right_caption():
    figures = clip.measure(count=96)
    assert figures["top1_of_8"] >= 0.85  # the bar is 0.90 over 512; 96 pictures leave 3 % of noise
    assert figures["relation"] >= 0.8


def test_missing_folder_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"mmreward\.mini\.train clip"):
        clip.load(tmp_path)
