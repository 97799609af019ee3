"""`mmreward judge calibrate`: figures against second writings, both orders, and the command with its page."""

import asyncio
import json
import math

import numpy as np
import pytest
from PIL import Image
from support import browser
from support.chatserver import ChatServer, Reply, completion
from typer.testing import CliRunner

from mmreward import Engine, Sample, Score
from mmreward.cli import app
from mmreward.judges.calibration import (
    Compared,
    Label,
    bootstrapped,
    calibration,
    calibration_error,
    compared,
    epic_distance,
    label_of,
    reliability,
    weighted_kappa,
)
from mmreward.registry import Reward
from mmreward.types import RewardInfo


def row(label, forth, back=None, longer=0, unit=None):
    return Compared(label, forth, forth if back is None else back, longer, unit)


def rows(*entries):
    return [entry._replace(unit=number) for number, entry in enumerate(entries)]


def figures(found):
    return {one.name: one for one in found.figures}


def test_verdicts_ties_and_failures():
    nan = math.nan
    found = figures(
        calibration("j", rows(row(1, 1), row(1, 0), row(1, 0.5), row(1, nan), row(0.5, 0.5)), [], [])
    )
    assert found["accuracy"].value == pytest.approx(2 / 5) and found["accuracy"].n == 5
    assert found["accuracy, no ties"].value == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert found["judged"].value == pytest.approx(4 / 5)
    assert found["ties"].value == pytest.approx(2 / 4) and found["ties found"].value == 1
    assert all(
        one.interval is None or one.interval.low <= one.value <= one.interval.high for one in found.values()
    )


def test_a_judge_that_goes_by_the_place_or_the_length_is_found_out():
    placed = figures(calibration("j", rows(*[row(n % 2, 1.0, 0.0) for n in range(10)]), [], []))
    assert placed["orders agree"].value == 0 and placed["first place"].value == 0.5
    assert placed["accuracy, no ties"].value == 0.5 and placed["ties"].value == 1
    fair = figures(calibration("j", rows(*[row(n % 2, float(n % 2)) for n in range(10)]), [], []))
    assert fair["orders agree"].value == 1 and fair["first place"].value == 0
    by_length = [row(n % 2, 1.0, longer=1) for n in range(10)] + [
        row(n % 2, 0.0, longer=-1) for n in range(10)
    ]
    long = figures(calibration("j", rows(*by_length), [], []))
    assert long["longer"].value == 0.5 and long["longer"].interval.low > 0


def test_brier_and_calibration_error_by_hand():
    entries = rows(row(1, 0.9), row(1, 0.9), row(0, 0.9), row(0, 0.3), row(0.5, 0.5))
    found = figures(calibration("j", entries, [], []))
    assert found["Brier"].value == pytest.approx((0.01 + 0.01 + 0.81 + 0.09 + 0) / 5)
    assert np.allclose(reliability(entries), [(0.5, 0.5, 1), (0.7, 1.0, 1), (0.9, 2 / 3, 3)])
    assert found["ECE"].value == pytest.approx((0.3 + 3 * (0.9 - 2 / 3)) / 5)
    swapped = [
        entry._replace(label=1 - entry.label, forth=1 - entry.forth, back=1 - entry.back) for entry in entries
    ]
    assert calibration_error(swapped) == pytest.approx(calibration_error(entries)), "the order is nobody's"
    sure = rows(*[row(1.0, 1.0) for _ in range(5)])
    assert calibration_error(sure) == 0 and figures(calibration("j", sure, [], []))["Brier"].value == 0


def test_kappa_by_its_table():
    """Against the definition with a table of counts and quadratic weights."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 6, 200)
    marks = np.clip(labels + rng.integers(-1, 2, 200), 1, 5)
    table = np.zeros((5, 5))
    np.add.at(table, (marks - 1, labels - 1), 1)
    weights = (np.arange(5)[:, None] - np.arange(5)) ** 2
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    want = 1 - (weights * table).sum() / (weights * expected).sum()
    assert weighted_kappa(marks.astype(float), labels.astype(float)) == pytest.approx(want)
    assert weighted_kappa(np.ones(3), np.ones(3)) != weighted_kappa(np.ones(3), np.ones(3)), "undefined"
    assert weighted_kappa(np.array([1.0, 2]), np.array([2.0, 1])) == -1


def test_a_bootstrap_draws_whole_prompts():
    values = np.repeat([0.0, 1.0], 50)
    together = bootstrapped(lambda chosen: values[list(chosen)].mean(), [n // 25 for n in range(100)], 0)
    apart = bootstrapped(lambda chosen: values[list(chosen)].mean(), range(100), 0)
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert bootstrapped(lambda chosen: 1.0, ["one"] * 9, 0) is None


def test_labels_may_be_true_and_false():
    assert [label_of(Sample(id="a", target=one), "target").value for one in (True, False)] == [1.0, 0.0]


@pytest.mark.parametrize("label", [None, "good", math.nan, {"a": "b"}, []])
def test_a_label_that_is_none_is_one_line(label):
    with pytest.raises(ValueError, match="a label is a number, or numbers by aspect"):
        label_of(Sample(id="7", meta={"human": label}), "human")
    assert label_of(Sample(meta={"human": {"a": 1, "b": 4}}), "human") == Label(2.5, {"a": 1.0, "b": 4.0})


# --- asking -------------------------------------------------------------------------------------------------


def judge(arity, fn):
    info = RewardInfo(name="judge", needs=("prompt",), range=(0.0, 1.0), arity=arity)
    return Reward(info, {}, fn)


def asked(reward, samples):
    with Engine("cpu") as engine:
        return engine.run(compared(reward, samples, [label_of(sample, "target") for sample in samples]))


def test_every_two_of_a_group_are_asked_in_both_orders():
    calls = []

    async def score(first, second):
        calls.append((first.id, second.id))
        await asyncio.sleep(0)
        if "c" in (first.id, second.id):
            raise ValueError("broken")
        return Score(0.8 if first.id == "a" else 0.4)

    samples = [Sample(id=name, prompt="p", group="g", target=n) for n, name in enumerate("abc")]
    samples.append(Sample(id="d", prompt="p", group="h", target=1))
    found, marked, said = asked(judge("pair", score), samples)
    assert sorted(calls) == sorted([(a, b) for a in "abc" for b in "abc" if a != b])
    assert (found[0].label, found[0].forth, found[0].back) == pytest.approx((0, 0.8, 0.6))
    assert math.isnan(found[1].verdict) and not marked and sum(not score.ok for score in said) == 4


@pytest.mark.parametrize("gamma", [0.0, 0.9])
@pytest.mark.parametrize("place", ["left", "reached"])
def test_epic_is_that_of_the_definition_and_blind_to_shaping(gamma, place):
    """Canonically shaped rewards of all transitions between five states, as the paper writes them."""
    rng = np.random.default_rng(0)
    first, second, potential = rng.normal(size=(3, 5))

    def transitions(reward, shaping):
        given = reward[:, None] if place == "left" else reward[None]
        return np.broadcast_to(given, (5, 5)) + gamma * shaping[None] - shaping[:, None]

    def canonical(table):  # (s, s'); states are drawn evenly
        onward = table.mean(1)
        return table + gamma * onward[None] - onward[:, None] - gamma * table.mean()

    one, other = canonical(transitions(first, potential * 0)), canonical(transitions(second, potential))
    if one.std() < 1e-9:  # without a future, leaving a state is the same wherever it is paid
        assert place == "left" and gamma == 0
        return
    rho = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    assert epic_distance(first, second) == pytest.approx(np.sqrt((1 - rho) / 2))
    assert np.isnan(epic_distance(first, np.ones(5)))


def test_marks_of_one_sample_are_compared_and_correlated():
    async def score(sample):
        return Score(sample.target["taste"] / 5, {"taste": 5 - sample.target["taste"]})

    samples = [
        Sample(
            id=str(n), prompt=f"p{n // 4}", target={"taste": 1 + n % 4, "other": 2}, response="x" * (n % 4)
        )
        for n in range(16)
    ]
    found = figures(calibration("j", *asked(judge("point", score), samples)))
    assert found["accuracy"].value == 1 and found["accuracy"].n == 24
    assert found["rank correlation"].value == 1 and found["EPIC"].value == pytest.approx(0, abs=1e-7)
    assert found["kappa taste"].value == pytest.approx(-1) and found["longer"].value == 0
    assert "orders agree" not in found and "ECE" not in found and "kappa other" not in found


# --- the command --------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    lines = []
    for n in range(8):
        Image.new("RGB", (16, 16), (30 * n, 0, 0)).save(tmp_path / f"{n}.png")
        lines.append(
            {"id": str(n), "prompt": "a dog", "image": f"{n}.png", "group": f"g{n // 2}", "human": n % 2}
        )
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "rows.jsonl"


def test_the_command_writes_figures_and_a_page(data, tmp_path):
    def app_(request):
        if request.path != "/v1/chat/completions":
            return Reply({"data": []})
        return Reply(completion("Image 2 is better."))

    page = tmp_path / "page.html"
    with ChatServer(app_) as server:
        named = f"unifiedreward_pair:form=rank,words=own,judge=judge@{server.url}"
        words = ["judge", "calibrate", str(data), "--reward", named, "--label", "human", "--device", "cpu"]
        done = CliRunner().invoke(app, [*words, "-o", str(page)])
        machine = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert "4 comparisons" in done.output and "orders agree" in done.output and str(page) in done.output
    found = json.loads(machine.stdout)
    assert found["figures"]["first place"]["value"] == -0.5 and found["figures"]["ties"]["value"] == 1
    assert found["figures"]["accuracy, no ties"] == {"value": 0.5, "interval": [0.5, 0.5], "n": 4}
    shown = page.read_text()
    assert "Calibration of unifiedreward_pair" in shown and "http://127" in shown
    assert 'data-label="95 % interval"' in shown, "on a phone every cell says what it is"
    assert '<i class="mean" style="left:50.0%">' in shown, "the tick at the judge's confidence"
    if browser.CHROMIUM is not None:
        assert browser.audited(page, tmp_path) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [(["--reward", "iou", "--label", "nothing"], "a label is a number"), (["--reward", "nosuch"], "nosuch"),
     (["--reward", "iou", "-o", "page.txt"], ".html"),
     (["--reward", "iou", "--reward", "count"], "a command of its own")],
)  # fmt: skip
def test_a_mistake_is_one_line(data, words, why):
    done = CliRunner().invoke(app, ["judge", "calibrate", str(data), *words])
    assert done.exit_code != 0 and why in str(done.exception)
