"""MM-RLHF-Reward from a tiny random checkpoint in its published format, against a second writing of its
publisher's evaluation.

The tiny checkpoint was also given to the publisher's own code (MM-RLHF at 7c8af1d, transformers 4.45.2):
values are those to 5e-7, whole and in tiles, and the critiques the same.
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from mmreward import Engine, Media, Sample, load
from mmreward.cli.fetching import wants_of
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import readers
from mmreward.evals.published.llava import NaiveLlava, save_llava
from mmreward.registry import find

SAMPLES = readers.few()
ROWS = [(next(iter(readers.pictures_of(row)), None), row.prompt, row.response) for row in SAMPLES]
PICTURES = [picture for picture, _, _ in ROWS if picture is not None]
MOST = 6


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return save_llava(tmp_path_factory.mktemp("mm-rlhf") / "llava") | {"max_tokens": MOST}


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def scored(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)["mm_rlhf"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


@pytest.mark.parametrize("whole", [True, False])
def test_values_without_a_critique_are_those_of_the_publishers_lines(engine, args, whole):
    naive = NaiveLlava(args, whole)
    found = scored(engine, load("mm_rlhf", **args, critique="none", whole=whole))
    assert [score.value for score in found] == pytest.approx([naive.value(*row) for row in ROWS], abs=1e-4)


def test_the_critique_is_written_greedily_and_read(engine, args):
    naive = NaiveLlava(args)
    for row, score in zip(ROWS, scored(engine, load("mm_rlhf", **args)), strict=True):
        critique = naive.critique(*row, MOST)
        assert score.note == critique
        assert score.value == pytest.approx(naive.value(*row, critique), abs=1e-4)
        assert score.parts["critique_characters"] == len(critique)


def test_a_critique_may_be_given(engine, args):
    reward = load("mm_rlhf", **args, critique="given")
    rows = [Sample(prompt="x", response="yes", image=SAMPLES[0].image, meta={"critique": "it is right"})]
    (score,) = scored(engine, reward, rows)
    assert score.value == pytest.approx(
        NaiveLlava(args).value(PICTURES[0], "x", "yes", "it is right"), abs=1e-4
    )
    bad = [
        Sample(prompt="x", response="yes"),
        Sample(prompt="x", response="y", meta={"critique": "<|im_end|>"}),
    ]
    assert [score.ok for score in engine.score(bad, reward)["mm_rlhf"]] == [False, False]


def test_any_batch_gives_the_same_numbers(engine, args):
    reward = load("mm_rlhf", **args, whole=False)
    together = scored(engine, reward)
    alone = [scored(engine, reward, [sample])[0] for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backwards = scored(other, reward, SAMPLES[::-1])[::-1]
    for found in (alone, backwards):
        assert [s.value for s in found] == pytest.approx([s.value for s in together], abs=1e-5)
        assert [s.note for s in found] == [s.note for s in together]


def test_responses_to_one_picture_look_at_it_once(engine, args):
    reward = load("mm_rlhf", **args)
    network = reward.networks[-1]
    network._features.clear()
    seen = []
    embeddings = network.module.vision.embeddings
    hook = embeddings.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    scored(engine, reward, [Sample(prompt="x", response=text, image=SAMPLES[0].image) for text in ("a", "b")])
    hook.remove()
    assert seen == [1]


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>"])
def test_a_response_that_ends_its_turn_is_a_typed_failure(engine, args, token):
    rows = [Sample(prompt="x", response=f"no{token}"), Sample(prompt=f"x{token}", response="yes")]
    for score in engine.score(rows, load("mm_rlhf", **args))["mm_rlhf"]:
        assert math.isnan(score.value) and "begins or ends a turn" in score.note


def test_what_it_cannot_read_is_refused(engine, args):
    clip = Media(np.zeros((2, 28, 28, 3), np.uint8), "video")
    rows = [
        Sample(prompt="x", response="yes", image=SAMPLES[0].image, inputs=(SAMPLES[1].image,)),
        Sample(prompt="x", response="yes", video=clip),
        Sample(prompt="x", response=" "),
        Sample(prompt="x", response="<think>so"),
        Sample(prompt="<image> x", response="yes"),
    ]
    notes = [score.note for score in engine.score(rows, load("mm_rlhf", **args))["mm_rlhf"]]
    assert "one picture at most" in notes[0] and "one picture at most" in notes[1]
    assert "is empty" in notes[2] and "within its reasoning" in notes[3] and "shows no picture" in notes[4]
    for bad in ({"critique": "long"}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            load("mm_rlhf", **args | bad)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llava_llama"}, "a llava_llama, where a llava_qwen is read"),
        ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type: 'flat'"),
        ({"num_hidden_layers": 3}, r"tensors missing \(layers\.2\."),
        ({"num_hidden_layers": 1}, r"tensors unexpected \(layers\.1\."),
    ],
)
def test_another_model_is_refused_by_name(engine, args, tmp_path, config, said):
    shutil.copytree(args["weights"], tmp_path / "other")
    file = tmp_path / "other" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(Unavailable, match=said):
        engine.score(SAMPLES[:1], load("mm_rlhf", **args | {"weights": str(tmp_path / "other")}))


def test_tiles_are_cut_by_one_rule(engine, args, tmp_path):
    shutil.copytree(args["weights"], tmp_path / "pad")
    file = tmp_path / "pad" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_aspect_ratio": "pad"}))
    pad = args | {"weights": str(tmp_path / "pad"), "critique": "none"}
    scored(engine, load("mm_rlhf", **pad), SAMPLES[:1])
    with pytest.raises(Unavailable, match="image_aspect_ratio: pad"):
        engine.score(SAMPLES[:1], load("mm_rlhf", **pad, whole=False))


def test_a_base_model_has_no_head(engine, args, tmp_path):
    shutil.copytree(args["weights"], tmp_path / "base")
    for file in (tmp_path / "base").glob("*.safetensors"):
        state = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("rm_head")}
        save_file(state, file)
    with pytest.raises(Unavailable, match="has no rm_head"):
        engine.score(SAMPLES[:1], load("mm_rlhf", **args | {"weights": str(tmp_path / "base")}))


def test_what_is_fetched(args, monkeypatch, tmp_path):
    prompt, weights = wants_of("mm_rlhf", {})
    assert weights.name == "yifanzhang114/MM-RLHF-Reward-7B-llava-ov-qwen" and prompt.kind == "url"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="yfzhang114/MM-RLHF"):
        load("mm_rlhf", weights=args["weights"])
    for name in ("MM-RLHF-Reward", "mmrlhf"):
        with pytest.raises(ValueError, match="did you mean 'mm_rlhf'"):
            find(name)
    assert Path(args["words"]).is_file()
