"""The speed comparison at toy scale: honest contenders agree, a wrong one is caught, and figures add up."""

import json
import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import sdpa_flop_count
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample
from mmreward.cli import app
from mmreward.evals.speed import contest as contest_module
from mmreward.evals.speed import inputs, speed, workloads
from mmreward.evals.speed.contest import Timing, contest, difference
from mmreward.evals.speed.inputs import SCALES, Checkpoints
from mmreward.evals.speed.speed import COLUMNS, Bar, WorkloadResult, bar_results, cells, notes
from mmreward.evals.speed.vlm import Reading
from mmreward.evals.speed.workloads import Workloads
from mmreward.models.vlms.answers import YES_NO
from mmreward.rewards.judged.listener import mask_verdict
from mmreward.verifiers.response import segment

NAMES = {
    *(f"checklist K={k}" for k in (1, 4, 8, 16)),
    "listener G=8",
    "five CLIP rewards",
    "five rewards, three towers",
    "visionreward K=30",
    "critique",
    "mixed",
    "video",
}
CONTENDERS = {"loop", "batches", "bare", "engine"}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    scale = SCALES["toy"]
    places = Checkpoints(folder, scale, inputs.texts(), torch.float32)
    return Workloads(folder / "media", places, scale, torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def outcomes(loop=6.0, batches=5.0, bare=1.0, engine=1.0, apart=0.0):
    made = {"loop": loop, "batches": batches, "bare": bare, "engine": engine}
    return {name: Timing([s, 2 * s, 0.5 * s], apart if name == "engine" else 0.0) for name, s in made.items()}


def run_bench(*arguments):
    """The command, at toy scale."""
    return CliRunner().invoke(app, ["bench", "--scale", "toy", "--device", "cpu", *arguments])


def fixed(values, log=None, name=""):
    """A contender that returns these values, and notes when it is prepared and when it runs."""

    def prepare(number):
        def run():
            if log is not None:
                log.append((name, number))
            return list(values)

        return run

    return [{"only": prepare}]


# --- all contenders compute the same --------------------------------------------------------------------


def test_every_workload_is_there():
    assert set(workloads.NAMES) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES - {"checklist K=16"}))
def test_contenders_agree(workshop, engine, name):
    workload = workshop.make(name)
    parts = workload.contenders(engine)
    assert set(parts) == CONTENDERS
    found = {}
    for contender, variants in parts.items():  # the warm-up of long work is short for all alike
        runs = [[prepare(0)() for prepare in part.values()] for part in variants]
        for part in runs:
            assert all(difference(values, part[0]) <= 1e-5 for values in part), contender
        found[contender] = [value for part in runs for value in part[0]]
    assert all(difference(values, found["loop"]) <= 1e-5 for values in found.values())
    numbers = [value for value in found["loop"] if not isinstance(value, str)]
    assert not numbers or np.std(numbers) > 1e-2, "equal values would prove nothing"
    expected = {"checklist K=4": 8, "listener G=8": 8, "five CLIP rewards": 40, "critique": 2, "video": 8}
    expected |= {"visionreward K=30": 27, "five rewards, three towers": 40}
    assert len(found["loop"]) == expected.get(name, len(found["loop"]))


def test_no_round_has_a_picture_of_another_round_or_workload(workshop):
    seen = [
        media.key
        for name in ("checklist K=1", "checklist K=4", "mixed")
        for number in (0, 1)
        for sample in workshop.make(name).draw(number)
        if (media := sample.image) is not None
    ]
    assert len(set(seen)) == len(seen)


def test_the_listener_reads_the_whole_argument(workshop):
    """Otherwise the contenders without an engine, which mask nothing, would read something else."""
    for sample in workshop.make("listener G=8").draw(0):
        thought = segment(sample.response).thought
        assert thought and mask_verdict(thought, YES_NO) == thought


def test_no_word_is_unknown_to_the_judge(workshop):
    tokenizer = workshop.judge.processor.tokenizer
    for text in inputs.texts():
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text


# --- what is wrong is called wrong ----------------------------------------------------------------------


def test_a_contender_that_computes_something_else_is_missed(tmp_path, monkeypatch):
    honest = Reading.batches

    def wrong(self, samples, size):
        return [value + 2e-4 for value in honest(self, samples, size)]

    monkeypatch.setattr(Reading, "batches", wrong)
    out = tmp_path / "deep" / "speed.json"
    done = run_bench("--only", "checklist K=1", "--repeats", "1", "--out", str(out), "--markdown")
    assert done.exit_code == 1
    row = next(line for line in done.stdout.splitlines() if line.startswith("| checklist K=1 |"))
    assert "MISSED" in row
    written = json.loads(out.read_text())
    assert list(written["workloads"]) == ["checklist K=1"], "K=16 was not asked for"
    entry = written["workloads"]["checklist K=1"]
    assert entry["equal"] is False and 1e-4 < entry["difference"]["batches"] < 3e-4
    assert entry["difference"]["engine"] < 1e-5


def test_a_lost_value_is_a_difference(workshop, engine, monkeypatch):
    workload = workshop.make("checklist K=4")
    honest = workload.draw
    sample = Sample(id="broken", prompt="a cat", image=Media(b"no picture"), meta=honest(0)[0].meta)
    scores = engine.score([sample], workload.tasks[0].rewards)
    assert workload.tasks[0].values(scores) == []
    assert difference([], [0.5]) == math.inf


@pytest.mark.parametrize(
    ("values", "reference", "apart"),
    [
        ([0.5, 0.25], [0.5, 0.25], 0.0),
        ([0.5, 0.25], [0.5, 0.5], 0.25),
        ([math.nan], [0.5], math.inf),
        (["a b"], ["a b"], 0.0),
        (["a b"], ["a c"], math.inf),
        (["a"], [1.0], math.inf),
    ],
)
def test_difference(values, reference, apart):
    assert difference(values, reference) == apart


# --- timing ---------------------------------------------------------------------------------------------


def test_contenders_take_turns_in_every_round():
    log = []
    contenders = {name: fixed([1.0], log, name) for name in "ab"}
    found = contest(contenders, 2, reference="a")
    assert log == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert [len(outcome.seconds) for outcome in found.values()] == [2, 2]


def test_of_long_work_the_slow_ones_do_a_part_whose_seconds_are_multiplied(monkeypatch):
    clock, log = [0.0], []

    def taking(name, seconds, values):
        def prepare(number):
            def run():
                log.append((name, number))
                clock[0] += seconds
                return list(values)

            return run

        return [{"only": prepare}]

    monkeypatch.setattr(contest_module.time, "perf_counter", lambda: clock[0])
    contenders = {
        "loop": taking("loop", 2.0, [1.0]),
        "bare": taking("bare", 1.0, [1.0, 2.0]),
        "engine": taking("engine", 1.5, [1.25, 2.5]),
    }
    found = contest(contenders, 2, reference="loop", shares={"loop": 2}, once=True)
    assert [found[name].seconds for name in contenders] == [[4.0], [1.0] * 2, [1.5] * 2]
    assert [found[name].difference for name in contenders] == [0.0, 0.0, 0.5]  # beyond the part as well
    assert [name for name, number in log if number == 2] == ["bare", "engine"]
    short = contenders | {"engine": taking("engine", 1.0, [1.0])}
    assert contest(short, 1, reference="loop", shares={"loop": 2})["engine"].difference == math.inf


def test_long_workloads_have_a_part_and_the_engine_does_all(workshop, engine):
    workload = workshop.make("five rewards, three towers")
    assert len(workload.draw(1)) == 64 and workload.shares == {"loop": 8, "batches": 8}
    parts = workload.contenders(engine)
    begun, whole = (next(iter(parts[name][0].values()))(1)() for name in ("loop", "engine"))
    assert len(begun) == 40 and len(whole) == 320 and difference(whole[:40], begun) <= 1e-5
    listed = workshop.make("visionreward K=30")
    assert listed.once and listed.shares == {"loop": 2, "batches": 2}


def test_weights_are_drawn_when_they_are_needed(tmp_path):
    places = Checkpoints(tmp_path, SCALES["toy"], inputs.texts(), torch.float32)
    assert len(places.encoders(1)) == 1 and len(places.heads(2)) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "first",
        "head-0.safetensors",
        "head-1.safetensors",
    }


def test_the_fastest_variant_competes(monkeypatch):
    clock = [0.0]

    def taking(seconds):
        def prepare(number):
            clock[0] += 100.0  # not timed

            def run():
                clock[0] += seconds
                return [seconds]

            return run

        return prepare

    monkeypatch.setattr(contest_module.time, "perf_counter", lambda: clock[0])
    contenders = {"a": [{"slow": taking(3.0), "fast": taking(1.0)}, {"other": taking(0.5)}]}
    found = contest(contenders, 3, reference="a")["a"]
    assert found.chosen == ["fast", "other"]
    assert found.seconds == [1.5] * 3


def test_a_gpu_is_waited_for_before_and_after():
    log = []
    contest({"a": fixed([1.0], log, "run")}, 1, reference="a", settle=lambda: log.append("settled"))
    assert log == ["settled", ("run", 0), "settled", "settled", ("run", 1), "settled"]


# --- figures --------------------------------------------------------------------------------------------


def test_ratios_are_of_medians_and_bars_compare_with_them():
    found = outcomes(loop=12.0, batches=10.0, bare=1.8, engine=2.0)
    assert speed.ratio(found, "loop") == 6.0
    assert speed.ratio(found, "batches") == 5.0
    assert speed.ratio(found, "bare") == 0.9
    met = {str(result).rpartition(" ")[2] for result in bar_results("checklist K=8", found)[:2]}
    assert met == {"met"}
    assert [v.met for v in bar_results("checklist K=8", found)] == [True, True, False]
    slower = bar_results("checklist K=8", outcomes(loop=5.9))
    assert str(slower[0]) == "6x over the loop: 5.9x MISSED"


def test_bars_are_those_of_their_workload():
    assert {v.bar.rival for v in bar_results("listener G=8", outcomes())} == {"loop", "bare"}
    assert {v.bar.rival for v in bar_results("five CLIP rewards", outcomes())} == {"batches", "bare"}
    assert bar_results("checklist K=16", outcomes()) == []
    assert all(isinstance(bar, Bar) and bar.times > 0 for bar in speed.BARS)


def test_a_row_says_what_was_measured_and_marks_a_difference():
    line = WorkloadResult("checklist K=8", outcomes(engine=2.0), 10, None)
    row = dict(zip(COLUMNS, cells(line, 1e-4), strict=True))
    assert row["engine s"] == "2.000" and row["x loop"] == "3.00" and row["of bare"] == "50%"
    assert row["differ"] == "0.0e+00"
    off = WorkloadResult("checklist K=8", outcomes(apart=1.1e-4), 10, None)
    assert cells(off, 1e-4)[-1] == "1.1e-04 MISSED"


def test_a_known_device_has_its_limit_beside_the_rate():
    line = WorkloadResult("critique", outcomes(engine=2.0), 4 * 10**12, 0.5)
    assert "2.0 TFLOP/s" in (note := notes([line])[0]) and "25%" in note


def test_flops_are_those_of_the_formulas():
    """ViT layers: 2 N (4 d^2 + 2 d ff) for the products and 4 d N^2 for attention."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from mmreward.evals.speed.contest import count

    width, hidden, depth = 32, 64, 2
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=depth,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    model, pixels = CLIPVisionModel(config), torch.zeros(1, 3, 32, 32)
    tokens = 17
    layer = 2 * tokens * (4 * width**2 + 2 * width * hidden) + 4 * width * tokens**2
    patches = 2 * 16 * 3 * 8 * 8 * width
    assert count(lambda: model(pixel_values=pixels)) == depth * layer + patches


# --- the command ----------------------------------------------------------------------------------------


def test_attention_is_counted_as_torch_counts_it():
    shape = (2, 4, 8, 16)
    assert contest_module._of_attention(shape, shape, shape) == sdpa_flop_count(shape, shape, shape)
    assert contest_module._of_attention(shape, (2, 1, 24, 16), (2, 1, 24, 16)) == 3 * sdpa_flop_count(
        shape, shape, shape
    )


def test_a_round_can_have_fewer_pictures_and_words(tmp_path, monkeypatch):
    seen, usual = [], speed.Workloads
    monkeypatch.setattr(speed, "Workloads", lambda *args: seen.append(args[2]) or usual(*args))
    out = tmp_path / "speed.json"
    options = ("--only", "critique", "--repeats", "1", "--against", "bare", "--out", str(out))
    done = run_bench(*options, "--pictures", "1", "--words", "3")
    assert done.exit_code == 0 and (seen[0].pictures, seen[0].words) == (1, 3)
    assert json.loads(out.read_text())["scale"] == "toy, 1 pictures, 3 words"


def test_the_json_has_every_figure_and_where_it_comes_from(tmp_path):
    out = tmp_path / "speed.json"
    done = run_bench("--only", "critique", "--repeats", "2", "--out", str(out))
    assert done.exit_code == 0 and "critique" in done.stdout
    written = json.loads(out.read_text())
    assert set(written) == {
        "workloads",
        "command",
        "scale",
        "device",
        "dtype",
        "threads",
        "date",
        "versions",
        "tolerance",
    }
    assert written["scale"] == "toy"
    assert written["threads"] == torch.get_num_threads()
    assert written["versions"]["torch"] == torch.__version__.partition("+")[0]
    entry = written["workloads"]["critique"]
    for name in CONTENDERS:
        assert len(entry[name]) == 2 and all(seconds > 0 for seconds in entry[name])
    assert set(entry["chosen"]) == CONTENDERS and entry["equal"] is True
    assert entry["flops"] > 0 and entry["limit_seconds"] is None


def test_against_one_rival_the_others_are_left_out(tmp_path):
    out = tmp_path / "speed.json"
    only = ("--only", "listener", "--against", "bare")
    done = run_bench(*only, "--repeats", "1", "--out", str(out), "--markdown")
    assert done.exit_code == 0
    row = next(line for line in done.stdout.splitlines() if line.startswith("| listener G=8 |"))
    cell = dict(zip(COLUMNS, (cell.strip() for cell in row.strip("| ").split("|")), strict=True))
    assert {name for name in COLUMNS if cell[name] == "-"} == {"loop s", "batch s", "x loop", "x batch"}
    entry = json.loads(out.read_text())["workloads"]["listener G=8"]
    assert set(entry["chosen"]) == {"bare", "engine"} and entry["equal"] is True
    assert [bar["bar"] for bar in entry["bars"]] == ["at least 95% of the bare forward's speed"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": "huge"},
        {"dtype": "int8"},
        {"repeats": 0},
        {"only": ["poetry"], "scale": "toy"},
        {"against": ["chance"]},
        {"pictures": 0},
        {"words": -1},
    ],
)
def test_what_does_not_exist_is_named(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values()))).strip("[]")):
        speed.bench(device="cpu", **wrong)
