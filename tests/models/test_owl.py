"""DeQA-Score and Q-Align from a tiny random checkpoint in the published format, and Llama's tokenizer out of
its file.

The tiny checkpoint was also given to the publisher's own code (DeQA-Score at 8e4abc8, transformers 4.36.1):
logits of this graph and of its second writing are those to 2e-5 at a largest of 20.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmreward import Engine, Media, Sample, load, models
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import owl as second
from mmreward.limits import limited
from mmreward.models.owl import LEVELS, Owl
from mmreward.models.pieces import Pieces

SIZES = [(32, 32), (90, 41), (33, 120), (64, 65), (640, 427)]


def picture(size, seed):
    small = np.random.default_rng(seed).integers(0, 256, (-(-size[1] // 8), -(-size[0] // 8), 3))
    return Image.fromarray(small.astype(np.uint8)).resize(size)


PICTURES = [picture(size, seed) for seed, size in enumerate(SIZES)]
SAMPLES = [Sample(id=str(row), image=Media(image)) for row, image in enumerate(PICTURES)]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return second.save_owl(tmp_path_factory.mktemp("owl") / "owl")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def copied(args, folder, **config):
    """The checkpoint with another config."""
    from shutil import copytree

    copytree(args["weights"], folder)
    old = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(old | config))
    return str(folder)


# --- the scores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deqa", "qalign"])
def test_grades_are_those_of_a_second_writing(args, engine, name):
    reference = second.graded(args)
    scores = engine.score(SAMPLES, load(name, **args))[name]
    theirs = [reference.value(image, "") for image in PICTURES]
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 0.02, "equal values would prove nothing"
    for score in scores:
        assert sum(score.parts[level] for level in LEVELS) == pytest.approx(1, abs=1e-6)
        mean = sum(grade * score.parts[level] for grade, level in zip((5, 4, 3, 2, 1), LEVELS, strict=True))
        assert score.value == pytest.approx(mean)


def test_the_published_example(engine, args, monkeypatch):
    """Logits of 2, 1, 0, -1, -2 are worth 4.4519415677."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0], dtype=torch.float64)

    async def levels(self, media, prompt):
        return tuple(logits.softmax(-1).tolist())

    monkeypatch.setattr(Owl, "levels", levels)
    (score,) = engine.score(SAMPLES[:1], load("deqa", **args))["deqa"]
    assert score.value == pytest.approx(4.4519415677, abs=1e-9)
    assert score.value / 5 == pytest.approx(0.8903883135, abs=1e-9)


def test_a_grade_does_not_depend_on_the_batch(args, engine):
    reward = load("deqa", **args)
    together = [score.value for score in engine.score(SAMPLES, reward)["deqa"]]
    alone = [engine.score([sample], reward)["deqa"][0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backward = [score.value for score in other.score(SAMPLES[::-1], reward)["deqa"]]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


def test_two_questions_about_one_picture_share_its_looks(args, engine):
    network = models.grader(args["weights"])
    seen = []
    hook = network.module.model.vision_model.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )

    async def both():
        from asyncio import gather

        asked = (second.PROMPT, second.PROMPT.replace("Say", "Tell"))
        return await gather(*(network.levels(Media(PICTURES[1]), text) for text in asked))

    first, other = engine.run(both())
    hook.remove()
    assert first != other and seen == [1]


def test_half_precision_is_near(args, engine):
    whole, half = (
        engine.score(SAMPLES, load("deqa", **args, dtype=d))["deqa"] for d in ("float32", "bfloat16")
    )
    assert [s.value for s in half] == pytest.approx([s.value for s in whole], abs=0.2)


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llama"}, "a llama, where an mplug_owl2 is read"),
        ({"num_key_value_heads": 2}, "shares keys between heads"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"num_hidden_layers": 3}, r"tensors missing \(model\.layers\.2\."),
        ({"num_hidden_layers": 1}, r"tensors unexpected \(model\.layers\.1\."),
    ],
)
def test_another_model_is_refused_by_name(args, engine, tmp_path, config, said):
    weights = copied(args, tmp_path / "other", **config)
    with pytest.raises(Unavailable, match=said):
        engine.score(SAMPLES[:1], load("deqa", **args | {"weights": weights}))


@pytest.mark.parametrize("text", ["no place for it", "<|image|> and <|image|>"])
def test_a_question_has_one_place_for_the_picture(args, tmp_path, text):
    (tmp_path / "own.txt").write_text(text)
    with pytest.raises(ValueError, match=r"places for the picture"):
        load("deqa", **args | {"words": str(tmp_path / "own.txt")})


def test_the_question_is_fetched_and_not_kept_here(args, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, repository in (("deqa", "zhiyuanyou/DeQA-Score"), ("qalign", "Q-Future/Q-Align")):
        with pytest.raises(ValueError, match=repository):
            load(name, weights=args["weights"])


def test_a_picture_that_makes_too_large_a_square_is_refused(args, engine):
    long = Sample(image=Media(np.zeros((2, 3000, 3), np.uint8)))
    with limited(pixels=1_000_000):
        (score,) = engine.score([long], load("deqa", **args))["deqa"]
    assert not score.ok and "3000 x 3000 pixels" in score.note


# --- Llama's tokenizer --------------------------------------------------------------------------------------

TEXTS = (
    "",
    "a",
    "  two  spaces",
    "excellent",
    " good",
    "\n",
    "\nASSISTANT: It is",
    "caf\u00e9 \u6f22",
    "goods is is",
)


def test_pieces_are_those_of_the_tokenizers_package(tmp_path):
    second.save_tokenizer(tmp_path / "tokenizer.model")
    ours, theirs = Pieces(tmp_path / "tokenizer.model"), second._tokenizer()
    for text in (*TEXTS, second.PROMPT):
        assert ours.ids(text) == [1, *theirs.encode(text).ids], text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-900], "is no SentencePiece model"),
        (lambda data: b"not one", "is no SentencePiece model"),
        (lambda data: b"", "has 0 pieces for bytes"),
    ],
)
def test_a_broken_tokenizer_is_refused(tmp_path, change, said):
    second.save_tokenizer(tmp_path / "tokenizer.model")
    data = (tmp_path / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(change(data))
    with pytest.raises(ValueError, match=said):
        Pieces(tmp_path / "tokenizer.model")
