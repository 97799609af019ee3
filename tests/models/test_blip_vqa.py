"""BLIP-VQA from a tiny random checkpoint in the published format, against a second writing in plain torch."""

import json
import math

import numpy as np
import pytest
import torch

from mmreward import Sample, Unscorable, load
from mmreward.errors import Unavailable
from mmreward.evals.published import blip
from mmreward.evals.published.blip import save_blip, save_tokenizer
from mmreward.evals.published.readers import pictures_of
from mmreward.models.blip_answers import renamed
from mmreward.rewards.pictures.blip_vqa import phrases_of

SAMPLES = blip.asked()
PICTURES = [pictures_of(sample)[0] for sample in SAMPLES]
PHRASES = blip.PHRASES


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return save_blip(tmp_path_factory.mktemp("blip"))


def values(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)["blip_vqa"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def test_blip_vqa_gives_the_publishers_number(engine, published, tokenizer):
    file, state = published
    engine.cache.clear()
    scores = values(engine, load("blip_vqa", file=file, tokenizer=tokenizer))
    for score, image, phrases in zip(scores, PICTURES, PHRASES, strict=True):
        sure = [blip.assent(state, tokenizer, image, phrase) for phrase in phrases]
        assert score.value == pytest.approx(math.prod(sure), abs=1e-5)
        assert score.parts["least"] == pytest.approx(min(sure), abs=1e-5)
        assert score.parts["gm"] == pytest.approx(math.prod(sure) ** (1 / len(sure)), abs=1e-5)
    assert len({round(score.value, 4) for score in scores}) == len(scores)


def test_blip_vqa_in_any_batch(engine, published, tokenizer):
    reward = load("blip_vqa", file=published[0], tokenizer=tokenizer)
    engine.cache.clear()
    together = [score.value for score in values(engine, reward)]
    alone = []
    for sample in SAMPLES:
        engine.cache.clear()
        alone += [score.value for score in values(engine, reward, [sample])]
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_file_that_is_no_blip_says_so(engine, published, tokenizer, tmp_path):
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    state = {name: tensor for name, tensor in published[1].items() if "blocks.1.norm2" not in name}
    torch.save({"model": state}, tmp_path / "torn.pth")
    for file, said in (("other.pth", "has no visual_encoder"), ("torn.pth", "tensors missing")):
        reward = load("blip_vqa", file=str(tmp_path / file), tokenizer=tokenizer)
        with pytest.raises(Unavailable, match=said):
            engine.score(SAMPLES[:1], reward)


def test_what_is_not_here_is_said_before_any_row(published, monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"`curl -fL .*model_base_vqa_capfilt_large.pth'`"):
        load("blip_vqa")
    wanted = "hf download google-bert/bert-base-uncased config.json tokenizer.json tokenizer_config.json"
    with pytest.raises(ValueError, match=f"`{wanted}`"):
        load("blip_vqa", file=published[0])


def test_published_names():
    assert renamed("visual_encoder.blocks.11.attn.proj.bias") == (
        "vision_model.encoder.layers.11.self_attn.projection.bias"
    )
    assert renamed("text_decoder.cls.predictions.bias") == "text_decoder.cls.predictions.bias"


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a blue bench and a green bowl", ["a blue bench", "a green bowl"]),
        (
            "rubber sole shoes, a cup, and The fluffy clouds.",
            ["rubber sole shoes", "a cup", "The fluffy clouds"],
        ),
        ("a red circle", None),
        ("a pig on the bottom of a wallet", None),
        ("The metallic pen and fluffy notebook jot down ideas on the wooden desk.", None),
        ("two dogs and 3 cats", None),
        ("a dog and ", None),
    ],
)
def test_plain_prompts_are_taken_apart_and_others_are_not(prompt, phrases):
    sample = Sample(prompt=prompt)
    if phrases is not None:
        assert phrases_of(sample) == phrases
        return
    with pytest.raises(Unscorable, match="give them as `phrases`") as caught:
        phrases_of(sample)
    assert caught.value.status == "missing"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[", "not JSON"),
        (3, "not a list of texts"),
        (["a", ""], "not a list of texts"),
        (["the left"], "no phrases to ask about"),
        (["a dog"] * 9, "9 phrases for one picture; the limit is 8"),
    ],
)
def test_what_are_no_phrases_says_why(given, said):
    with pytest.raises(Unscorable, match=said):
        phrases_of(Sample(prompt="x", meta={"phrases": given}))
    asked = Sample(prompt="x", meta={"phrases": json.dumps(["a dog", "the left"])})
    assert phrases_of(asked) == ["a dog"]
