"""InternLM-XComposer2.5-Reward from a tiny random checkpoint in its published format, against a second
writing of its publisher's lines; and InternLM2's tokenizer out of its file.

The tiny checkpoint was also given to the publisher's own modules (those of InternLM-XComposer-2.5-OmniLive's
base, which are the same, on transformers 4.45.2, with the tokenizer of sentencepiece 0.2.3): values are those
to 2.4e-7.
"""

import json
import math
import shutil

import numpy as np
import pytest

from mmreward import Engine, Media, Sample, load
from mmreward.cli.fetching import wants_of
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import readers
from mmreward.evals.published.pieces import save_pieces, tokenizer
from mmreward.evals.published.xcomposer import OWN, NaiveXComposer, save_xcomposer
from mmreward.models.pieces import Pieces, pieces_of
from mmreward.registry import find

SAMPLES = readers.placed()
ROWS = [(readers.pictures_of(row), row.prompt, row.response) for row in SAMPLES]
PICTURES = [ROWS[0][0][0], ROWS[1][0][0], ROWS[2][0][0], ROWS[5][0][0]]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return save_xcomposer(tmp_path_factory.mktemp("ixc") / "ixc")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def values(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)["ixc"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return [score.value for score in scores]


def test_values_are_those_of_the_publishers_lines(engine, args):
    naive = NaiveXComposer(args)
    theirs = [naive.score(prompt, response, pictures) for pictures, prompt, response in ROWS]
    assert values(engine, load("ixc", **args)) == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 0.05, "equal values would prove nothing"


def test_more_tiles_are_another_score(engine, args):
    few, many = (values(engine, load("ixc", **args | {"hd_num": n}), SAMPLES[:1])[0] for n in (1, 9))
    assert abs(few - many) > 1e-4
    assert many == pytest.approx(
        NaiveXComposer(args | {"hd_num": 9}).score(*ROWS[0][1:], ROWS[0][0]), abs=1e-4
    )
    with pytest.raises(ValueError, match="hd_num=0"):
        load("ixc", **args | {"hd_num": 0})


def test_any_batch_gives_the_same_numbers(engine, args):
    reward = load("ixc", **args)
    together = values(engine, reward)
    alone = [values(engine, reward, [sample])[0] for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backwards = values(other, reward, SAMPLES[::-1])[::-1]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backwards == pytest.approx(together, abs=1e-5)


@pytest.mark.parametrize("token", ["</s>", "<s>", *OWN])
def test_a_response_that_parts_the_chat_is_a_typed_failure(engine, args, token):
    rows = [Sample(prompt="x", response=f"no{token}"), Sample(prompt=f"x{token}", response="yes")]
    for score in engine.score(rows, load("ixc", **args))["ixc"]:
        assert math.isnan(score.value) and "parts the chat" in score.note


def test_what_it_cannot_read_is_refused(engine, args):
    thin = Media(np.zeros((1, 2000, 3), np.uint8))
    rows = [
        Sample(prompt="x", response="yes", image=SAMPLES[0].image, inputs=(SAMPLES[1].image,)),
        Sample(prompt="x", response="yes", video=Media(np.zeros((2, 28, 28, 3), np.uint8), "video")),
        Sample(prompt="x", response=" "),
        Sample(prompt="x", response="see <ImageHere>", image=SAMPLES[0].image),
        Sample(prompt="x " * 2000, response="yes"),
        Sample(prompt="x", response="yes", image=thin),
    ]
    notes = [score.note for score in engine.score(rows, load("ixc", **args | {"hd_num": 1}))["ixc"]]
    words = (
        "as many places",
        "shows a clip",
        "is empty",
        "parts the chat",
        "reads at most 1024",
        "no height",
    )
    for note, said in zip(notes, words, strict=True):
        assert said in note


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llama"}, "a llama, where a internlm2 is read"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"num_hidden_layers": 3}, r"tensors missing \(layers\.2\."),
        ({"num_hidden_layers": 1}, r"tensors unexpected \(layers\.1\."),
    ],
)
def test_another_model_is_refused_by_name(engine, args, tmp_path, config, said):
    shutil.copytree(args["weights"], tmp_path / "other")
    file = tmp_path / "other" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(Unavailable, match=said):
        engine.score(SAMPLES[3:4], load("ixc", **args | {"weights": str(tmp_path / "other")}))


def test_what_is_fetched():
    (want,) = wants_of("ixc", {})
    assert want.name == "internlm/internlm-xcomposer2d5-7b-reward" and want.kind == "hub"
    for name in ("InternLM-XComposer2.5-Reward", "IXC-2.5-Reward"):
        with pytest.raises(ValueError, match="did you mean 'ixc'"):
            find(name)


# --- the tokenizer ------------------------------------------------------------------------------------------

TEXTS = ("", "how many", " how  many shapes\n", "the circle it is", "caf\u00e9 \u6f22", "yesyes no two" * 9)


@pytest.mark.parametrize("prefix", [False, True])
def test_pieces_are_those_of_the_tokenizers_package(tmp_path, prefix):
    save_pieces(tmp_path / "tokenizer.model", prefix=prefix)
    ours, theirs = Pieces(tmp_path / "tokenizer.model"), tokenizer(prefix=prefix)
    for text in TEXTS:
        assert ours.ids(text) == [1, *theirs.encode(text).ids], text
        assert ours.ids(text, beginning=False) == theirs.encode(text).ids


def test_own_and_added_tokens_stand_for_themselves(args, tmp_path):
    shutil.copytree(args["weights"], tmp_path / "other")
    (tmp_path / "other" / "added_tokens.json").write_text(json.dumps({"<img>": 700, "<img>2": 701}))
    ours = pieces_of(tmp_path / "other")
    plain = tokenizer(OWN)
    known = [plain.token_to_id(OWN[0]), 700, 701, 2]
    found = ours.ids(f"how {OWN[0]}many<img><img>2 two</s>")
    stretches = [plain.encode(text).ids for text in ("how ", "many", " two")]
    assert found == [1, *stretches[0], known[0], *stretches[1], *known[1:3], *stretches[2], known[3]]
    assert ours.id_of("<img>") == 700 and ours.id_of(OWN[0]) == known[0] and ours.id_of("absent") is None


def test_a_tokenizer_that_rewrites_spaces_is_refused(tmp_path):
    file = tmp_path / "tokenizer.model"
    save_pieces(file)
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="takes spaces out of texts"):
        Pieces(file)
    with pytest.raises(ValueError, match="no piece '<pad>'"):
        save_pieces(file)
        Pieces(file, {"<pad>": None})
