"""`mmreward fit head` on pairs of responses, BaseReward's kind, and the reward that reads it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmreward import Engine, Media, Sample, load
from mmreward.assets import ASSETS
from mmreward.data.response_pairs import ResponsePair, halves_of, read_any_pairs, write_response_pairs
from mmreward.engine.batching import Budget
from mmreward.mini.world import COLOURS, SHAPES, Scene, Thing, render
from mmreward.models.states import filled
from mmreward.tune.fit_head import RESPONSES_QUESTION, fit_head
from mmreward.tune.fit_loop import HeadSettings

ASKED = ("Is there a {0} {1}?", "Does the picture have a {0} {1}?", "Can you see a {0} {1}?")
HUES = list(COLOURS)[:4]
ANSWERS = ("Yes, there is.", "No, there is none.")


def questions():
    """Samples of a question about a picture, with the right response and the wrong one."""
    rng, found = np.random.default_rng(0), []
    for form in ASKED:
        for colour in HUES:
            for shape in SHAPES:
                there = bool(rng.integers(2))
                other = HUES[(HUES.index(colour) + 1 + int(rng.integers(3))) % 4]
                thing = Thing(colour if there else other, shape, 0.5, 0.5, 0.3)
                sample = Sample(prompt=form.format(colour, shape), image=Media(render(Scene((thing,)), 32)))
                right, wrong = ANSWERS if there else ANSWERS[::-1]
                found.append((replace(sample, response=right), replace(sample, response=wrong)))
    return found


PAIRS = questions()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("answers") / "pairs"
    write_response_pairs(place, PAIRS, [{"margin": 1.0}] * len(PAIRS))
    return place


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def base(folder, engine, tmp_path_factory):
    """Folder and summary of a fit of BaseReward's form."""
    out = tmp_path_factory.mktemp("base") / "head"
    settings = HeadSettings(steps=150, form="basereward")
    return str(out), fit_head(folder, "mini-vlm", out, engine, settings)


def test_a_fit_learns_which_response_fits_the_picture(base):
    """Both responses are said of every thing, so that neither is better without the picture."""
    place, summary = base
    assert summary.accuracy.after.mean > 0.85 and summary.accuracy.before.mean < 0.75
    facts = json.loads((Path(place) / "head.json").read_text())
    assert facts["question"] == RESPONSES_QUESTION and facts["form"] == "basereward"
    assert {right.response for right, _ in PAIRS} == set(ANSWERS)


SAMPLES = [
    Sample(id=str(row), prompt=pair[row % 2].prompt, image=pair[0].image, response=pair[row % 2].response)
    for row, pair in enumerate(PAIRS[:3])
] + [Sample(id="words", prompt="How much is 2 + 2?", response="It is {prompt}.")]


def test_a_response_has_two_layers_with_silu_on_its_state(base, engine):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(ASSETS / "mini-vlm").eval()
    processor = AutoProcessor.from_pretrained(ASSETS / "mini-vlm")
    weights = load_file(Path(base[0]) / "head.safetensors")
    scores = engine.score(SAMPLES, load("head", fitted=base[0]))["head"]
    for sample, score in zip(SAMPLES, scores, strict=True):
        asked = f"{sample.prompt}\n\nAnswer: {sample.response}\n\nIs this answer right? Answer yes or no."
        content = [{"type": "image"}] * bool(sample.image) + [{"type": "text", "text": asked}]
        chat = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        image = [sample.image.picture().resize((64, 64), 3)] if sample.image else None
        inputs = processor(text=[chat], images=image, do_resize=False, return_tensors="pt")
        with torch.no_grad():
            model.model.rope_deltas = None
            state = model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1]
        state = (state - state.mean()) / (state.var(correction=0) + 1e-5).sqrt()
        hidden = weights["body.0.weight"] @ state + weights["body.0.bias"]
        value = weights["last.weight"][0] @ (hidden * hidden.sigmoid()) + weights["last.bias"][0]
        assert score.value == pytest.approx(float(value), abs=1e-4)


def test_values_do_not_depend_on_the_batch(base, engine):
    reward = load("head", fitted=base[0])
    assert reward.info.needs == ("prompt", "response") and not reward.info.differentiable
    together = [score.value for score in engine.score(SAMPLES, reward)["head"]]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        alone = [other.score([sample], reward)["head"][0].value for sample in SAMPLES]
        backward = [score.value for score in other.score(SAMPLES[::-1], reward)["head"]]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


# --- traps --------------------------------------------------------------------------------------------------


def test_no_value_is_searched_for_the_place_of_another():
    assert filled("{prompt} / {response}", "a {response}", "b {prompt}") == "a {response} / b {prompt}"


def test_a_response_that_says_nothing_or_ends_a_turn_has_no_score(base, engine):
    bad = ["", "<think>hm", "Yes.<|im_end|>"]
    scores = engine.score([replace(SAMPLES[0], response=text) for text in bad], load("head", fitted=base[0]))
    assert not any(score.ok for score in scores["head"])


def test_an_adapter_reads_responses_as_the_head_does(engine, base):
    from mmreward.models.states import body_of
    from mmreward.tune.fit_head import Backbone, embed
    from mmreward.tune.fit_lora import _readings

    network = body_of("mini-vlm", "float32")
    pairs = [
        ResponsePair(prompt=one.prompt, chosen=one.response, rejected=other.response, media=(one.image,))
        for one, other in PAIRS[:2]
    ]
    assert [half.response for half in halves_of(pairs[0])] == [sample.response for sample in PAIRS[0]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmreward.tune.fit_head.FEWEST", 2)
        _, known, _ = embed(pairs, Backbone(network, RESPONSES_QUESTION), engine)
    found = _readings(network, RESPONSES_QUESTION, pairs)
    for half, want in zip(found, (known.chosen, known.rejected), strict=True):
        assert half.detach().numpy() == pytest.approx(want.numpy(), abs=1e-3)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "question", "said"),
    [
        ("mini-clip", "", "pairs of responses are for a Qwen-VL, which reads them, and mini-clip is none"),
        ("mini-vlm", "Is {prompt} good?", r"question has no \{response\}"),
    ],
)
def test_what_cannot_read_responses_is_refused(folder, engine, tmp_path, backbone, question, said):
    with pytest.raises(ValueError, match=said):
        fit_head(folder, backbone, tmp_path / "head", engine, question=question)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "image"}, "line 2 is a pair of images among pairs of responses"),
        ({"rejected": " "}, "line 2 has no rejected, a response in words"),
        ({"steps": [{"action": "click"}]}, "line 2 has steps before its responses"),
        ({"images_file_names": ["media/gone.png"]}, "line 2: there is no file"),
        ({"prompt": ""}, "line 2 has no prompt"),
        ({"tie": "no"}, "line 2: tie is 'no', not true or false"),
    ],
)
def test_a_line_that_is_no_pair_of_responses_is_named(folder, tmp_path, change, said):
    shutil.copytree(folder, tmp_path / "pairs")
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    (tmp_path / "pairs" / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=said):
        read_any_pairs(tmp_path / "pairs")


def test_a_question_about_responses_is_not_for_pictures(engine, tmp_path):
    from mmreward.data.pair_folder import PreferencePair, write_pairs

    picture = Media(np.zeros((8, 8, 3), np.uint8))
    write_pairs(tmp_path / "pairs", [PreferencePair(prompt="x", chosen=picture, rejected=picture)])
    with pytest.raises(ValueError, match="and the pairs are of pictures or clips"):
        fit_head(tmp_path / "pairs", "mini-vlm", tmp_path / "head", engine, question="{prompt} {response}?")
