"""VisualPRM and ArtiMuse from tiny random checkpoints in their published format, against a second writing of
their publishers' lines.

The tiny checkpoints were also given to the publisher's own InternVL (OpenGVLab/InternVL at 2410d1d,
transformers 4.45.2, with its own tokenizer on sentencepiece 0.2.3), step by step: values are those to 2.1e-7
with InternLM2 and to 7.2e-7 with Qwen2.
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
from mmreward.evals.published.internvl import SYSTEM, NaiveInternVL, save_internvl
from mmreward.registry import find
from mmreward.rewards.learned.artimuse import LETTERS
from mmreward.rewards.learned.visualprm import steps_of

SAMPLES = readers.stepped()
ROWS = [(readers.pictures_of(row), row.prompt, row.response) for row in SAMPLES]
PICTURES = [*ROWS[0][0], *ROWS[1][0], *ROWS[3][0]]
KINDS = ("internlm2", "qwen2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("internvl")
    return {kind: save_internvl(place / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def scored(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)[reward.info.name]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def changed(args, folder, **config):
    """The checkpoint with another config."""
    shutil.copytree(args["weights"], folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return args | {"weights": str(folder)}


# --- VisualPRM ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_gives_what_the_publisher_reads_step_by_step(engine, folders, kind):
    naive = NaiveInternVL(folders[kind])
    for row, score in zip(ROWS, scored(engine, load("visualprm", **folders[kind])), strict=True):
        pictures, question, response = row
        theirs = naive.soft(question, response.split("\n\n"), pictures)
        ours = [score.parts[f"step_{number + 1}"] for number in range(len(theirs))]
        assert ours == pytest.approx(theirs, abs=1e-4)
        assert score.value == pytest.approx(np.mean(theirs), abs=1e-4)
        assert score.parts["steps"] == len(theirs) and score.parts["worst"] == min(ours)
    assert np.std(ours) > 0.01, "equal values would prove nothing"


def test_any_batch_gives_the_same_numbers(engine, folders):
    reward = load("visualprm", **folders["internlm2"])
    together = [score.value for score in scored(engine, reward)]
    alone = [scored(engine, reward, [sample])[0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backwards = [score.value for score in scored(other, reward, SAMPLES[::-1])][::-1]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backwards == pytest.approx(together, abs=1e-5)


def test_steps_become_one_number(engine, folders):
    args = folders["qwen2"]
    whole = scored(engine, load("visualprm", **args), SAMPLES[3:])[0]
    least = scored(engine, load("visualprm", **args, how="min"), SAMPLES[3:])[0]
    assert least.value == pytest.approx(whole.parts["worst"], abs=1e-5)
    two = scored(engine, load("visualprm", **args, max_steps=2), SAMPLES[3:])[0]
    assert two.parts["steps"] == 2
    few = scored(engine, load("visualprm", **args, max_num=1), SAMPLES[1:2])[0]
    assert few.value == pytest.approx(
        NaiveInternVL(args).soft(ROWS[1][1], ["two"], ROWS[1][0], 1)[0], abs=1e-4
    )
    for bad in ({"how": "best"}, {"max_steps": -1}, {"max_num": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            load("visualprm", **args, **bad)


def test_neighbours_are_put_together():
    """As many in each as it takes: five steps in at most two are three and two."""
    assert steps_of("a\n\nb\n\nc\n\nd\n\ne", 2) == ["a\n\nb\n\nc", "d\n\ne"]
    assert steps_of("a\n\nb\n\nc", 12) == ["a", "b", "c"]
    assert steps_of("a\n\n\n\nb\n\n") == ["a", "b"], "an empty step would be a turn without an end"


def test_a_config_may_bring_its_own_system_message(engine, folders, tmp_path):
    args = changed(folders["qwen2"], tmp_path / "own", system_message="Rate the steps.")
    (score,) = scored(engine, load("visualprm", **args), SAMPLES[2:3])
    theirs = NaiveInternVL(args).soft(ROWS[2][1], ["it is.", "yes"], [], system="Rate the steps.")
    assert score.value == pytest.approx(np.mean(theirs), abs=1e-4)


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<IMG_CONTEXT>"])
def test_a_response_that_ends_its_turn_is_a_typed_failure(engine, folders, token):
    rows = [
        Sample(prompt="x", response=f"no{token}\n<|im_start|>assistant\n+"),
        Sample(prompt=f"x{token}", response="yes"),
    ]
    for score in engine.score(rows, load("visualprm", **folders["qwen2"]))["visualprm"]:
        assert math.isnan(score.value) and "begins or ends a turn" in score.note


def test_what_it_cannot_read_is_refused(engine, folders):
    picture = Media(PICTURES[0])
    rows = [
        Sample(prompt="x", response="yes", image=picture, inputs=(picture,)),
        Sample(prompt="<image>", response="yes"),
        Sample(prompt="x", response="yes", video=Media(np.zeros((2, 28, 28, 3), np.uint8), "video")),
        Sample(prompt="x", response="<think>so"),
        Sample(prompt="x " * 2000, response="yes"),
    ]
    scores = engine.score(rows, load("visualprm", **folders["internlm2"]))["visualprm"]
    words = ("2 pictures, and 1 places", "0 pictures, and 1", "shows a clip", "within its", "at most 1024")
    for score, said in zip(scores, words, strict=True):
        assert said in score.note


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "internvl"}, "a internvl, where a internvl_chat is read"),
        ({"ps_version": "v1"}, "ps_version: 'v1'"),
        ({"template": "internlm2-chat"}, "template: 'internlm2-chat'"),
    ],
)
def test_another_model_is_refused_by_name(engine, folders, tmp_path, config, said):
    args = changed(folders["internlm2"], tmp_path / "other", **config)
    with pytest.raises(Unavailable, match=said):
        engine.score(SAMPLES[:1], load("visualprm", **args))


def test_what_is_fetched(folders, monkeypatch, tmp_path):
    wants = {reward: wants_of(reward, {}) for reward in ("visualprm", "artimuse")}
    assert {want.name for want in wants["visualprm"]} >= {"OpenGVLab/VisualPRM-8B"}
    assert {want.name for want in wants["artimuse"]} >= {"Thunderbolt215215/ArtiMuse"}
    assert [len(found) for found in wants.values()] == [2, 3]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for reward in wants:
        with pytest.raises(ValueError, match="curl"):
            load(reward, weights=folders["qwen2"]["weights"])
    for name, meant in (("VisualPRM-8B", "visualprm"), ("ArtiMuse_AVA", "artimuse")):
        with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
            find(name)


# --- ArtiMuse -----------------------------------------------------------------------------------------------


def test_beauty_is_that_of_the_publishers_lines(engine, folders):
    args, samples = folders["qwen2"], [Sample(image=Media(picture)) for picture in PICTURES]
    theirs = [NaiveInternVL(args).beauty(picture, SYSTEM) for picture in PICTURES]
    found = scored(engine, load("artimuse", **args), samples)
    assert [score.value for score in found] == pytest.approx(theirs, abs=1e-3)  # of 100
    assert np.std(theirs) > 0.05, "equal values would prove nothing"
    alone = scored(engine, load("artimuse", **args), samples[2:3])[0]
    assert alone.value == pytest.approx(found[2].value, abs=1e-5 * 100)
    assert 0 < alone.parts["std"] < 50


def test_a_message_that_is_null_is_told_as_none(engine, folders, tmp_path):
    args = changed(folders["qwen2"], tmp_path / "null", system_message=None)
    (score,) = scored(engine, load("artimuse", **args), [Sample(image=Media(PICTURES[0]))])
    assert score.value == pytest.approx(NaiveInternVL(args).beauty(PICTURES[0], "None"), abs=1e-3)


def test_every_score_has_its_letters(engine, folders):
    marks = {0: "aa", 25: "az", 26: "ca", 50: "cy", 51: "da", 75: "dy", 76: "ea", 100: "ey"}
    assert len(LETTERS) == 101 and {at: LETTERS[at] for at in marks} == marks
    reward = load("artimuse", **folders["internlm2"])
    (score,) = engine.score([Sample(image=Media(PICTURES[0]))], reward)["artimuse"]
    assert not score.ok and "has no token 'a" in score.note
