"""`mmreward pairs`: from scored files to a folder that `datasets` reads."""

import json

import numpy as np
import pytest
from PIL import Image
from support import forked
from support.toys import toy

from mmreward import Engine, Score
from mmreward.data.pair_columns import Judging
from mmreward.data.pair_folder import read_pairs
from mmreward.data.pairs import Rules, pair_file
from mmreward.data.results import Result, write
from mmreward.loading import resolve
from mmreward.search.config import read_prompts
from mmreward.tune.config import PromptsConfig


def picture(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path):
    """Two prompts with four pictures each; the last of the second is the third again."""
    (tmp_path / "drawn").mkdir()
    rows = []
    for index in range(8):
        name = f"drawn/{index}.png"
        picture(tmp_path / name, min(index, 6))
        rows.append({"id": f"s{index}", "prompt": ["a cat", "a dog"][index // 4], "image": name})
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scored(path, rewards, facts=None):
    """A results file; None is a score that failed."""
    made = [
        Result.of(
            f"s{index}",
            name,
            Score.failed("timeout", "slow") if value is None else Score(value),
            "print",
            "digest",
        )
        for name, values in rewards.items()
        for index, value in enumerate(values)
    ]
    write(path, made, {"rewards": facts or {}})
    return path


@pytest.fixture
def results(tmp_path):
    return scored(
        tmp_path / "scores.parquet",
        {"clip": [0.1, 0.9, 0.5, None, 0.3, 0.3, 0.4, 0.4], "oracle": [1, 0, 0, 0, 0, 0, 0, 1]},
    )


def mmreward(*arguments):
    return forked.python("-m", "mmreward.cli", *arguments)


def test_a_folder_of_pairs_and_what_became_of_the_rest(data, results, tmp_path):
    done = mmreward(
        "pairs", data, results, "--reward", "clip", "--choose", "all", "--out", tmp_path / "pairs"
    )
    assert done.returncode == 0, done.stderr
    assert "2 prompts, 8 rows -> 5 pairs by clip" in done.stdout
    assert "failed 1  unusable 0  duplicates 1" in done.stdout and "ties 1" in done.stdout
    pairs = read_pairs(tmp_path / "pairs")
    assert [(p.prompt, p.facts["chosen_id"], p.facts["rejected_id"]) for p in pairs] == [
        ("a cat", "s1", "s0"),
        ("a cat", "s1", "s2"),
        ("a cat", "s2", "s0"),
        ("a dog", "s6", "s4"),
        ("a dog", "s6", "s5"),
    ]
    first = pairs[0]
    assert (first.facts["chosen_score"], first.facts["rejected_score"]) == (0.9, 0.1)
    assert first.chosen.source.read_bytes() == (tmp_path / "drawn" / "1.png").read_bytes()
    assert len(list((tmp_path / "pairs" / "media").iterdir())) == 6


def test_ties_are_pairs_where_they_are_asked_for_and_every_row_says_which(data, results, tmp_path):
    done = mmreward(
        "pairs", data, results, "--reward", "clip", "--choose", "all", "--ties", "--out", tmp_path / "pairs"
    )
    assert "-> 6 pairs by clip" in done.stdout and "ties 0" in done.stdout
    pairs = read_pairs(tmp_path / "pairs")
    assert [pair.facts["tie"] for pair in pairs] == [False] * 5 + [True]
    tie = pairs[-1]
    assert tie.tie and (tie.facts["chosen_id"], tie.facts["rejected_id"]) == ("s4", "s5")
    assert tie.facts["margin"] == 0


def test_datasets_reads_the_folder(data, results, tmp_path):
    datasets = pytest.importorskip("datasets")
    pair_file(data, [results], tmp_path / "pairs", reward="clip")
    loaded = datasets.load_dataset(str(tmp_path / "pairs"), split="train", cache_dir=str(tmp_path / "cache"))
    assert {"prompt", "chosen", "rejected", "chosen_score", "rejected_score", "margin"} <= set(
        loaded.column_names
    )
    row = loaded[0]
    assert row["prompt"] == "a cat" and row["margin"] == pytest.approx(0.8)
    with Image.open(tmp_path / "drawn" / "1.png") as expected:
        assert np.array_equal(np.asarray(row["chosen"]), np.asarray(expected))


def test_the_same_folder_whatever_the_order_of_the_rows(data, results, tmp_path):
    pair_file(data, [results], tmp_path / "one", reward="clip", rules=Rules(choose="ends"))
    data.write_text("".join(reversed(data.read_text().splitlines(keepends=True))))
    pair_file(data, [results], tmp_path / "two", reward="clip", rules=Rules(choose="ends"))
    one, two = (tmp_path / name / "metadata.jsonl" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_other_rewards_may_have_a_veto(data, results, tmp_path):
    summary = pair_file(data, [results], tmp_path / "pairs", reward="clip", agree=["oracle"])
    assert (summary.counts.pairs, summary.counts.disagreements) == (1, 1)
    assert read_pairs(tmp_path / "pairs")[0].prompt == "a dog"


def test_lower_may_be_better_and_total_is_the_default(data, tmp_path):
    lower = {"error": {"higher_is_better": False}}
    results = scored(tmp_path / "s.parquet", {"error": [4, 3, 2, 1] * 2, "total": [0, 1, 0, 0] * 2}, lower)
    pair_file(data, [results], tmp_path / "lower", reward="error")
    facts = read_pairs(tmp_path / "lower")[0].facts
    assert (facts["chosen_id"], facts["chosen_score"], facts["margin"]) == ("s3", 1, 3)
    assert pair_file(data, [results], tmp_path / "total").reward == "total"


def test_samples_meet_only_within_their_group_and_with_the_same_condition(data, results, tmp_path):
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows = [rows[index] for index in (0, 1, 2, 4)]
    for row, group, condition in zip(rows, "aaab", "0010", strict=True):
        row |= {"prompt": "a cat", "group": group, "inputs": [f"drawn/{condition}.png"]}
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = pair_file(data, [results], tmp_path / "pairs", reward="clip", rules=Rules(choose="all"))
    (pair,) = read_pairs(tmp_path / "pairs")
    assert summary.counts.groups == 3 and pair.facts["group"] == "a" and len(pair.inputs) == 1
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(tmp_path / "pairs"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["inputs"][0].size == (8, 8)


def test_clips_lie_beside_as_files(tmp_path, data, results):
    rows = []
    for index in range(2):
        frames = [Image.new("RGB", (8, 8), (80 * index, 10 * frame, 0)) for frame in range(3)]
        frames[0].save(tmp_path / f"{index}.gif", save_all=True, append_images=frames[1:], duration=100)
        rows.append({"id": f"s{index}", "prompt": "a wave", "video": f"{index}.gif"})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair_file(data, [results], tmp_path / "pairs", reward="clip")
    (pair,) = read_pairs(tmp_path / "pairs")
    assert pair.chosen.kind == "video" and pair.chosen.source.suffix == ".gif"
    assert pair.chosen.array().shape == (3, 8, 8, 3)


def test_rows_that_cannot_be_half_of_a_pair_are_counted(data, results, tmp_path):
    (tmp_path / "drawn" / "1.png").unlink()
    (tmp_path / "drawn" / "2.png").write_bytes(b"no picture")
    summary = pair_file(data, [results], tmp_path / "pairs", reward="clip")
    assert summary.unusable == 2 and summary.counts.pairs == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say by which reward, with --reward; there are clip, oracle"),
        (["--reward", "clop"], "no scores of 'clop'; the rewards are clip, oracle"),
        (["--reward", "clip", "--agree", "clip"], "agree names 'clip'; the other rewards are oracle"),
        (["--reward", "clip", "--margin", "0.95"], "no pairs, so nothing was written"),
        (["--reward", "clip", "--per-prompt", "0"], "per_prompt is 0"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(data, results, tmp_path, arguments, message):
    done = mmreward("pairs", data, results, "--out", tmp_path / "pairs", *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "pairs").exists()


def test_scores_must_belong_to_the_data_and_be_there_once(data, results, tmp_path):
    with pytest.raises(ValueError, match="another file has a score of clip for 's0'"):
        pair_file(data, [results, results], tmp_path / "pairs", reward="clip")
    data.write_text('{"id": "other", "prompt": "a cat", "image": "drawn/0.png"}\n')
    with pytest.raises(ValueError, match="another data set"):
        pair_file(data, [results], tmp_path / "pairs", reward="clip")


def test_a_folder_is_never_overwritten(data, results, tmp_path):
    pair_file(data, [results], tmp_path / "pairs", reward="clip")
    with pytest.raises(ValueError, match="is not empty"):
        pair_file(data, [results], tmp_path / "pairs", reward="clip")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda row: row | {"prompt": " "}, "line 1 has no prompt"),
        (lambda row: {k: v for k, v in row.items() if k != "rejected_file_name"}, "None is no file name"),
        (lambda row: row | {"chosen_file_name": "media/gone.png"}, "there is no file"),
        (lambda row: [row], "line 1 is list, not an object"),
    ],
)
def test_a_folder_that_was_spoilt_says_where(data, results, tmp_path, spoil, message):
    pair_file(data, [results], tmp_path / "pairs", reward="clip")
    metadata = tmp_path / "pairs" / "metadata.jsonl"
    first, *rest = metadata.read_text().splitlines()
    metadata.write_text("\n".join([json.dumps(spoil(json.loads(first))), *rest]))
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "pairs")


def test_a_search_can_draw_for_the_prompts_of_a_training_run():
    prompts, problems = read_prompts(PromptsConfig(data="shapes-world", count=3, seed=1))
    assert [sample.group for sample in prompts] == ["1-0", "1-1", "1-2"] and not problems
    assert all(sample.meta["checklist"] for sample in prompts)


def test_another_folder_is_no_folder_of_pairs(tmp_path):
    with pytest.raises(ValueError, match="`mmreward pairs` makes one"):
        read_pairs(tmp_path)


# --- judged now -------------------------------------------------------------------------------------------

BRIGHT = {f"s{index}": index for index in range(8)}


def place_of(sample):
    """Number of the picture's file, which stands for how good it is."""
    return int(sample.image.source.stem)


@pytest.fixture
def judges():
    """`better` is sure of what lies two apart; `placed` goes by the place; `graded` marks one picture."""

    async def better(first, second):
        gap = place_of(first) - place_of(second)
        value = 0.5 + 0.5 * (gap > 0) - 0.5 * (gap < 0) if abs(gap) > 1 else 0.5 + 0.1 * gap
        return Score(
            value, {"uncertainty": 0.0 if abs(gap) > 1 else 0.3, "confidence": max(value, 1 - value)}
        )

    async def placed(first, second):
        return Score(1.0, {"uncertainty": 0.0})

    async def graded(sample):
        return Score(-place_of(sample), {"confidence": 0.5 + place_of(sample) / 20})

    toy(better, "better", arity="pair")
    toy(placed, "placed", arity="pair")
    toy(graded, "graded", higher_is_better=False, range=(-9.0, 0.0))


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def paired(data, tmp_path, engine, names, **options):
    folder = tmp_path / f"pairs{len(list(tmp_path.iterdir()))}"
    rules = Rules(**{"choose": "all", **options.pop("rules", {})})
    judge = Judging(engine, resolve(list(names)))
    summary = pair_file(data, [], folder, judge=judge, rules=rules, **options)
    return summary, [(p.facts["chosen_id"], p.facts["rejected_id"]) for p in read_pairs(folder)]


def test_a_judge_of_pairs_is_asked_about_every_two_in_both_orders(judges, data, tmp_path, engine):
    summary, found = paired(data, tmp_path, engine, ["better"])
    assert found[0] == ("s3", "s0") and len(found) == 6 + 3 and summary.reward == "better"
    assert all(BRIGHT[chosen] > BRIGHT[rejected] for chosen, rejected in found)


def test_what_the_judge_is_not_sure_of_is_left_out(judges, data, tmp_path, engine):
    for rules in ({"confidence": 0.9}, {"sure": 2.0}, {"margin": 0.5}):
        summary, found = paired(data, tmp_path, engine, ["better"], rules=rules)
        assert sorted(found) == [("s2", "s0"), ("s3", "s0"), ("s3", "s1"), ("s6", "s4")]
        assert summary.counts.unsure + summary.counts.close == 5
    with pytest.raises(ValueError, match="ties 9"):
        paired(data, tmp_path, engine, ["placed"])
    with pytest.raises(ValueError, match="unsure 9"):
        paired(data, tmp_path, engine, ["placed"], rules={"swing": 0.5, "ties": True})
    summary, found = paired(data, tmp_path, engine, ["graded"], rules={"confidence": 0.6})
    assert sorted(found) == [
        ("s3", "s2"),
        *((f"s{high}", f"s{low}") for high, low in ((5, 4), (6, 4), (6, 5))),
    ]


def test_a_second_judge_agrees_and_a_part_that_is_missing_is_named(judges, data, tmp_path, engine, results):
    summary, found = paired(data, tmp_path, engine, ["better", "graded"], agree=["graded"])
    assert len(found) == 9 and summary.counts.disagreements == 0
    with pytest.raises(ValueError, match="do not have confidence among their parts"):
        paired(data, tmp_path, engine, ["placed"], rules={"confidence": 0.5, "ties": True})
    with pytest.raises(ValueError, match="clip has scores in a file"):
        judge = Judging(engine, {"clip": resolve(["better"])["better"]})
        pair_file(data, [results], tmp_path / "x", judge=judge)


def test_the_command_judges(data, tmp_path):
    arguments = (
        "--from",
        "saturation",
        "--from",
        "edge_density",
        "--choose",
        "all",
        "--out",
        tmp_path / "now",
    )
    done = mmreward("pairs", data, *arguments)
    assert done.returncode == 0 and "pairs by saturation" in done.stdout, done.stderr
    assert read_pairs(tmp_path / "now")[0].facts["reward"] == "saturation"
    done = mmreward("pairs", data, "--out", tmp_path / "none")
    assert done.returncode == 2 and "a judge with --from NAME" in done.stderr


def test_a_part_of_a_reward_makes_pairs_of_its_own(data, tmp_path):
    """Two axes that disagree about a cat: each has its pairs, and those that are better in both are fewer."""
    motion, sharp = [1, 2, 3, 4, 1, 2, 3, 3], [4, 1, 2, 3, 1, 2, 3, 3]
    made = [
        Result.of(f"s{row}", "critic", Score(0.5, {"Motion": m, "Sharp": q}), "print", "digest")
        for row, (m, q) in enumerate(zip(motion, sharp, strict=True))
    ]
    write(tmp_path / "scores.parquet", made, {"rewards": {}})
    rules = Rules(choose="all")
    folders = [tmp_path / name for name in ("motion", "both")]
    one = pair_file(data, [tmp_path / "scores.parquet"], folders[0], reward="critic/Motion", rules=rules)
    both = pair_file(
        data, [tmp_path / "scores.parquet"], folders[1],
        reward="critic/Motion", agree=["critic/Sharp"], rules=rules,
    )  # fmt: skip
    assert (one.counts.pairs, both.counts.pairs, both.counts.disagreements) == (9, 6, 3)
    assert both.agreement == {"critic/Sharp": pytest.approx(6 / 9)} and "67%" in str(both)
    with pytest.raises(ValueError, match="there are Motion, Sharp"):
        pair_file(data, [tmp_path / "scores.parquet"], tmp_path / "x", reward="critic/Sound")


def test_responses_to_one_question_meet_and_their_words_are_kept(tmp_path, engine):
    """A judge of two answers; rows about another picture, without an answer or with an equal one stay out."""

    async def longer(first, second):
        gap = len(first.response) - len(second.response)
        return Score(0.5 + 0.5 * (gap > 0) - 0.5 * (gap < 0), {"uncertainty": 0.0})

    toy(longer, "longer", arity="pair", needs=("prompt", "response"))
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", ord(name))
    answers = [("a", "two"), ("a", "two cats"), ("a", "two"), ("b", "none at all"), ("a", " "), ("b", "one")]
    rows = [
        {"id": str(row), "prompt": "How many cats?", "image": f"{shown}.png", "response": said}
        for row, (shown, said) in enumerate(answers)
    ]
    data = tmp_path / "answers.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = Judging(engine, resolve(["longer"]))
    summary = pair_file(data, [], tmp_path / "pairs", judge=judge, halves="responses")
    assert (summary.counts.pairs, summary.counts.duplicates, summary.unusable) == (2, 1, 1)
    lines = [json.loads(line) for line in (tmp_path / "pairs" / "metadata.jsonl").read_text().splitlines()]
    found = sorted((line["chosen"], line["rejected"]) for line in lines)
    assert found == [("none at all", "one"), ("two cats", "two")]
    assert all(len(line["images_file_names"]) == 1 and line["kind"] == "text" for line in lines)
    with pytest.raises(ValueError, match="is a pair of responses"):
        read_pairs(tmp_path / "pairs")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(tmp_path / "pairs"), split="train", cache_dir=str(tmp_path / "cache"))
    assert {"prompt", "images", "chosen", "rejected"} <= set(loaded.column_names)
    assert loaded[0]["images"][0].size == (8, 8)


@pytest.fixture
def rollouts(tmp_path):
    """Two questions; of the second all responses are right."""
    rows = [
        {"id": f"s{index}", "prompt": f"question {index // 4}", "response": f"answer {index}"}
        for index in range(8)
    ]
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "math": [1, 0, 1, 1, 1, 1, 1, None],
        "consistency": [1, 1, 0.1, 1, 1, 0, 1, 1],
        "repetition": [1, 1, 1, 0.2, 1, 1, 1, 1],
    }
    return path, scored(tmp_path / "rollouts.parquet", values)


def contrasted(rollouts, out, *more):
    return mmreward("pairs", *rollouts, "--out", out, "--contrast", "wrong=math", *more)


def test_sound_responses_meet_those_with_a_flaw(rollouts, tmp_path):
    both = "--contrast", "inconsistent=consistency", "--contrast", "repetitive=repetition"
    done = contrasted(rollouts, tmp_path / "pairs", "--responses", *both)
    assert done.returncode == 0, done.stderr
    assert "a reward failed on 1, unusable 0" in done.stdout
    lines = (tmp_path / "pairs" / "metadata.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    assert [(pair["flaw"], pair["chosen"], pair["rejected"]) for pair in pairs] == [
        ("wrong", "answer 0", "answer 1"),
        ("inconsistent", "answer 0", "answer 2"),
        ("repetitive", "answer 0", "answer 3"),
    ]
    assert (pairs[2]["reward"], pairs[2]["chosen_score"], pairs[2]["rejected_score"]) == (
        "repetition",
        1,
        0.2,
    )
    done = contrasted(rollouts, tmp_path / "more", "--responses", *both, "--keep-solved", "1")
    assert "sound against inconsistent: 2 pairs" in done.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "give it with --responses"),
        (("--responses", "--contrast", "late=math"), "a flaw of wrong, inconsistent, repetitive once each"),
        (("--responses", "--contrast", "repetitive=form"), "no scores of 'form'"),
        (("--responses", "--reward", "math"), "names its own rewards"),
    ],
)
def test_a_contrast_that_makes_no_sense_is_one_line(rollouts, tmp_path, more, message):
    done = contrasted(rollouts, tmp_path / "pairs", *more)
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "pairs").exists()
