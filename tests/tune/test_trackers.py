"""Trackers that are not installed or not known: refused before anything is loaded."""

import pytest

from mmreward.generators.loading import footprint
from mmreward.tune.config import load_tune_config
from mmreward.tune.plan import check_trackers, plan
from mmreward.tune.trainer import tune


@pytest.fixture
def installed(monkeypatch):
    """The trackers whose packages are there."""

    def these(*names):
        monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: list(names))

    return these


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        ((), ["tensorboard"], "tensorboard is not installed: pip install tensorboard"),
        (("wandb",), ["wandb", "tensorboard"], "tensorboard is not installed"),
        ((), ["wanbd"], "nothing is called 'wanbd': did you mean 'wandb'"),
        ((), ["all"], "none is installed"),
    ],
)
def test_a_tracker_that_would_log_nothing_is_refused_in_one_line(installed, there, asked, words):
    installed(*there)
    with pytest.raises(ValueError, match=words) as caught:
        check_trackers(asked)
    assert "\n" not in str(caught.value)


def test_trackers_that_are_there_are_taken(installed):
    installed("wandb", "tensorboard")
    for asked in ([], ["wandb"], ["all"], ["tensorboard", "wandb"]):
        check_trackers(asked)


def test_no_training_begins_without_them(installed, tmp_path):
    installed()
    changes = {"trackers": ("wandb",), "out": str(tmp_path / "run")}
    config = load_tune_config("tune/mini-grpo").model_copy(update=changes)

    def load(**_):
        raise AssertionError("a generator was loaded")

    with pytest.raises(ValueError, match="wandb is not installed"):
        tune(config, load)
    assert not (tmp_path / "run").exists()


def test_the_plan_says_that_the_run_would_be_refused(installed):
    installed()
    config = load_tune_config("tune/mini-grpo").model_copy(update={"trackers": ("wandb",)})
    last = plan(config, footprint).splitlines()[-1]
    assert last.startswith(
        "the run will be refused here: trackers: wandb is not installed: pip install wandb"
    )
    installed("wandb")
    assert "refused" not in plan(config, footprint)
