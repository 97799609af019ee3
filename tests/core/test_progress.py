"""The display of how far a command is: what its words say, when a log hears them, what counts as work."""

import io
import os
import subprocess
import sys

import pytest

from mmreward.cli.app import QUIET
from mmreward.progress import Display, Phase, being_loaded, duration, loading


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def log():
    return io.StringIO()


@pytest.fixture
def clock():
    return Clock()


def after(shown, clock, seconds):
    clock.now += seconds
    shown.tick()
    return shown.words()


def test_the_rate_is_that_of_the_work_of_now(log, clock):
    """Neither the scores that were there before nor the time of loading are in it."""
    shown = Display(log, clock=clock)
    shown.phase("scoring", "scores", 1000)
    with loading("mini-clip"):
        assert after(shown, clock, 100) == "loading mini-clip"
    shown.update(500, fresh=0)
    assert after(shown, clock, 0) == "scoring 500 of 1,000 scores"
    shown.update(600, fresh=100, failed=3)
    assert after(shown, clock, 10) == "scoring 600 of 1,000 scores, 10/s, 40 s left, 3 failed"


def test_no_rate_is_told_before_it_means_anything():
    assert Phase("scoring", "scores", 10, done=10, fresh=10, spent=0.001).words() == "scoring 10 of 10 scores"
    assert Phase("round 7 of 100, 41 min left").words() == "round 7 of 100, 41 min left"


@pytest.mark.parametrize(
    ("fresh", "spent", "words"),
    [(5000, 4, "1,250/s"), (5, 4, "1.2/s"), (2, 4, "2.0 s each"), (1, 200, "3 min each")],
)
def test_slow_work_is_told_by_the_piece(fresh, spent, words):
    assert Phase("x", "y", 10_000, done=fresh, fresh=fresh, spent=spent).words().split(", ")[1] in words + ","


def test_durations_have_the_unit_a_reader_takes():
    told = [duration(seconds) for seconds in (3, 89, 90, 3600, 6000, 100_000, 200_000)]
    assert told == ["3 s", "89 s", "2 min", "60 min", "1.7 h", "27.8 h", "2.3 days"]


def test_a_log_hears_of_it_now_and_then_and_at_the_end(log, clock):
    shown = Display(log, clock=clock, every=30)
    with shown:
        shown.phase("scoring", "scores", 100)
        for done in range(0, 61):
            shown.update(done)
            after(shown, clock, 1)
        shown.update(100)
    lines = log.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "scoring 29 of 100 scores",
        "scoring 59 of 100 scores",
        "scoring 100 of 100 scores",
    ]
    assert "1.0/s, 73 s left" in lines[0]


def test_a_phase_in_which_nothing_was_counted_leaves_no_line(log, clock):
    with Display(log, clock=clock) as shown:
        shown.phase("starting")
        shown.phase("round 1 of 3")
    assert not log.getvalue()


def test_lines_of_a_command_go_to_stdout(log, clock, capsys):
    with Display(log, clock=clock) as shown:
        shown.phase("round 1 of 3")
        shown.line("round 1 of 3, 2 min left: reward [0.5]")
    assert capsys.readouterr().out == "round 1 of 3, 2 min left: reward [0.5]\n" and not log.getvalue()


def test_a_terminal_gets_a_line_that_is_redrawn(clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    with Display(terminal, clock=clock) as shown:
        shown.phase("scoring", "scores", 4)
        shown.update(4, failed=1)
        shown.tick()
    assert "scoring 4 of 4 scores, 1 failed" in terminal.getvalue()


def test_loading_is_over_when_it_fails():
    with pytest.raises(ValueError, match="damaged"), loading("a"):
        raise ValueError("damaged")
    assert being_loaded() == ""


def test_other_libraries_are_quiet_unless_asked(tmp_path):
    """A bar of theirs, and a FutureWarning, are printed with --verbose alone."""
    code = (
        "import sys, warnings; from mmreward.cli.app import app; import mmreward.cli\n"
        "@app.command()\n"
        "def noisy():\n"
        "    from transformers.utils import logging\n"
        "    warnings.warn('soon', FutureWarning)\n"
        "    list(logging.tqdm([1], desc='Loading weights'))\n"
        "app()"
    )
    # A command that ran in this process has quietened what it starts.
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    said = [
        subprocess.run(
            [sys.executable, "-c", code, *more, "noisy"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for more in ([], ["--verbose"])
    ]
    assert said[0] == "" and "soon" in said[1] and "Loading weights" in said[1]
