"""VisionReward's question lists with the miniature's judge, against the publisher's lines and one request per
question through transformers.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mmreward import Engine, Media, Sample, load, models
from mmreward.assets import ASSETS
from mmreward.engine.batching import Budget
from mmreward.evals.published import scenes
from mmreward.evals.published import vlm as naive_vlm
from mmreward.mini.world import Scene, Thing, render
from mmreward.models.pinned import Pin
from mmreward.models.published import published
from mmreward.models.vlms.answers import Read
from mmreward.models.wants import collecting
from mmreward.rewards.judged.vqascore import VLM as ASKED
from mmreward.rewards.pictures import visionreward as module
from mmreward.rewards.pictures.visionreward import SUFFIX, masked

SCENES = [
    Scene((Thing("red", "circle", 0.3, 0.4, 0.15), Thing("blue", "square", 0.7, 0.6, 0.15))),
    Scene((Thing("green", "triangle", 0.5, 0.5, 0.2),)),
    Scene((Thing("yellow", "circle", 0.3, 0.3, 0.1), Thing("red", "triangle", 0.7, 0.7, 0.2))),
]
PROMPTS = ["a red circle and a blue square", "a green triangle", "[[prompt]]"]
PICTURES = [render(scene, size) for scene, size in zip(SCENES, (64, 32, 64), strict=True)]
SAMPLES = [
    Sample(id=str(row), prompt=prompt, image=Media(picture))
    for row, (prompt, picture) in enumerate(zip(PROMPTS, PICTURES, strict=True))
]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return scenes.write_questions(tmp_path_factory.mktemp("lists"))


@pytest.fixture(scope="module")
def naive():
    return naive_vlm.load(str(ASSETS / "mini-vlm"))


def loaded(args, name="visionreward", **more):
    own = {"judge": "mini-vlm", "min_mass": 0.0, **args, **more}
    if name == "visionreward":
        own["alignment"] = "mini-vlm"
    return load(name, **own)


def read(file):
    return Path(file).read_text()


def test_a_picture_has_the_publishers_sum_of_one_request_per_question(engine, lists, naive):
    args, _ = lists
    questions = [line.strip() for line in read(args["questions"]).splitlines()]
    weights = json.loads(read(args["coefficients"]))
    scores = engine.score(SAMPLES, loaded(args))["visionreward"]
    answers = set()
    for sample, picture, score in zip(SAMPLES, PICTURES, scores, strict=True):
        yes = [scenes.assent(naive, sample, question + SUFFIX) > 0.5 for question in questions]
        answers.update(yes)
        row = naive_vlm.naive_logprobs(naive, [picture], ASKED.replace("{prompt}", sample.prompt))[-1]
        (token,) = naive[1].tokenizer.encode("Yes", add_special_tokens=False)
        assert score.parts["alignment"] == pytest.approx(float(row.exp()[token]), abs=1e-5)
        assert score.value == pytest.approx(scenes.weighed(float(row.exp()[token]), yes, weights), abs=1e-4)
    assert answers == {True, False}


def test_soft_answers_are_the_expectation(engine, lists, naive):
    args, _ = lists
    questions = [line.strip() for line in read(args["questions"]).splitlines()]
    weights = json.loads(read(args["coefficients"]))
    (score,) = engine.score(SAMPLES[:1], loaded(args, soft=True))["visionreward"]
    yes = np.array([scenes.assent(naive, SAMPLES[0], question + SUFFIX) for question in questions])
    draws = np.random.default_rng(0).random((20_000, 30)) < yes
    mean = np.mean([scenes.weighed(score.parts["alignment"], draw, weights) for draw in draws[:4000]])
    assert score.value == pytest.approx(mean, abs=0.05)


def test_a_clip_has_the_mean_of_its_weighted_answers(engine, lists):
    _, args = lists
    frames = np.stack([np.asarray(PICTURES[0])] * 4)
    frames[2:] //= 2
    clip = Media(frames, "video", fps=2.0)
    reward = loaded(args, "visionreward_video")
    (score,) = engine.score([Sample(prompt=PROMPTS[0], video=clip)], reward)["visionreward_video"]
    judge = models.vlm("mini-vlm")
    questions = [line.replace("[[prompt]]", PROMPTS[0]) for line in read(args["questions"]).splitlines()]
    answers = np.array(
        [
            1 if engine.run(judge.read(clip, text + SUFFIX, ("yes", "no"))).answer == "yes" else -1
            for text in questions
        ]
    )
    weight = np.array(json.loads(read(args["coefficients"])))
    assert score.value == pytest.approx(np.mean(answers * weight).item(), abs=1e-6)
    assert "q1: " in next(iter(score.parts)) and len(score.parts) == 29


def test_values_do_not_depend_on_the_batch(engine, lists):
    reward = loaded(lists[0], soft=True)
    together = [score.value for score in engine.score(SAMPLES, reward)["visionreward"]]
    with Engine("cpu", budget=Budget(items=7), cache_bytes=0) as other:
        alone = [other.score([sample], reward)["visionreward"][0].value for sample in SAMPLES]
        backward = [score.value for score in other.score(SAMPLES[::-1], reward)["visionreward"]]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


def test_a_picture_is_encoded_once_for_all_its_questions(lists, engine):
    """Thirty-one requests would encode it as many times."""
    reward = loaded(lists[0])
    tower = models.vlm("mini-vlm").network.module.model.visual
    patches = []
    hook = tower.register_forward_pre_hook(lambda _, args, kwargs: patches.append(1), with_kwargs=True)
    fresh = Sample(prompt="x", image=Media(render(SCENES[1], 64)))
    (score,) = engine.score([fresh], reward)["visionreward"]
    hook.remove()
    assert score.ok and len(patches) == 1


# --- traps --------------------------------------------------------------------------------------------------


def test_masked_answers():
    yes = [1.0] * 30
    assert masked(yes) == [1.0] * 27
    bodiless = masked([-1.0, *yes[1:]])
    assert [place + 3 for place, answer in enumerate(bodiless) if answer == 0] == [22, 23, 24, 28, 29]
    faceless = masked([1.0, -1.0, *yes[2:]])
    assert [place + 3 for place, answer in enumerate(faceless) if answer == 0] == [25, 26]
    assert masked([1.0, 1.0, -1.0, *[-1.0] * 27])[24] == 0.0


def judge_of(monkeypatch, read):
    monkeypatch.setattr(models.vlm("mini-vlm"), "read", read, raising=True)


def test_what_is_not_answered_counts_as_no_and_is_named(engine, lists, monkeypatch):
    reward = loaded(lists[0], min_mass=0.5)

    async def mumbling(media, question, labels, *, system=""):
        return Read({"yes": 0.9, "no": 0.1}, 0.1 if "red square" in question else 0.9)

    judge_of(monkeypatch, mumbling)
    (score,) = engine.score(SAMPLES[:1], reward)["visionreward"]
    assert score.note == "not answered, counted as no: 5, 23"
    assert score.parts["q5: Is there a red square?"] == -1.0

    async def silent(media, question, labels, *, system=""):
        return Read({"yes": 0.9, "no": 0.1}, 0.01)

    judge_of(monkeypatch, silent)
    (score,) = engine.score(SAMPLES[1:2], reward)["visionreward"]
    assert score.status == "unparsable" and "no question was answered" in score.note


def test_a_prompt_that_holds_the_mark_is_put_in_once(engine, lists, monkeypatch):
    asked = []

    async def noting(media, question, labels, *, system=""):
        asked.append(question)
        return Read({"yes": 0.9, "no": 0.1}, 1.0)

    reward = loaded(lists[1], "visionreward_video")
    judge_of(monkeypatch, noting)
    clip = Media(np.zeros((2, 32, 32, 3), np.uint8), "video", fps=2.0)
    engine.score([Sample(prompt="a [[prompt]] b", video=clip)], reward)
    assert asked[0] == 'Does it show "a [[prompt]] b" wholly?' + SUFFIX


@pytest.mark.parametrize(
    ("which", "text", "said"),
    [
        ("questions", "Is it?\n\nIs it not?\n", "2 questions, where the weights are for 30"),
        ("coefficients", "[1, 2]", "have no coef and intercept"),
        ("coefficients", '{"coef": [1], "intercept": [0]}', "1 weights, where 28 are needed"),
        ("coefficients", '{"coef": "x", "intercept": [0]}', "'x' is no list of numbers"),
        ("coefficients", json.dumps({"coef": [1] * 28, "intercept": [0]}), "from -27 to 28, outside"),
        ("coefficients", "{", "Expecting"),
    ],
)
def test_a_file_of_another_form_is_refused(lists, tmp_path, which, text, said):
    (tmp_path / "own").write_text(text)
    with pytest.raises(ValueError, match=said):
        loaded({**lists[0], which: str(tmp_path / "own")})


def test_files_that_are_not_here_are_named_with_the_command(lists, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"curl -fL --create-dirs .*VisionReward_image_qa_select\.txt"):
        load("visionreward", judge="mini-vlm", alignment="mini-vlm")
    with pytest.raises(ValueError, match=r"nowhere\.txt cannot be read"):
        loaded({**lists[0], "questions": str(tmp_path / "nowhere.txt")})


def test_the_fingerprint_follows_the_words_of_a_file(lists, tmp_path):
    first = loaded(lists[0])
    own = tmp_path / "own.txt"
    own.write_text(read(lists[0]["questions"]))
    same = loaded({**lists[0], "questions": str(own)})
    own.write_text(read(lists[0]["questions"]).replace("red", "crimson"))
    other = loaded({**lists[0], "questions": str(own)})
    assert same.networks[0].fingerprint == first.networks[0].fingerprint
    assert other.networks[0].fingerprint != first.networks[0].fingerprint
    assert other.fingerprint != same.fingerprint


# --- published texts ----------------------------------------------------------------------------------------


def test_a_text_of_another_hash_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pin = Pin("owner/name", "0" * 40, "a/list.txt", "", hashlib.sha256(b"one\ntwo").hexdigest())
    pin.file.parent.mkdir(parents=True)
    pin.file.write_text("one\ntwo")
    assert published(pin, str.splitlines) == ["one", "two"]
    pin.file.write_text("one\nthree")
    with pytest.raises(ValueError, match="has no text with the SHA-256"):
        published(pin, str.splitlines)


def test_what_is_fetched_for_a_reward_names_its_lists(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with collecting() as wants:
        load("visionreward_video", judge="mini-vlm")
    urls = [want.name for want in wants if want.use == "published"]
    assert urls == [module.VIDEO_QUESTIONS.url, module.VIDEO_WEIGHTS.url]
    assert len({want.to for want in wants if want.use == "published"}) == 2
    assert all(module.COMMIT in url for url in urls)
