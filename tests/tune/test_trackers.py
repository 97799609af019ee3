"""Trackers that are not installed or not known: refused before anything is loaded."""

import pytest

from mmreward.tune import plan
from mmreward.tune.plan import check_trackers
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


def test_neither_a_training_nor_its_plan_begins_without_them(installed, tmp_path, monkeypatch):
    from mmreward.tune.config import load_tune_config

    installed()
    config = load_tune_config("tune/mini-grpo").model_copy(
        update={"trackers": ("wandb",), "out": str(tmp_path / "run")}
    )

    def load(**_):
        raise AssertionError("a generator was loaded")

    for begin in (lambda: tune(config, load), lambda: plan.plan(config, load)):
        with pytest.raises(ValueError, match="wandb is not installed"):
            begin()
    assert not (tmp_path / "run").exists()
