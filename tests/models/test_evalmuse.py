"""EvalMuse's FGA-BLIP2 from a tiny random checkpoint in its published format, against a second writing of its
publisher's lines, elements and all.
"""

import numpy as np
import pytest
import torch

from mmreward import Engine, Media, Sample, load
from mmreward.cli.fetching import wants_of
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import blip2
from mmreward.evals.published.one_by_one import noise
from mmreward.evals.published.upstream import pixels_of
from mmreward.registry import find

SIDE = 32
PICTURES = [noise(60, 60, 0), noise(40, 90, 1), noise(90, 30, 2), noise(SIDE, SIDE, 3)]
LONG = "a red circle above two blue squares, " * 20
PROMPTS = ["A red circle!", "two blue (squares) & the fox, at night: a photo", "x", LONG]
SAMPLES = [
    Sample(id=str(row), prompt=prompt, image=Media(picture))
    for row, (prompt, picture) in enumerate(zip(PROMPTS, PICTURES, strict=True))
]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return blip2.save_blip2(tmp_path_factory.mktemp("evalmuse") / "blip2")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def scored(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)["evalmuse"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def test_values_are_those_of_a_second_writing(engine, args):
    reference = blip2.matched(args)
    theirs = [reference.value(picture, prompt) for picture, prompt in zip(PICTURES, PROMPTS, strict=True)]
    found = scored(engine, load("evalmuse", **args))
    assert [score.value for score in found] == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 0.02, "equal values would prove nothing"
    assert [score.parts["truncated"] for score in found] == [0, 0, 0, 1]


def test_any_batch_gives_the_same_numbers(engine, args):
    reward = load("evalmuse", **args)
    together = [score.value for score in scored(engine, reward)]
    alone = [scored(engine, reward, [sample])[0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backwards = [score.value for score in scored(other, reward, SAMPLES[::-1])][::-1]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backwards == pytest.approx(together, abs=1e-5)


def test_the_gradient_is_that_of_a_second_writing(args):
    reward, reference = load("evalmuse", **args), blip2.matched(args)
    slopes = []
    for score in (lambda p: reward.score_tensor(p, [PROMPTS[1]]), lambda p: reference.tensor(p, PROMPTS[1])):
        pixels = pixels_of(PICTURES[1]).requires_grad_()
        score(pixels).sum().backward()
        slopes.append(pixels.grad)
    assert (slopes[0] - slopes[1]).abs().max() < 1e-4 * slopes[1].abs().max()


def test_elements_are_the_means_of_their_words(engine, args):
    elements = ["blue (attribute)", "the fox (animal)", "night"]
    row = Sample(prompt=PROMPTS[1], image=Media(PICTURES[1]), meta={"elements": elements})
    (score,) = scored(engine, load("evalmuse", **args), [row])
    naive = blip2.NaiveBlip2(args)
    small = PICTURES[1].resize((SIDE, SIDE), 3)
    tokens = naive.matches(pixels_of(small), PROMPTS[1])[blip2.QUERIES :]
    whole = naive.ids(PROMPTS[1])
    for element, words in zip(elements, ("blue", "the fox", "night"), strict=True):
        part = naive.ids(words)[1:-1]
        at = next(at for at in range(len(whole)) if whole[at : at + len(part)] == part)
        assert score.parts[element] == pytest.approx(float(tokens[at : at + len(part)].mean()), abs=1e-4)


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        (["cat (animal)"], "no element 'cat (animal)'"),
        (["red", 3], "no list of texts"),
        ("red", "no list of texts"),
    ],
)
def test_an_element_that_is_not_there_is_no_zero(engine, args, elements, said):
    row = Sample(prompt=PROMPTS[0], image=Media(PICTURES[0]), meta={"elements": elements})
    (score,) = engine.score([row], load("evalmuse", **args))["evalmuse"]
    assert not score.ok and said in score.note


def test_the_frozen_part_comes_from_the_base(engine, args, tmp_path):
    with pytest.raises(Unavailable, match="no FGA-BLIP2"):
        scored(engine, load("evalmuse", **args | {"base": ""}))
    whole = {}
    for name in ("base", "weights"):
        whole |= torch.load(args[name], weights_only=True)["model"]
    torch.save({"model": whole}, tmp_path / "whole.pth")
    one = scored(engine, load("evalmuse", **args | {"weights": str(tmp_path / "whole.pth"), "base": ""}))
    two = scored(engine, load("evalmuse", **args))
    assert [score.value for score in one] == pytest.approx([score.value for score in two], abs=1e-5)


def test_another_vocabulary_is_refused(engine, args, tmp_path):
    words = tmp_path / "vocab.txt"
    words.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    with pytest.raises(Unavailable, match=r"7 words with \[DEC\]|6 words with \[DEC\]"):
        scored(engine, load("evalmuse", **args | {"vocabulary": str(words)}))


def test_what_is_fetched(args, monkeypatch, tmp_path):
    names = {want.name for want in wants_of("evalmuse", {})}
    assert "hanshuhao/FGA-BLIP2/fga_blip2.pth" in names and any(
        "blip2_finetune_coco" in name for name in names
    )
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(ValueError, match=r"curl .*blip2_finetune_coco"):
        load("evalmuse", **args | {"base": "published"})
    for name in ("FGA-BLIP2", "EvalMuse-40K"):
        with pytest.raises(ValueError, match="did you mean 'evalmuse'"):
            find(name)
