"""The page of a training run: finished, stopped by the alarm, interrupted, with failures, with bad input."""

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import train_toy
from support.pages import read
from support.toy_generator import ToyGenerator
from support.train_toy import PROMPTS

from mmreward import Engine, Sample, Score, load, reward
from mmreward.evals.report.html import number
from mmreward.evals.report.report import write_report
from mmreward.tune.config import TuneConfig
from mmreward.tune.journal import Journal, lines, read_grid
from mmreward.tune.trainer import Trainer

ATTACK = '<script>alert("x")</script><img src=http://evil.example/x>'


def blueness() -> Any:
    """How blue a picture is; falls when it gets redder."""

    def factory() -> Any:
        """How blue."""

        async def score(sample: Sample) -> Score:
            assert sample.image is not None
            return Score(float(np.asarray(sample.image.array())[..., 2].mean() / 255))

        return score

    reward("blueness", needs=("image",), range=(0, 1), uses_prompt=False)(factory)
    return load("blueness")


def described(folder: Path, **changes: Any) -> TuneConfig:
    given: dict[str, Any] = {
        "generator": "toy",
        "prompts": {"data": "shapes-world"},
        "rewards": {"redness": {}},
        "held_out": {"blueness": {}},
        "method": {"name": "grpo"},
        "rollout": {"prompts": 2, "group": 8, "micro_batch": 8, "steps": 6},
        "lora": {"rank": 4},
        "ema": {"decay": 0.5, "every": 1},
        "optimiser": {"lr": 1e-2},
        "evaluation": {"prompts": {"data": "shapes-world"}, "every": 2, "steps": 6},
        "alarm": None,
        "rounds": 4,
        "checkpoint_every": 2,
        "out": str(folder),
    }
    return TuneConfig.model_validate({**given, **changes})


def train(engine: Engine, config: TuneConfig, report: Any = lambda line: None) -> Path:
    rewards = {"redness": train_toy.redness()}
    held_out = {"blueness": blueness()} if config.held_out else {}
    given = {"rewards": rewards, "held_out": held_out, "prompts": PROMPTS, "evaluated": PROMPTS}
    Trainer(config, ToyGenerator(), engine, **given, report=report).run()
    return Path(config.out)


def die_after(number: int) -> Any:
    def report(line: str) -> None:
        if line.startswith(f"round {number} of "):
            raise KeyboardInterrupt

    return report


def line_of(
    after: int, mean: float | None, level: str = "ok", reasons: tuple[str, ...] = ()
) -> dict[str, Any]:
    """An evaluation as the journal writes it."""
    measured = {
        "mean": mean,
        "sem": 0.01 if mean is not None else None,
        "n": 4.0 if mean is not None else 0.0,
    }
    rewards = {"redness": {"mean": 0.5 + after / 100, "sem": 0.01, "n": 4.0}, "blueness": measured}
    told = {"verdict": level, "reasons": list(reasons), "monitors": {"saturation": 0.5}}
    told |= {"optimised": 0.5, "worth": mean}
    values = {name: [one["mean"]] * 4 for name, one in rewards.items()}
    return {"round": after, "rewards": rewards, "values": values, **told}


def written(folder: Path, evaluations: list[dict[str, Any]], rounds: Any = (), **changes: Any) -> Path:
    """The folder of a run that is written by hand."""
    journal = Journal(folder)
    journal.begin(described(folder, **changes).model_dump_json(), 0)
    for line in evaluations:
        journal.write("evaluations", line)
    for line in rounds:
        journal.write("rounds", line)
    return folder


def test_the_page_of_a_finished_run(engine: Engine, tmp_path: Path) -> None:
    """Its figures are those of the journal, and its pictures those of the first and the last evaluation."""
    run = train(engine, described(tmp_path / "run"))
    page = read(write_report(run))
    evaluations = lines(run / "evaluations.jsonl")
    for name in ("redness", "blueness"):
        for line in (evaluations[0], evaluations[-1]):
            assert number(line["rewards"][name]["mean"]) in page.words
    assert "grpo on toy" in page.words and "4 of 4" in page.words and "all rounds done" in page.words
    assert "optimises redness" in page.words and "held out: blueness" in page.words
    assert "None of 64 scores failed" in page.words
    charts = [attrs["class"] for attrs in page.having("figure", "curve")]
    plain = 5  # zero-variance groups, clipped, deviation, divergence from the rollout, gradient
    assert len(charts) == 2 + len(evaluations[0]["monitors"]) + 1 + plain
    assert charts.count("curve held-out") == 1 and charts.count("curve optimised") == 2
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in page.having("svg"))
    spans = json.loads((run / "timeline.json").read_text())
    assert len(page.having("rect")) == len(spans)


def test_pictures_stand_beside_their_prompt(engine: Engine, tmp_path: Path) -> None:
    """Before and after of each prompt, as the run drew them."""
    run = train(engine, described(tmp_path / "run", held_out={}))
    page = read(write_report(run))
    pictures = page.having("img")
    first, last = (read_grid(run, after, len(PROMPTS)) for after in (0, 4))
    evaluations = lines(run / "evaluations.jsonl")
    assert max(evaluations, key=lambda line: line["optimised"])["round"] == 4, (
        "the best is not a third column"
    )
    expected = [picture for pair in zip(first, last, strict=True) for picture in pair]
    assert len(pictures) == len(expected) == 2 * len(PROMPTS)
    for shown, drawn in zip(pictures, expected, strict=True):
        data = base64.b64decode(shown["src"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).tobytes() == drawn.tobytes()
    assert [image["alt"] for image in pictures[:2]] == ["before: a red sky", "after 4 rounds: a red sky"]
    assert len(read(write_report(run, limit=1)).having("img")) == 2


def test_a_run_that_the_alarm_stopped(engine: Engine, tmp_path: Path) -> None:
    """The held-out reward falls while the optimised one rises: the page says so, and what was kept."""
    alarm = {"tolerance": 0.01, "patience": 2}
    run = train(engine, described(tmp_path / "run", alarm=alarm, rounds=40))
    evaluations = lines(run / "evaluations.jsonl")
    assert evaluations[-1]["verdict"] == "alarm" and evaluations[-1]["round"] < 40
    page = read(write_report(run))
    assert page.having("section", "verdict")[0]["class"] == "verdict alarm"
    best = max(evaluations, key=lambda line: line["rewards"]["blueness"]["mean"])["round"]
    assert f"The weights kept are those of the best evaluation (after {best} round" in page.words
    assert "stopped by the alarm" in page.words and "held-out blueness fell" in page.words
    assert len(page.having("path", "best")) == 2


def test_an_interrupted_run_and_its_going_on(engine: Engine, tmp_path: Path) -> None:
    """What is there is shown; the run that goes on is one run."""
    config = described(tmp_path / "run", rounds=6)
    with pytest.raises(KeyboardInterrupt):
        train(engine, config, die_after(3))
    words = read(write_report(tmp_path / "run")).words
    assert "Not finished: 3 of 6 rounds" in words and "Ended" not in words
    train(engine, config)
    page = read(write_report(tmp_path / "run"))
    assert "Ended after 6 rounds" in page.words and "Not finished" not in page.words
    assert [line["round"] for line in lines(tmp_path / "run" / "evaluations.jsonl")] == [0, 2, 4, 6]


def test_a_run_before_its_first_round(tmp_path: Path) -> None:
    page = read(write_report(written(tmp_path, [line_of(0, 0.4)])))
    assert "0 of 4" in page.words and "Nothing to judge yet" in page.words
    assert page.having("section", "verdict")[0]["class"] == "verdict unknown"
    assert "Training by round" not in page.words


def test_what_could_not_be_measured_is_a_gap_and_a_dash(tmp_path: Path) -> None:
    """A failed evaluation is neither 0 nor the best, and its change is not told."""
    page = read(write_report(written(tmp_path, [line_of(0, 0.4), line_of(2, None), line_of(4, None)])))
    assert "nan" not in page.words.lower() and not re.search(r"\b0\.000\b", page.words)
    assert "2 values missing" in page.words and "best (after 0)" in page.words
    never = read(write_report(written(tmp_path, [line_of(0, None), line_of(2, None)])))
    assert "never measured" in never.words and not never.having("path", "best")


def test_a_prompt_that_is_evaluated_twice_counts_once(tmp_path: Path) -> None:
    first, last = line_of(0, 0.4), line_of(2, 0.45)
    first["values"]["blueness"] = [0.2, 0.4, 0.4, 0.6] * 2
    last["values"]["blueness"] = [0.25, 0.44, 0.46, 0.65] * 2
    for line in (first, last):
        line["prompts"] = [0, 1, 2, 3] * 2
        line["values"]["redness"] = line["values"]["redness"] * 2
    assert "+0.050 0.037 to 0.063" in read(write_report(written(tmp_path, [first, last]))).words


def test_a_run_says_which_evaluated_prompts_are_the_same(engine: Engine, tmp_path: Path) -> None:
    said: list[str] = []
    twice = [*PROMPTS, *PROMPTS]
    config = described(tmp_path / "run")
    given = {"rewards": {"redness": train_toy.redness()}, "held_out": {"blueness": blueness()}}
    Trainer(
        config, ToyGenerator(), engine, **given, prompts=PROMPTS, evaluated=twice, report=said.append
    ).run()
    line = lines(tmp_path / "run" / "evaluations.jsonl")[0]
    assert line["prompts"] == [*range(len(PROMPTS))] * 2
    told = next(one for one in said if one.startswith("evaluation"))
    assert "95 % over prompts" in told and f"(n = {len(PROMPTS)})" in told


def test_a_change_is_that_of_each_prompt(tmp_path: Path) -> None:
    """Prompts that differ by 0.4 and all rise by about 0.05: the rise is certain. One that failed is left
    out."""
    first, last = line_of(0, 0.4), line_of(2, 0.45)
    first["values"]["blueness"] = [0.2, 0.4, 0.4, 0.6, 0.1]
    last["values"]["blueness"] = [0.25, 0.44, 0.46, 0.65, None]
    words = read(write_report(written(tmp_path, [first, last]))).words
    assert "+0.050 0.037 to 0.063" in words


def test_failures_are_counted_by_status(tmp_path: Path) -> None:
    """A round that names no such failure had none."""
    rounds = [
        {"round": 0, "scores/ok": 12.0, "scores/error": 3.0, "scores/timeout": 1.0},
        {"round": 1, "scores/ok": 16.0, "reward/redness": math.nan, "grad_norm": math.nan},
    ]
    page = read(write_report(written(tmp_path, [line_of(0, 0.4)], rounds)))
    assert "Of 32 scores, 4 failed (3 error, 1 timeout)" in page.words
    labels = [svg["aria-label"] for svg in page.having("svg")]
    assert any(label.startswith("failed scores: timeout") and "0.000 at 2" in label for label in labels)


@pytest.mark.parametrize(
    ("levels", "alarm", "headline", "told"),
    [
        (["ok", "ok"], {}, "No sign that the reward is gamed", "were not judged yet"),
        (["ok"] * 4, {}, "No sign that the reward is gamed", "blueness, which nobody optimises"),
        (["ok", "warn", "ok"], {}, "Warnings, no alarm", "1 evaluation of 3 gave reason to worry"),
        (["ok", "warn", "alarm", "ok"], {"stop": False}, "may be gamed", "was not stopped by it"),
        (["ok", "ok"], None, "No sign that the reward is gamed", "The config sets no alarm"),
    ],
)
def test_the_verdict_in_words(tmp_path: Path, levels: Any, alarm: Any, headline: str, told: str) -> None:
    reasons = {"ok": ()}
    evaluations = [
        line_of(2 * i, 0.5, level, reasons.get(level, (f"why {i}",))) for i, level in enumerate(levels)
    ]
    page = read(write_report(written(tmp_path, evaluations, alarm=alarm)))
    assert headline in page.words and told in page.words
    assert [f"why {i}" in page.words for i in range(len(levels))] == [level != "ok" for level in levels]


@pytest.mark.parametrize(
    ("change", "weights", "headline", "told", "level"),
    [
        (-0.1, {}, "The optimised reward fell", "fell by 0.1 (95 % over 4 prompts", "warn"),
        (-0.1, {"redness": -1.0}, "No sign that the reward is gamed", "Watched for a fall", "ok"),
        (0.1, {"redness": -1.0}, "The optimised reward fell", "opposite of what it is for", "warn"),
        (0.1, {}, "No sign that the reward is gamed", "Watched for a fall", "ok"),
        (0.0, {}, "No sign that the reward is gamed", "4 prompts cannot tell from chance", "ok"),
    ],
)
def test_a_run_whose_reward_fell_is_not_praised(
    tmp_path: Path, change: float, weights: Any, headline: str, told: str, level: str
) -> None:
    first, last = line_of(0, 0.5), line_of(2, 0.5)
    first["values"]["redness"] = [0.5, 0.6, 0.7, 0.8]
    last["values"]["redness"] = [0.5 + change, 0.61 + change, 0.69 + change, 0.8 + change]
    page = read(write_report(written(tmp_path, [first, last], weights=weights)))
    assert headline in page.words and told in page.words
    assert ("section", f"verdict {level}") in [(tag, attrs.get("class")) for tag, attrs in page.tags]
    assert ("cannot tell from chance" in page.words) == (change == 0)


@pytest.mark.parametrize(
    ("red", "blue", "weights", "fallen"),
    [
        (0.3, -0.1, {}, "blueness"),
        (0.3, -0.1, {"blueness": -1.0}, ""),
        (0.1, 0.2, {"redness": -0.5}, "redness"),
        (0.3, 0.1, {}, ""),
        (0.3, 0.0, {}, ""),
    ],
)
def test_one_reward_paid_for_with_another_is_not_praised(
    tmp_path: Path, red: float, blue: float, weights: Any, fallen: str
) -> None:
    """The weighted sum rises, and one of its parts moves beyond chance against its weight."""
    first, last = line_of(0, 0.5), line_of(2, 0.5)
    for name, by in (("redness", red), ("blueness", blue)):
        first["values"][name] = [0.2, 0.3, 0.4, 0.5]
        last["values"][name] = [0.2 + by, 0.31 + by, 0.39 + by, 0.5 + by]
    both = {"redness": {}, "blueness": {}}
    page = read(write_report(written(tmp_path, [first, last], rewards=both, held_out={}, weights=weights)))
    assert (f"Optimised, and moved the wrong way: {fallen}" in page.words) == bool(fallen)
    assert ("No sign that the reward is gamed" in page.words) == (not fallen)
    assert ("section", f"verdict {'warn' if fallen else 'ok'}") in [(t, a.get("class")) for t, a in page.tags]


def test_without_a_held_out_reward_the_page_says_what_it_cannot_see(tmp_path: Path) -> None:
    evaluations = [line_of(0, 0.5), line_of(2, 0.5)]
    assert "No reward was held out" in read(write_report(written(tmp_path, evaluations, held_out={}))).words


def test_monitors_of_larger_pictures_stand_beside_the_others(tmp_path: Path) -> None:
    """Also one that only the larger pictures have; the page says how large they are."""
    evaluations = [line_of(0, 0.5), line_of(2, 0.5)]
    assert "Larger:" not in read(write_report(written(tmp_path / "without", evaluations))).words
    for line, value in zip(evaluations, (1.0, 1.5), strict=True):
        line["monitors_larger"] = {"saturation": 0.25, "grid_16": value}
    evaluation = {**described(tmp_path).evaluation.model_dump(), "larger": {"height": 32, "width": 64}}
    page = read(write_report(written(tmp_path / "with", evaluations, evaluation=evaluation)))
    names = ("saturation", "saturation, larger", "grid energy, patches of 16, larger")
    places = [page.words.index(name) for name in names]
    assert places == sorted(places)
    assert "grid energy, patches of 16 " not in page.words
    assert "+50.0 %" in page.words[places[-1] :]
    assert "from the same seeds, at 64 x 32 pixels" in page.words


def test_nothing_in_a_run_can_break_its_page(tmp_path: Path) -> None:
    """Names, prompts, reasons and settings are text; the page reaches for nothing."""
    evaluations = [line_of(0, 0.5, "warn", (ATTACK,)), line_of(2, 0.5)]
    for line in evaluations:
        line["rewards"][ATTACK], line["values"][ATTACK] = line["rewards"]["redness"], [0.5] * 4
        line["monitors"][ATTACK] = 0.5
        line["monitors_larger"] = {ATTACK: 0.5}
    run = written(
        tmp_path, evaluations, [{"round": 0, f"reward/{ATTACK}": 0.5}], rewards={ATTACK: {"judge": ATTACK}}
    )
    journal = Journal(run)
    journal.write_json("prompts", [ATTACK, "\u202etxet"])
    journal.write_grid(0, [Image.new("RGB", (8, 8))] * 2)
    journal.write_json("timeline", [[ATTACK, 0.0, 1.0]])
    page = read(write_report(run))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert all(image["src"].startswith("data:image/") for image in page.having("img"))
    assert ATTACK in page.words and "\u202e" not in page.words


def test_pictures_that_are_not_there_are_said_to_be_missing(tmp_path: Path) -> None:
    run = written(tmp_path, [line_of(0, 0.5), line_of(2, 0.5)])
    journal = Journal(run)
    journal.write_json("prompts", ["a sea"])
    journal.write_grid(0, [Image.new("RGB", (8, 8))])
    page = read(write_report(run))
    assert "No pictures of after 2 rounds" in page.words and len(page.having("img")) == 1


def test_errors_name_the_file_and_the_fix(tmp_path: Path) -> None:
    run = written(tmp_path / "run", [line_of(0, 0.5)])
    with pytest.raises(ValueError, match="takes no data"):
        write_report(run, data=tmp_path)
    with pytest.raises(ValueError, match="takes no reference"):
        write_report(run, reference="oracle")
    with pytest.raises(ValueError, match=r"\.html file, not 'config\.json'"):
        write_report(run, run / "config.json")
    (run / "rounds.jsonl").unlink()
    with pytest.raises(ValueError, match=r"holds no rounds\.jsonl"):
        write_report(run)
    (run / "evaluations.jsonl").unlink()
    with pytest.raises(ValueError, match="and no training run with"):
        write_report(run)
    with pytest.raises(ValueError, match="no evaluation yet"):
        write_report(written(tmp_path / "young", []))
    (tmp_path / "young" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        write_report(tmp_path / "young")
    (tmp_path / "young" / "config.json").write_text('{"prompts": 1}')
    with pytest.raises(ValueError, match="describes no training run: it has no method, generator"):
        write_report(tmp_path / "young")
