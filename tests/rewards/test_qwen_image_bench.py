"""Qwen-Image-Bench's marks: a judge behind a server, against a second writing of the publisher's averages."""

import json
import random

import numpy as np
import pytest
from support.stand_ins import MarkingJudge

from mmreward import Engine, Media, Sample, Unscorable, load
from mmreward.evals.published.marking import BENCH, write_bench
from mmreward.models.wants import collecting
from mmreward.rewards.pictures.qwen_image_bench import (
    DIMENSIONS,
    criteria_of,
    filled,
    read_marks,
    squashed,
)

PICTURES = [np.full((24, 40 + 8 * n, 3), 40 * n, np.uint8) for n in range(5)]
SAMPLES = [
    Sample(id=str(n), prompt="a {prompt} <image> {red} circle", image=Media(picture))
    for n, picture in enumerate(PICTURES)
]


@pytest.fixture(scope="module")
def judge():
    return MarkingJudge()


@pytest.fixture(scope="module")
def args(judge, tmp_path_factory):
    return write_bench(tmp_path_factory.mktemp("bench")) | {"judge": judge.name}


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


# --- a second writing ---------------------------------------------------------------------------------------


def upstream(answers):
    """Means of means of means by the publisher's rule; answers are well-formed: dimension -> JSON text."""
    tops = []
    for dimension, text in answers.items():
        body = json.loads(text[text.rindex("</think>") + 8 :])
        where = {
            line[2:].split(":")[0]: heading
            for heading, lines in (
                (block.splitlines()[0], block.splitlines()[1:])
                for block in BENCH[dimension].split("## ")
                if block
            )
            for line in lines
        }
        seconds = {}
        flat = "score" in next(iter(body.values()))
        for heading, group in ({"": body} if flat else body).items():
            for name, mark in group.items():
                value = {0: 0.0, 1: 60.0, 2: 100.0, "N/A": None}[mark["score"]]
                seconds.setdefault(where.get(name, heading), []).append(value)
        kept = [[v for v in values if v is not None] for values in seconds.values()]
        means = [sum(values) / len(values) for values in kept if values]
        if means:
            tops.append(sum(means) / len(means))
    return sum(tops) / len(tops) if tops else None


def answers_of(rng):
    """Answers to all lists, nested, flat, or with criteria under other headings."""
    found = {}
    for dimension, checklist in BENCH.items():
        known = criteria_of(checklist)
        marks = {name: {"score": rng.choice([0, 1, 2, "N/A"])} for name in known}
        nested = {}
        for name, mark in marks.items():
            heading = known[name] if rng.random() < 0.7 else rng.choice(list(known.values()))
            nested.setdefault(heading, {})[name] = mark
        found[dimension] = f"<think>{{no}}</think>{json.dumps(marks if rng.random() < 0.3 else nested)}"
    return found


def test_means_are_the_publishers():
    rng = random.Random(0)
    for _ in range(200):
        answers = answers_of(rng)
        tops = []
        for dimension, text in answers.items():
            headings = read_marks(text, dimension, BENCH[dimension])
            means = [sum(marks.values()) / len(marks) for marks in headings.values() if marks]
            tops += [sum(means) / len(means)] if means else []
        assert upstream(answers) == pytest.approx(sum(tops) / len(tops) if tops else None)


def test_a_picture_is_asked_about_five_lists_and_has_their_mean(args, judge, engine):
    judge.server.requests.clear()
    scores = engine.score(SAMPLES, load("qwen_image_bench", **args))["qwen_image_bench"]
    assert all(score.ok for score in scores), scores
    assert len({score.value for score in scores}) > 2
    asked = [r for r in judge.server.requests if r.path.endswith("/completions")]
    assert len(asked) == 5 * len(SAMPLES)
    body = asked[0].body
    assert body["messages"][0]["content"] == "Mark pictures." and body["max_completion_tokens"] == 4096
    before, picture, after = body["messages"][1]["content"]
    assert before["text"] == "# Wish\na {prompt} <image> {red} circle\n\n# Shown\n"
    assert picture["type"] == "image_url"
    assert after["text"].startswith("\n\n# Side\n") and '{"{heading}": {"{criterion}"' in after["text"]
    for score in scores:
        tops = [score.parts[name] for name in DIMENSIONS if name in score.parts]
        assert score.value == pytest.approx(np.mean(tops))


def test_a_row_of_the_benchmark_is_asked_about_its_own_dimensions(args, judge, engine):
    judge.server.requests.clear()
    meta = {"dims_en": "Alignment / Things / Number; Quality / Fine / Grain; Alignment / Scene / Place"}
    fresh = Media(np.full((30, 30, 3), 99, np.uint8))
    sample = Sample(prompt="x", image=fresh, meta=meta)
    (score,) = engine.score([sample], load("qwen_image_bench", **args))["qwen_image_bench"]
    assert {name for name in score.parts if "/" not in name} <= {"Alignment", "Quality"}
    assert len([r for r in judge.server.requests if r.path.endswith("/completions")]) == 2
    none = Sample(prompt="x", image=fresh, meta={"dims_en": "Nothing / At all"})
    (score,) = engine.score([none], load("qwen_image_bench", **args))["qwen_image_bench"]
    assert score.status == "na"


def test_values_do_not_depend_on_the_batch(args, engine):
    reward = load("qwen_image_bench", **args)
    together = [score.value for score in engine.score(SAMPLES, reward)["qwen_image_bench"]]
    with Engine("cpu", cache_bytes=0) as other:
        alone = [other.score([s], reward)["qwen_image_bench"][0].value for s in SAMPLES[::-1]]
    assert alone[::-1] == together


# --- traps --------------------------------------------------------------------------------------------------


def test_a_large_picture_is_squashed_to_a_square():
    wide = Media(np.arange(1500 * 20 * 3, dtype=np.uint32).reshape(20, 1500, 3).astype(np.uint8))
    assert squashed(wide).size == (1024, 1024)
    small = Media(np.zeros((1024, 7, 3), np.uint8))
    assert squashed(small) is small


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("I would say it is fine.", "unparsable", "no JSON"),
        ('{"Real": {"Weight": {"score": 2}', "unparsable", "no JSON"),
        ("[1, 2]", "unparsable", "no JSON"),
        ("{}", "missing", "marked nothing"),
        ('{"Real": {"Weight": {"score": 3}}}', "out_of_range", "the mark '3'"),
        ('{"Real": {"Weight": {"score": true}}}', "out_of_range", "the mark 'True'"),
        ('{"Real": {"Weight": {"score": 1.5}}}', "out_of_range", "the mark '1.5'"),
        ('{"Real": {"Weight": {"score": "good"}}}', "out_of_range", "the mark 'good'"),
        ('{"Real": {"Weight": {}}}', "out_of_range", "the mark 'None'"),
    ],
)
def test_what_upstream_leaves_out_of_the_mean_is_a_failure(answer, status, said):
    with pytest.raises(Unscorable, match=said) as caught:
        read_marks(answer, "Quality", BENCH["Quality"])
    assert caught.value.status == status


def test_dress_that_upstream_reads_is_read():
    text = 'Sure: {"Real": {"Weight": {"score": "1"}, "Cloth": {"score": "n/a"}}, "Grain": {"score": 2}} done'
    assert read_marks(text, "Quality", BENCH["Quality"]) == {
        "Real": {"Weight": 60.0},
        "Fine": {"Grain": 100.0},
    }
    text = '{"New": {"Feature Mapping": {"score": 0}, "Charm": {"score": 2}}}'
    found = read_marks(text, "Creative Generation", BENCH["Creative Generation"])
    assert found == {"Feature Matching": {"Feature Matching": 0.0}, "New": {"Charm": 100.0}}


def test_a_prompt_that_holds_fields_is_put_in_once():
    template = "{prompt}|<image>|{level1_dim}|{format_checklist}|{{x}}"
    text, place = filled(template, "{level1_dim}<image>{{y}}", "Quality", "L")
    assert text == "{level1_dim}<image>{{y}}||Quality|L|{x}" and place == len("{level1_dim}<image>{{y}}|")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("[]", "has not system, template and lists"),
        ('{"system": "", "template": "{prompt}", "lists": {}}', "not one <image>"),
        (
            '{"system": "", "template": "{prompt}<image>{level1_dim}{format_checklist}", "lists": {}}',
            "no criterion of Quality",
        ),
    ],
)
def test_a_file_of_another_form_is_refused(args, tmp_path, own, said):
    (tmp_path / "own.json").write_text(own)
    with pytest.raises(ValueError, match=said):
        load("qwen_image_bench", **args | {"questions": str(tmp_path / "own.json")})


def test_one_published_file_is_fetched():
    with collecting() as wants:
        load("qwen_image_bench", judge="mini-vlm")
    (url,) = (want.name for want in wants if want.use == "published")
    assert url.endswith("/b6b556bb14dcb37da873bbb571c29273562804f2/checklists.py")
