"""RoboRewardBench: labels as published, answers of every form, rules against second writings, full size."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mmreward import Score, Unscorable, load
from mmreward.cli import app
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.against import against
from mmreward.evals.benchmarks.benchmark import Answers, Item, measured
from mmreward.evals.benchmarks.figures import (
    auprc,
    auroc,
    brier,
    cohen_d,
    ece,
    false_positives_at,
    pairwise,
    shares_at,
    tau_b,
    within_strata,
)
from mmreward.evals.benchmarks.predictions import read_predictions
from mmreward.evals.benchmarks.roboreward import LABELS, of_distribution, of_label, of_progress

BENCH = benchmark("roborewardbench")


def rng():
    return np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """Ten rows of two subsets; the clips of a pair are the same bytes."""
    rows = []
    for number in range(10):
        name = f"{'bridge' if number < 6 else 'droid'}/episode_{number}.mp4"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"clip %d" % (number // 2))
        rows.append({"file_name": name, "task": f"task {number}", "reward": 1 + number % 5})
        rows[-1]["gpt5_mini_check"] = "ANSWER: TRUE"
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_the_published_file_is_read_and_copies_of_a_clip_are_one_unit(folder):
    items = BENCH.read(folder)
    assert [item.gold for item in items] == [1, 2, 3, 4, 5] * 2 and len({item.unit for item in items}) == 5
    assert items[0].facts["subset"] == "bridge" and items[9].facts["subset"] == "droid"
    assert BENCH.read(folder / "metadata.jsonl") == items
    (folder / "bridge/episode_0.mp4").unlink()
    found = measured(BENCH, BENCH.read(folder), Answers(source="none", valid={}, invalid={}), draws=100)
    assert any("1 clips are not beside" in words for words in found.cautions)
    assert any("10 rows of 2 subsets; 2831 of 23" in words for words in found.cautions)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reward": 0}, "reward is 0"),
        ({"reward": True}, "reward is True"),
        ({"file_name": "episode.mp4"}, "SUBSET/EPISODE"),
        ({"task": None}, "task a text"),
        ({"file_name": "droid/episode_9.mp4"}, "named twice"),
    ],
)
def test_a_label_that_is_none_is_one_line(folder, change, words):
    file = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(json.dumps, [rows[0] | change, *rows[1:]])))
    with pytest.raises(ValueError, match=words):
        BENCH.read(folder)
    with pytest.raises(ValueError, match=r"no metadata\.jsonl"):
        BENCH.read(folder / "bridge")


def test_the_cuts_of_progress_are_not_rounded_half_to_even():
    at = [0, 0.1249, 0.125, 0.3749, 0.375, 0.6249, 0.625, 0.8749, 0.875, 1]
    assert [of_progress(p).label for p in at] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [round(p * 4) + 1 for p in (0.125, 0.375, 0.625, 0.875)] == [1, 3, 3, 5], "the peer's"
    for outside in (-0.1, 1.1, 50):
        with pytest.raises(Unscorable):
            of_progress(outside)
    assert of_distribution({"1": 0.1, "5": 0.5}).value == pytest.approx((0.1 + 2.5) / 0.6)
    for bad in ({"1": 0.4}, {"1": 0.9, "2": 0.9}, {"1": -1, "5": 1}, [1], {}):
        with pytest.raises(Unscorable):
            of_distribution(bad)


def test_answers_of_every_form(folder):
    items = BENCH.read(folder)
    forms = [
        {"parsed": {"kind": "label15", "value": 2}}, {"parsed": {"kind": "progress", "value": 1}},
        {"label": "3"}, {"progress": 0.5}, {"score_distribution": {"4": 0.9}}, {"raw_text": "ANSWER: 5"},
        {"raw_text": "I cannot"}, {"label": 2.5}, {"parsed": {"kind": "hop", "value": 1}}, {},
    ]  # fmt: skip
    path = folder / "p.jsonl"
    path.write_text("\n".join(json.dumps({"video": i.id, **f}) for i, f in zip(items, forms, strict=True)))
    found = read_predictions(path, BENCH, items)
    assert [found.valid[item.id].label for item in items[:6]] == [2, 5, 3, 3, 4, 5]
    statuses = [found.invalid[item.id].status for item in items[6:]]
    assert statuses == ["missing", "unparsable", "unparsable", "missing"], "a peer takes the first for 1"


def figures_of(gold, answers, subsets=None):
    items = [
        Item(id=f"{n}", gold=g, unit=n, facts={"subset": subsets[n] if subsets else "s", "clip": True})
        for n, g in enumerate(gold)
    ]
    valid = {f"{n}": one for n, one in enumerate(answers) if one is not None}
    return measured(BENCH, items, Answers(source="t", valid=valid, invalid={}), draws=100)


def labelled(values):
    return [None if one is None else of_label(one) for one in values]


def test_rules_by_hand():
    gold, said = [1, 3, 5, 5], [2, 3, 1, None]
    found = figures_of(gold, labelled(said), ["a", "a", "a", "b"])
    line = found.line
    assert line("mae/micro").strict == (1 + 0 + 4 + 4) / 4 and line("mae/micro").valid == pytest.approx(5 / 3)
    assert line("mae/macro").strict == pytest.approx((5 / 3 + 4) / 2)
    assert line("mae/macro").valid == pytest.approx(5 / 3)
    assert line("mae/labels").strict == pytest.approx((1 + 0 + 4) / 3)
    assert line("mae/progress").strict == pytest.approx(9 / 16)
    assert line("accuracy").strict == 0.25 and line("within 1").strict == 0.5
    assert math.isnan(line("bias").strict) and line("bias").valid == pytest.approx((1 + 0 - 4) / 3)
    assert line("over").valid == pytest.approx(1 / 3)
    assert line("false success").strict == 0
    assert line("success AUPRC").strict == pytest.approx((1 / 3 + 2 / 4) / 2), "the invalid one comes last"
    assert line("mae/robometer").strict == pytest.approx((5 / 3 + 4) / 2)
    assert math.isnan(line("mae/robometer").valid)
    confusion = found.tables[0]
    assert confusion.rows[4] == ("5", 1, 0, 0, 0, 0, 1) and confusion.rows[0][2] == 1


def test_an_invalid_answer_is_never_a_good_one():
    """With half of the answers gone the strict figures are the worst of all that they could have been."""
    generator = rng()
    gold = generator.integers(1, 6, 60).tolist()
    said = generator.integers(1, 6, 60).tolist()
    partial = [one if n % 2 else None for n, one in enumerate(said)]
    whole, half = figures_of(gold, labelled(said)), figures_of(gold, labelled(partial))
    for one in BENCH.rules:
        if one.worst:
            worse = half.line(one.name).strict - whole.line(one.name).strict
            assert worse < 0 if one.higher_is_better else worse > 0, one.name


def test_continuous_progress_has_its_own_distances():
    found = figures_of([4], [of_progress(0.7)])
    assert found.line("mae/continuous").strict == pytest.approx(abs(1 + 4 * 0.7 - 4))
    assert found.line("mae/interval").strict == 0 == found.line("mae/micro").strict
    found = figures_of([4], [of_progress(0.5)])
    assert found.line("mae/interval").strict == pytest.approx(4 * 0.125)
    odd = figures_of([2], [of_progress(0.125)])
    assert odd.line("mae/macro").strict == 0 and odd.line("mae/robometer").strict == 1


def test_a_reward_is_progress_as_the_share_of_its_range():
    item = Item(id="a/b", gold=3, unit=0)
    iou = load("iou")
    assert BENCH.scored(item, [Score(0.5)], iou).label == 3
    assert BENCH.scored(item, [Score(0.2, {"progress": 1.0})], iou).label == 5
    info = replace(iou.info, range=(-math.inf, math.inf))
    with pytest.raises(ValueError, match="no finite range"):
        BENCH.scored(item, [Score(0.5)], replace(iou, info=info))


def test_full_size_files_are_measured(tmp_path):
    """2,831 rows of 23 subsets with 2,000 clips: shuffled, a tenth invalid."""
    generator = rng()
    gold = generator.choice(LABELS, 2831, p=[0.25, 0.15, 0.2, 0.1, 0.3])
    names = [f"subset_{n % 23}/{n}.mp4" for n in range(2831)]
    labels = tmp_path / "metadata.jsonl"
    labels.write_text(
        "\n".join(
            json.dumps({"file_name": name, "task": "t", "reward": int(one), "cluster": f"{n % 2000}"})
            for n, (name, one) in enumerate(zip(names, gold, strict=True))
        )
    )
    said = [
        {"id": name, "raw_text": f"ANSWER: {one}" if n % 10 else "no"}
        for n, (name, one) in enumerate(zip(names, gold, strict=True))
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps(said[n]) for n in generator.permutation(2831)))
    words = ["benchmark", "roborewardbench", path, "--data", labels, "--json", "--draws", "100"]
    shown = json.loads(CliRunner().invoke(app, list(map(str, words))).stdout)
    assert shown["n"] == 2831 and shown["invalid"] == 284 and not shown["missing"]
    macro = shown["rules"]["mae/macro"]
    worst = np.where(gold >= 3, gold - 1, 5 - gold) * (np.arange(2831) % 10 == 0)
    by_subset = [worst[np.arange(2831) % 23 == k].mean() for k in range(23)]
    assert macro["strict"] == pytest.approx(np.mean(by_subset)) and macro["valid"] == 0
    assert (
        macro["units"] == 2000 and macro["strict_interval"][0] < macro["strict"] < macro["strict_interval"][1]
    )
    assert not [c for c in shown["cautions"] if "are published" in c]
    assert len(shown["tables"]["by subset"]) == 23


def test_several_files_are_compared_on_the_same_draws(folder):
    """The second is nearer by one in every row of one subset and equal in the other."""
    items = BENCH.read(folder)
    for name, off in (("a", 2), ("b", 1)):
        rows = [
            {"id": one.id, "label": one.gold + (off if n < 6 else 1) * (1 if one.gold < 4 else -1)}
            for n, one in enumerate(items)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["benchmark", "roborewardbench", folder / "a.jsonl", folder / "b.jsonl", "--data", folder]
    run = CliRunner().invoke(app, [*map(str, words), "--json", "--draws", "200"])
    shown = json.loads(run.stdout)
    assert [one["source"] for one in shown["runs"]] == ["a.jsonl", "b.jsonl"]
    change = {one["rule"]: one for one in shown["differences"]}
    assert change["mae/macro"]["change"] == pytest.approx(-0.5) and change["mae/macro"]["verdict"] == "better"
    assert change["mae/micro"]["change"] == pytest.approx(-0.6) and "bias" not in change
    assert change["accuracy"]["change"] == 0 and change["accuracy"]["verdict"] is None
    assert shown["win_rates"] == {"a.jsonl": 0.25, "b.jsonl": 0.75}, "ahead in one subset, a tie in the other"
    text = CliRunner().invoke(app, [*map(str, words), "--draws", "100"]).stdout
    assert "less a.jsonl" in text and "win rate" in text
    table = CliRunner().invoke(app, [*map(str, words), "--draws", "100", "--csv"]).stdout.splitlines()
    assert len(table) == 1 + 2 * len(BENCH.rules) and table[1].split(",")[1] == "a.jsonl"
    with pytest.raises(ValueError, match="each of its own name"):
        found = read_predictions(folder / "a.jsonl", BENCH, items)
        against(BENCH, items, [found, found])


# --- figures ------------------------------------------------------------------------------------------------


def test_tau_b_is_not_tau_a():
    values, reference = np.array([1.0, 2, 2, 3]), np.array([1.0, 1, 2, 2])
    pairs = [(i, j) for i in range(4) for j in range(i)]
    signs = [(np.sign(values[i] - values[j]), np.sign(reference[i] - reference[j])) for i, j in pairs]
    total = sum(a * b for a, b in signs)
    b = total / math.sqrt(sum(a != 0 for a, _ in signs) * sum(c != 0 for _, c in signs))
    assert tau_b(values, reference) == pytest.approx(b) and b != pytest.approx(total / len(pairs))
    assert math.isnan(tau_b(np.ones(3), np.arange(3.0)))
    assert tau_b(np.array([-math.inf, 0, math.inf]), np.arange(3.0)) == pytest.approx(1)


def test_detection_against_second_writings():
    generator = rng()
    scores = np.round(generator.normal(size=80), 1)
    positive = (scores + generator.normal(size=80) > 0).astype(float)
    hits, others = scores[positive == 1], scores[positive == 0]
    wins = [(h > o) + (h == o) / 2 for h in hits for o in others]
    assert auroc(scores, positive) == pytest.approx(np.mean(wins))
    precision, recall, total = [], [], positive.sum()
    for threshold in sorted(set(scores), reverse=True):
        taken = scores >= threshold
        precision.append(positive[taken].mean())
        recall.append(positive[taken].sum() / total)
    steps = np.diff([0, *recall])
    assert auprc(scores, positive) == pytest.approx(float((steps * precision).sum()))
    assert auprc(np.ones(80), positive) == pytest.approx(positive.mean()), "one threshold, whatever the order"
    found = false_positives_at(0.95)(scores, positive)
    threshold = max(t for t in set(scores) if (hits >= t).mean() >= 0.95)
    assert found == pytest.approx((others >= threshold).mean())
    for alone in (np.ones(3), np.zeros(3)):
        assert math.isnan(auprc(np.arange(3.0), alone)) and math.isnan(auroc(np.arange(3.0), alone))
        assert math.isnan(false_positives_at(0.95)(np.arange(3.0), alone))
    precise, found, false = shares_at(0.5)
    assert (precise(scores, positive), found(scores, positive), false(scores, positive)) == pytest.approx(
        (positive[scores >= 0.5].mean(), (hits >= 0.5).mean(), (others >= 0.5).mean())
    )


def test_calibration_and_separation():
    p, y = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.0, 0, 1, 0])
    assert brier(p, y) == pytest.approx((0.01 + 0.01 + 0.01 + 0.81) / 4)
    assert ece(p, y) == pytest.approx((2 * 0.1 + 2 * 0.4) / 4)
    assert cohen_d(np.array([1.0, 3, 5, 7]), np.array([0.0, 0, 1, 1])) == pytest.approx(4 / math.sqrt(2))
    assert math.isnan(cohen_d(np.array([1.0, 2]), np.array([0.0, 1])))


def test_pairs_give_a_half_for_a_tie_in_any_order():
    values, reference = np.array([1.0, 1, 2]), np.array([0.0, 1, 1])
    assert pairwise(values, reference) == (1.5, 1.0, 2) == pairwise(values[::-1], reference[::-1])
    assert pairwise(np.array([math.inf, math.inf]), np.array([0.0, 1])) == (0.5, 1.0, 1)
    strata = np.array([0, 0, 1, 1])
    found = within_strata(tau_b, np.array([1.0, 2, 5, 5]), np.array([0.0, 1, 0, 1]), strata)
    assert found == pytest.approx(1), "the second has no order and is left out"
