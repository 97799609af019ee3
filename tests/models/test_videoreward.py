"""VideoReward from tiny random checkpoints in both published forms, against a second writing of VideoAlign's
lines.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmreward import Media, Sample, load
from mmreward.cli.fetching import wants_of
from mmreward.errors import Unavailable, Unscorable
from mmreward.evals.published import readers, scalars
from mmreward.models.vlms.videoalign import TOKENS, Reading
from mmreward.registry import find

SAMPLES = readers.clips()
MEDIA = [sample.video for sample in SAMPLES]
PROMPTS = [sample.prompt for sample in SAMPLES]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return scalars.save_videoreward(tmp_path_factory.mktemp("videoreward"))


@pytest.fixture(scope="module")
def naive(args):
    return readers.videoreward_body(args)


def scored(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)[reward.info.name]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def test_values_are_those_of_the_publishers_lines(engine, args, naive):
    for sample, score in zip(SAMPLES, scored(engine, load("videoreward", **args)), strict=True):
        want = readers.videoreward_parts(naive, sample.video, sample.prompt)
        assert [score.parts[name] for name in ("VQ", "MQ", "TA")] == pytest.approx(want, abs=1e-4)
        assert score.value == pytest.approx(sum(want), abs=2e-4) and score.parts["standardised"] == 1


def test_visual_and_motion_quality_do_not_depend_on_the_prompt(engine, args):
    reward = load("videoreward", **args)
    samples = [Sample(prompt=prompt, video=MEDIA[0]) for prompt in PROMPTS]
    alone = []
    for sample in samples:
        engine.cache.clear()
        alone += scored(engine, reward, [sample])
    for name in ("VQ", "MQ"):
        values = [score.parts[name] for score in alone]
        assert max(values) - min(values) < 1e-5
    values = [score.parts["TA"] for score in alone]
    assert min(abs(values[0] - other) for other in values[1:]) > 1e-3


def test_any_batch_gives_the_same_numbers(engine, args):
    reward, found = load("videoreward", **args), []
    rows = [*SAMPLES, Sample(id="3", prompt="a fox", video=MEDIA[0])]
    for order in (rows, rows[::-1], *([row] for row in rows)):
        engine.cache.clear()
        found += zip([row.id for row in order], scored(engine, reward, order), strict=True)
    for row in rows:
        for name in ("VQ", "MQ", "TA"):
            values = [score.parts[name] for number, score in found if number == row.id]
            assert len(values) == 3 and max(values) - min(values) < 1e-5


def test_the_golden_numbers_of_the_standardisation(engine, args, monkeypatch):
    reward = load("videoreward", **args)
    *_, network = reward.networks  # the words come first

    async def raw(media, text):
        return ((4.0, 9.0, 9.0), (9.0, 1.0, 9.0), (9.0, 9.0, 3.0))

    monkeypatch.setattr(network, "score", raw)
    (score,) = scored(engine, reward, SAMPLES[:1])
    want = {"VQ": 0.14428724, "MQ": -0.11918036, "TA": 0.07543490}
    assert {name: score.parts[name] for name in want} == pytest.approx(want, abs=1e-7)
    assert score.value == pytest.approx(0.10054177, abs=1e-7)
    (alignment,) = scored(engine, load("videoreward", **args, dimension="TA"), SAMPLES[:1])
    assert alignment.value == pytest.approx(want["TA"], abs=1e-7)
    monkeypatch.setitem(network.settings, "inference_config", None)
    (bare,) = scored(engine, reward, SAMPLES[1:2])
    assert bare.value == 8.0 and bare.parts["standardised"] == 0


def test_adapters_alone_are_the_same_network(engine, tmp_path):
    one = scalars.save_videoreward(tmp_path / "adapters", adapters=True)
    folder = Path(one["weights"])
    assert {path.name for path in (folder / "checkpoint-11352").iterdir()} == {
        "adapter_model.safetensors", "non_lora_state_dict.pth",
    }  # fmt: skip
    values = [score.value for score in scored(engine, load("videoreward", **one), SAMPLES[:2])]
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    shutil.rmtree(whole / "checkpoint-11352")
    (whole / "checkpoint-11352").mkdir()
    tokens = tuple(TOKENS)
    state = scalars.adapted(scalars.full_state(one["base"], tokens), tokens, one["base"])
    torch.save(state, whole / "checkpoint-11352" / "model.pth")
    other = scored(engine, load("videoreward", **{**one, "weights": str(whole)}), SAMPLES[:2])
    assert [score.value for score in other] == pytest.approx(values, abs=1e-5)


@pytest.mark.parametrize(
    ("total", "fps", "count"),
    [(126, 24.0, 10), (134, 24.0, 12), (30, 30.0, 4), (3, 1.0, 2), (2000, 2.0, 768), (7, 2.0, 6)],
)
def test_the_number_of_frames_is_rounded_and_not_cut(total, fps, count):
    """Trap: qwen-vl-utils cuts 11.2 frames to 10, this publisher's older copy rounds them to 12."""
    chosen = Reading(2.0, 0, 200_704).chosen(total, fps)
    assert len(chosen) == count and chosen[0] == 0 and chosen[-1] == total - 1
    assert len(Reading(0.0, 5, 200_704).chosen(134, fps)) == 4


def test_clips_that_are_too_short_and_pictures_say_so(engine, args):
    with pytest.raises(Unscorable, match="the clip has 1 frames, and 2 are looked at"):
        Reading(2.0, 0, 200_704).chosen(1, 2.0)
    reward = load("videoreward", **args)
    short = Sample(prompt="x", video=Media(readers.coarse(1, 48, 48, 0), "video", fps=2.0))
    marked = Sample(prompt="a <|TA_reward|>", video=MEDIA[0])
    found = engine.score([short, marked, Sample(prompt="x", image=MEDIA[0])], reward)["videoreward"]
    assert all(score.status == "error" or not score.ok for score in found)
    assert "the clip has 1 frames" in found[0].note
    assert "the prompt contains <|TA_reward|>" in found[1].note and "video" in found[2].note


def test_another_checkpoint_configuration_or_body_is_refused(engine, args, tmp_path):
    folder = tmp_path / "VideoReward"
    shutil.copytree(args["weights"], folder)
    with pytest.raises(Unavailable, match="has no checkpoint-1; there is checkpoint-11352"):
        scored(engine, load("videoreward", **{**args, "checkpoint": "checkpoint-1"}))
    other = scalars.save_base(tmp_path / "body", "qwen2_5_vl")
    with pytest.raises(Unavailable, match="was not trained on this body, a qwen2_5_vl"):
        scored(engine, load("videoreward", **{**args, "base": other}))
    config = json.loads((folder / "model_config.json").read_text())
    config["data_config"]["prompt_template_type"] = "simple"
    (folder / "model_config.json").write_text(json.dumps(config))
    with pytest.raises(Unavailable, match="says prompt_template_type: 'simple'; 'detailed_special' is read"):
        scored(engine, load("videoreward", **{**args, "weights": str(folder)}))
    with pytest.raises(ValueError, match="dimension 'ta': there are overall, VQ"):
        load("videoreward", **args, dimension="ta")
    swapped = scalars.CLIP.replace("VQ", "x").replace("MQ", "VQ").replace("x_", "MQ_")
    with pytest.raises(ValueError, match="another order than"):
        load("videoreward", **{**args, "words": scalars.worded(tmp_path / "swapped", prompt=swapped)})


def test_what_is_fetched_and_names_of_other_suites():
    wants = {want.name: want for want in wants_of("videoreward", {})}
    assert wants["KlingTeam/VideoReward"].parts == ("model_config.json", "checkpoint-11352/model.pth")
    assert "tokenizer.json" in wants["Qwen/Qwen2-VL-2B-Instruct"].parts
    (text,) = (want for want in wants.values() if want.kind == "url")
    assert text.name.endswith("/prompt_template.py") and len(wants) == 3
    for name in ("VideoAlign", "video_reward", "Kling-VideoReward"):
        with pytest.raises(ValueError, match="did you mean 'videoreward'"):
            find(name)
