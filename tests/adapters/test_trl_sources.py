"""Scheduling of data sources in TRL's GRPO: the sampler beside TRL's own, figures by hand, and real runs."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from mmreward import assets

pytest.importorskip("trl")
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig
from trl.trainer.utils import RepeatSampler

from mmreward.adapters.trl_sources import STATE, ScheduledGRPOTrainer, Sources, SourceSampler, figures_of
from mmreward.tune.source_scheduler import SourceScheduler

FOLDER = Path(assets.__file__).parent / "mini-vlm"
NAN = math.nan


def sampler(sources, scheduler, **given):
    return SourceSampler(sources, scheduler, **{"repeats": 2, "batch": 4, "again": 3, "seed": None, **given})


def test_one_batch_of_everything_is_drawn_as_by_trl():
    sources = ["a", "b", "a", "b"]
    ours = sampler(sources, SourceScheduler(("a", "b"), {"quality": 1.0}))
    theirs = RepeatSampler(sources, mini_repeat_count=2, batch_size=4, repeat_count=3, shuffle=False)
    assert len(ours) == len(theirs) == len(list(ours)) == len(list(theirs))
    assert Counter(ours) == Counter(theirs)
    drawn = list(ours)
    assert drawn[::2] == drawn[1::2]  # every row and its repeat
    assert drawn[:8] == drawn[8:16] == drawn[16:]


def test_batches_follow_the_weights_and_a_source_is_used_up_before_it_repeats():
    sources = ["a"] * 6 + ["b"] * 30
    scheduler = SourceScheduler(("a", "b"), {"quality": 1.0}, rate=1.0, smoothing=0.0, forget=0.0, floor=0.1)
    drawn = iter(sampler(sources, scheduler, repeats=1, again=1, seed=7))
    first = [next(drawn) for _ in range(4)]
    assert Counter(sources[row] for row in first) == {"a": 2, "b": 2}
    for _ in range(20):
        scheduler.update({"quality": {"a": 1.0, "b": 0.0}})
    later = [next(drawn) for _ in range(20)]
    assert Counter(sources[row] for row in later)["a"] >= 17
    of_a = [row for row in first + later if row < 6]
    assert sorted(of_a[:6]) == sorted(of_a[6:12]) == list(range(6))


def test_processes_that_draw_alike_get_the_same_rows():
    sources = ["a", "b", "c"] * 8
    one, other = (list(sampler(sources, SourceScheduler("abc", {"quality": 1.0}), seed=3)) for _ in range(2))
    assert one == other
    assert one != list(sampler(sources, SourceScheduler("abc", {"quality": 1.0}), seed=4))


def test_figures_by_hand():
    """a: a group of (0, 1) and one of (1, failed), which cannot differ; b: nothing could be scored."""
    figures = figures_of(["a"] * 4 + ["b"] * 2, [0.0, 1.0, 1.0, NAN, NAN, NAN], 2)
    assert figures == pytest.approx(
        {
            "sources/a/failed": 0.25,
            "sources/a/groups/zero_variance": 0.5,
            "sources/a/score": 2 / 3,
            "sources/b/failed": 1.0,
            "sources/b/groups/zero_variance": 1.0,
        }
    )


# --- in TRL -----------------------------------------------------------------------------------------------


def half_taught(source, **_):
    """Completions to "org/live" differ in reward, those to "still" are all alike."""
    return [float(row % 2) if name == "org/live" else 0.5 for row, name in enumerate(source)]


def built(folder, steps, rows=None, **sources):
    torch.manual_seed(0)
    named = ["org/live", "still"] * 4
    question = [{"role": "user", "content": "How many shapes are there?"}]
    rows = rows or [{"prompt": question, "source": source} for source in named]
    return ScheduledGRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(FOLDER),
        processing_class=AutoProcessor.from_pretrained(FOLDER),
        reward_funcs=[half_taught],
        args=GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            max_steps=steps,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=3,
            report_to=[],
            logging_steps=1,
            save_steps=2,
            disable_tqdm=True,
            gradient_checkpointing=False,
            seed=0,
        ),
        train_dataset=Dataset.from_list(rows),
        sources=Sources(**{"rate": 0.5, "smoothing": 0.0, "forget": 0.0, **sources}),
    )


def test_a_source_that_teaches_is_drawn_more_and_a_resumed_run_goes_on(tmp_path):
    trainer = built(tmp_path, 2)
    trainer.train()
    shares = [entry["sources/org_live/share"] for entry in trainer.state.log_history if "loss" in entry]
    assert 0.5 < shares[0] < shares[1] == trainer.scheduler.weights["org_live"]
    kept = json.loads((tmp_path / "checkpoint-2" / STATE).read_text())
    assert kept["updates"] == 2 and kept["sources"] == ["org_live", "still"]

    resumed = built(tmp_path, 3)
    assert resumed.scheduler.weights["org_live"] == pytest.approx(0.5)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.scheduler.updates == 3
    assert resumed.scheduler.weights["org_live"] > shares[1]


@pytest.mark.parametrize(
    ("rows", "sources", "message"),
    [
        (
            [{"prompt": "a", "kind": "x"}] * 4,
            {},
            "no column source or data_source in the data: there are",
        ),
        ([{"prompt": "a", "kind": "x"}] * 4, {"column": "kinds"}, "no column kinds in the data"),
        ([{"prompt": "a", "source": "x"}] * 4, {}, "two different"),
        (
            None,
            {"objectives": {"qualty": 1.0}},
            "no objective 'qualty' of sources: there are",
        ),
    ],
)
def test_what_cannot_be_scheduled_is_refused(rows, sources, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        built(tmp_path, 1, rows, **sources)
