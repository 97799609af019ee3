"""`mmreward search` and `mmreward refine`: strict configs, what a run leaves behind, and real processes."""

import json
import math
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from mmreward import cli
from mmreward.config import load_yaml
from mmreward.data.results import about, read
from mmreward.data.rows import read_rows
from mmreward.generators import loading
from mmreward.generators.mini_flow import MiniFlow
from mmreward.search.config import RefineConfig, SearchConfig, read_prompts
from mmreward.search.methods import METHODS
from mmreward.search.run import critics_of, refine_file, search_file, writer_of

CONFIGS = Path(str(files("mmreward.configs")))
REFINEMENTS = sorted(CONFIGS.glob("search/*refine*.yaml"))
CHECKLIST = [
    {"question": "Is there a red circle? Answer yes or no.", "answer": "yes"},
    {"question": "Is there a blue square? Answer yes or no.", "answer": "yes"},
]
STANDIN = """
def load(name):
    from mmreward.generators.mini_flow import MiniFlow
    assert name == "mini-flow"
    return MiniFlow()
"""


@pytest.fixture
def search(tmp_path):
    """A search config that works, as a dict to be spoilt."""
    return {
        "generator": "mini-flow",
        "prompts": ["a red circle", "two blue squares"],
        "rewards": {"clipscore": {"weights": "mini-clip"}},
        "held_out": {"oracle": None},
        "method": {"name": "best-of-n", "n": 2},
        "steps": 2,
        "guidance": 1.0,
        "out": str(tmp_path / "run"),
        "engine": {"device": "cpu"},
    }


@pytest.fixture
def refinement(search):
    del search["method"]
    return {
        **search,
        "prompts": [{"id": "first", "prompt": "a red circle and a blue square", "checklist": CHECKLIST}],
        "critics": {"checklist": {"judge": "mini-vlm"}},
        "refinement": {"rounds": 2, "patience": None},
    }


def written(tmp_path, config):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def mini_flow(name):
    assert name == "mini-flow"
    return MiniFlow()


def never(name, **options):
    raise AssertionError("the generator must not be loaded for a config that is wrong")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_best_of_n_leaves_pictures_samples_scores_and_history(tmp_path, search):
    search["prompts"].append({"prompt": " "})
    said = search_file(written(tmp_path, search), mini_flow)
    out = tmp_path / "run"
    rows = list(read_rows(out / "samples.jsonl"))
    assert [row.id for row in rows] == ["000000-000", "000000-001", "000001-000", "000001-001"]
    assert all(row.sample.image.size == (32, 32) for row in rows)
    assert [row.sample.group for row in rows] == ["000000", "000000", "000001", "000001"]
    values = {(row.id, row.reward): row for row in read(out / "scores.parquet")}
    assert {reward for _, reward in values} == {"clipscore", "oracle", "total"}
    for group in ("000000", "000001"):
        own = {row.id: values[row.id, "total"].value for row in rows if row.sample.group == group}
        chosen = [row.id for row in rows if row.sample.group == group and row.sample.meta["chosen"]]
        assert chosen == [max(own, key=own.get)]
    first, second, skipped = lines(out / "history.jsonl")
    assert first["prompt"] == "a red circle" and first["forwards"] == 4 and second["id"] == "000001"
    assert skipped == {"id": "000002", "problem": "the sample's prompt is blank"}
    assert "2 prompts, 4 pictures, 4 forward passes" in said and "skipped 000002" in said
    assert "2 of 2" in said and about(out / "scores.parquet")["data"] == "samples.jsonl"


def test_best_of_n_says_what_fewer_pictures_would_have_given(tmp_path, search):
    search["method"] = {"name": "best-of-n", "n": 3}
    said = search_file(written(tmp_path, search), mini_flow)
    totals = {row.id: row.value for row in read(tmp_path / "run" / "scores.parquet") if row.reward == "total"}
    means = []
    for record in lines(tmp_path / "run" / "history.jsonl"):
        low, middle, high = sorted(value for name, value in totals.items() if name.startswith(record["id"]))
        expected = [(low + middle + high) / 3, (middle + 2 * high) / 3, high]
        assert record["expected_max"] == pytest.approx(expected, abs=1e-6)
        assert record["kl_bound"] == pytest.approx(math.log(3) - 2 / 3)
        means.append(expected)
    curve = ", ".join(f"{(a + b) / 2:.3f}" for a, b in zip(*means, strict=True))
    assert f"expected best total of 1, 2, 3 pictures: {curve} (2 of 2 prompts); " in said
    assert "KL from the generator at most 0.432 nats" in said


def test_a_temperature_makes_best_of_n_a_draw(tmp_path, search):
    chosen = {}
    for name, temperature in {"best": None, "cold": 1e-9, "hot": 1e9}.items():
        search["method"] = {"name": "best-of-n", "n": 6, "temperature": temperature}
        search["out"] = str(tmp_path / name)
        search_file(written(tmp_path, search), mini_flow)
        chosen[name] = [record["best"] for record in lines(tmp_path / name / "history.jsonl")]
        rows = list(read_rows(tmp_path / name / "samples.jsonl"))
        assert [row.id for row in rows if row.sample.meta["chosen"]] == chosen[name]
    assert chosen["cold"] == chosen["best"] != chosen["hot"]


def test_checks_of_fk_steering_may_be_states_or_a_budget(tmp_path, search):
    forwards = {}
    for name, checks in {"number": 2, "states": [1, 3], "budget": {"forwards": 20, "price": 3}}.items():
        search |= {"method": {"name": "fk-steering", "particles": 2, "checks": checks}, "steps": 4}
        search["out"] = str(tmp_path / name)
        search_file(written(tmp_path, search), mini_flow)
        forwards[name] = [record["forwards"] for record in lines(tmp_path / name / "history.jsonl")]
    assert forwards == dict.fromkeys(forwards, [4 + 2 * 4] * 2)
    search |= {"method": {"name": "fk-steering", "checks": {"forwards": 16, "price": 3}}}
    search["out"] = str(tmp_path / "poor")
    with pytest.raises(ValueError, match="16 do not pay for one"):
        search_file(written(tmp_path, search), mini_flow)


@pytest.mark.parametrize(
    "method",
    [
        {"name": "fk-steering", "particles": 2, "checks": 2},
        {"name": "tree-search", "samples": 2},
        {"name": "tree-search", "samples": 2, "mode": "sample"},
        {"name": "pruning", "judge": "mini-vlm", "paths": 2, "checks": 2},
        {"name": "guided", "scale": 5.0},
    ],
)
def test_every_method_compares_with_a_plain_sample(tmp_path, search, method):
    search |= {"method": method, "steps": 4}
    search_file(written(tmp_path, search), mini_flow)
    out = tmp_path / "run"
    totals = {row.id: row.value for row in read(out / "scores.parquet") if row.reward == "total"}
    for history in lines(out / "history.jsonl"):
        own = {name: value for name, value in totals.items() if name.startswith(history["id"])}
        assert totals[history["best"]] == max(own.values())
        assert len(own) >= 2 and history["forwards"] >= 2 * 4
    plain = [row for row in read_rows(out / "samples.jsonl") if row.id.endswith("-000")]
    alone = {**search, "method": {"name": "best-of-n", "n": 1}, "out": str(tmp_path / "alone")}
    search_file(written(tmp_path, alone), mini_flow)
    for row, other in zip(plain, read_rows(tmp_path / "alone" / "samples.jsonl"), strict=True):
        assert row.sample.image.picture().tobytes() == other.sample.image.picture().tobytes()


def test_guiding_needs_gradients(tmp_path, search):
    search |= {"method": "guided", "rewards": {"oracle": None}, "held_out": {}}
    with pytest.raises(ValueError, match="oracle cannot be differentiated"):
        search_file(written(tmp_path, search), mini_flow)


def test_scoring_the_samples_again_gives_the_stored_scores(tmp_path, search, engine):
    from mmreward.data.run import score_file
    from mmreward.loading import resolve

    search_file(written(tmp_path, search), mini_flow)
    out = tmp_path / "run"
    rewards = resolve(
        {name: args or {} for name, args in {**search["rewards"], **search["held_out"]}.items()}
    )
    kept = score_file(out / "samples.jsonl", rewards, out / "scores.parquet", engine)
    assert kept.fresh == 0
    again = score_file(out / "samples.jsonl", rewards, tmp_path / "again.parquet", engine)
    assert again.fresh == 8
    before = {row.key: row.value for row in read(out / "scores.parquet")}
    for row in read(tmp_path / "again.parquet"):
        assert row.value == pytest.approx(before[row.key], abs=1e-5)


def test_a_second_run_does_not_overwrite_the_first(tmp_path, search):
    path = written(tmp_path, search)
    search_file(path, mini_flow)
    with pytest.raises(ValueError, match="holds a run already"):
        search_file(path, mini_flow)


def test_reno_keeps_start_and_best_and_writes_its_curves(tmp_path, search):
    search["method"] = {
        "name": "reno",
        "iterations": 3,
        "watch_every": 2,
        "transforms": {"clipscore": "cosine"},
    }
    search["batch"] = 1
    search_file(written(tmp_path, search), mini_flow)
    out = tmp_path / "run"
    history = lines(out / "history.jsonl")
    for record in history:
        curve = record["rewards"]["clipscore"]
        assert len(curve) == 3 and record["best_iteration"] == max(range(3), key=curve.__getitem__)
        assert record["loss"] == pytest.approx([1 - value for value in curve], abs=1e-6)
        assert list(record["held_out"]) == ["0", "2"] and record["distance"][0] == 0.0
        assert record["forwards"] == 3 * 2 + 2 * 2  # the last iteration has nothing to compute again
    scores = {(row.id, row.reward): row.value for row in read(out / "scores.parquet")}
    for record in history:
        stored = [scores[f"{record['id']}-00{number}", "clipscore"] for number in (0, 1)]
        found = record["rewards"]["clipscore"]
        assert stored == pytest.approx([found[0], max(found)], abs=0.02)  # pictures are stored in 8 bits


def test_reno_standardises_its_terms_on_request(tmp_path, search):
    search["prompts"] = ["a red circle"]
    search["method"] = {"name": "reno", "iterations": 1, "standardise": 3}
    search_file(written(tmp_path, search), mini_flow)
    (record,) = lines(tmp_path / "run" / "history.jsonl")
    assert abs(record["loss"][0]) > 2 * abs(record["rewards"]["clipscore"][0])


def test_refine_writes_every_round(tmp_path, refinement):
    refine_file(written(tmp_path, refinement), mini_flow)
    out = tmp_path / "run"
    (record,) = lines(out / "history.jsonl")
    attempts = record["attempts"]
    rows = list(read_rows(out / "samples.jsonl"))
    assert [row.id for row in rows] == [f"first-{number:03d}" for number in range(len(attempts))]
    assert attempts[0]["prompt"] == "a red circle and a blue square"
    assert set(attempts[0]["critique"]["scores"]["checklist"]["parts"]) == {
        f"q{number}: {entry['question']}" for number, entry in enumerate(CHECKLIST, start=1)
    }
    if len(attempts) == 2:
        assert attempts[0]["revision"]["status"] in ("ok", "na")
        assert attempts[1]["prompt"] == attempts[0]["revision"]["prompt"]
    assert record["stopped"] in ("no critic complains", "2 rounds are over")
    rewards = {row.reward for row in read(out / "scores.parquet")}
    assert rewards == {"clipscore", "checklist", "oracle", "total"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": 1}, "unknown key 'methods': did you mean 'method'"),
        ({"engine": {"divice": "cpu"}}, "unknown key 'engine.divice': did you mean 'device'"),
        ({"method": "best-of-m"}, "no method named 'best-of-m': did you mean 'best-of-n'"),
        ({"method": {"n": 3}}, "method.*needs the key 'name'"),
        ({"method": {"name": "best-of-n", "m": 3}}, "method: unknown key 'm': there are n"),
        ({"method": {"name": "best-of-n", "n": 0}}, "method: n must be at least 1, not 0"),
        ({"method": {"name": "best-of-n", "temperature": 0}}, "method: temperature must be above 0"),
        ({"method": {"name": "best-of-n", "n": "many"}}, "method: n: .*got 'many'"),
        ({"method": {"name": "reno", "iteration": 3}}, "unknown key 'iteration': did you mean 'iterations'"),
        ({"method": {"name": "reno", "steps": 3}}, "method: unknown key 'steps'"),
        ({"method": {"name": "reno", "optimiser": "lbfgs"}}, "method: optimiser"),
        ({"method": {"name": "reno", "lr": 0}}, "method: lr must be above 0"),
        ({"rewards": {}}, "rewards: .*at least 1"),
        ({"rewards": {"clipscor": {}}}, "did you mean 'clipscore'"),
        ({"weights": {"oracle": 1.0}}, "weights of oracle: the rewards are clipscore"),
        ({"held_out": {"clipscore": {"weights": "mini-clip"}}}, "held_out clipscore has a say"),
        (
            {"held_out": {"other": {"reward": "clipscore", "weights": "mini-clip"}}},
            "held_out other has a say",
        ),
        ({"held_out": {"total": {"reward": "oracle"}}}, "'total' is the name of the weighted sum"),
        ({"prompts": []}, "prompts"),
        ({"prompts": "nowhere.jsonl"}, "no data at nowhere.jsonl"),
        (
            {"prompts": [{"promt": "a"}]},
            "the sample has no prompt; its column 'promt' is no 'prompt'",
        ),
        ({"steps": 0}, "steps"),
        ({"generator": {"device": "cpu"}}, "generator.*needs the key 'name'"),
    ],
)
def test_mistakes_are_named_before_anything_is_loaded(tmp_path, search, change, message):
    with pytest.raises(ValueError, match=message):
        search_file(written(tmp_path, {**search, **change}), never)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"critics": {}}, "critics: .*at least 1"),
        ({"thresholds": {"critique": 3}}, "thresholds of critique: the critics are checklist"),
        ({"writer": "emphasize"}, "no writer named 'emphasize': did you mean 'emphasise'"),
        ({"writer": {"name": "emphasise", "style": "shout"}}, "writer: style"),
        ({"writer": {"name": "vlm"}}, "writer: model: Field required"),
        ({"writer": {"name": "none", "style": "lead"}}, "writer: unknown key 'style'"),
        ({"refinement": {"round": 3}}, "refinement: unknown key 'round': did you mean 'rounds'"),
        ({"refinement": {"keep_words": 2}}, "refinement: keep_words is a share"),
        ({"rewards": {"checklist": {"judge": "mini-vlm", "soft": True}}}, "a reward and a critic"),
        ({"held_out": {"checks": {"reward": "checklist", "judge": "mini-vlm"}}}, "held_out checks has a say"),
    ],
)
def test_mistakes_in_a_refinement_are_named(tmp_path, refinement, change, message):
    with pytest.raises(ValueError, match=message):
        refine_file(written(tmp_path, {**refinement, **change}), never)


def test_what_cannot_be_differentiated_is_refused_by_reno(tmp_path, search):
    search |= {"rewards": {"oracle": {}}, "held_out": {}, "method": "reno"}
    with pytest.raises(ValueError, match="oracle cannot be differentiated"):
        search_file(written(tmp_path, search), mini_flow)


def test_thresholds_default_to_the_best_a_dimension_can_have():
    from mmreward.loading import resolve

    rewards = resolve({"critique": {"judge": "mini-vlm"}, "checklist": {"judge": "mini-vlm"}})
    assert {n: c.threshold for n, c in critics_of(rewards, {}).items()} == {"critique": 4.0, "checklist": 1.0}
    assert critics_of(rewards, {"critique": 3})["critique"].threshold == 3
    assert writer_of("none") is None


def test_prompts_come_from_a_data_set_too(tmp_path):
    data = tmp_path / "prompts.jsonl"
    data.write_text('{"id": "a", "prompt": "a dog", "checklist": []}\n{"id": "b"}\n')
    prompts = read_prompts(str(data))
    assert [(s.id, s.group, s.prompt) for s in prompts.samples] == [("a", "a", "a dog")]
    assert prompts.samples[0].meta == {"checklist": []} and "no prompt" in prompts.problems["b"]


@pytest.mark.parametrize(
    "path", sorted({*CONFIGS.glob("search/*.yaml")} - {*REFINEMENTS}), ids=lambda path: path.stem
)
def test_shipped_searches_are_valid(path):
    import inspect

    config = load_yaml(path, SearchConfig)
    _check_rewards(config.rewards, config.held_out)
    known = inspect.signature(METHODS[config.method["name"]]).parameters
    assert set(config.method) - {"name"} <= set(known) - {"steps", "guidance"}


@pytest.mark.parametrize("path", REFINEMENTS, ids=lambda path: path.stem)
def test_shipped_refinements_are_valid(path):
    config = load_yaml(path, RefineConfig)
    _check_rewards(config.rewards, config.held_out, config.critics)
    assert len(read_prompts(config.prompts).samples) == len(config.prompts)
    writer_of(config.writer)


def _check_rewards(*sections):
    import inspect

    from mmreward.registry import find

    for name, args in ((name, args) for section in sections for name, args in section.items()):
        known = inspect.signature(find(args.get("reward", name)).factory).parameters
        assert set(args) - {"reward", "columns", "scale"} <= set(known), (name, args)


def test_both_commands_as_a_user_types_them(tmp_path, search, refinement):
    """With a loader of generators of the test's own."""
    (tmp_path / "standin.py").write_text(STANDIN)
    typed = "import mmreward.generators.loading as loading, standin; loading.load = standin.load; "
    typed += "from mmreward.cli import main; main()"
    search["method"] = {"name": "best-of-n", "n": 2}
    for command, config in {"search": search, "refine": refinement}.items():
        config["out"] = command
        path = tmp_path / f"{command}.yaml"
        path.write_text(yaml.safe_dump(config))
        done = subprocess.run(
            [sys.executable, "-c", typed, command, str(path)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "forward passes per prompt" in done.stdout and f"-> {command}" in done.stdout
        assert (tmp_path / command / "scores.parquet").exists()


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, search, monkeypatch, capsys):
    monkeypatch.setattr(loading, "load", never)
    monkeypatch.setattr(sys, "argv", ["mmreward", "search", str(written(tmp_path, {**search, "promts": []}))])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.count("\n") == 1 and "did you mean 'prompts'" in said
