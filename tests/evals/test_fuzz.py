"""The command that fires at verifiers finds what it looks for."""

import random

import pytest

from mmreward import Score, reward
from mmreward.evals.audits import fuzz


def test_every_verifier_is_fired_at_and_has_a_line(capsys, monkeypatch):
    monkeypatch.setattr(fuzz, "DEADLINE", 1.0)  # other tests run beside this one
    fuzz.main(["--number", "250"])
    lines = capsys.readouterr().out.splitlines()[2:]
    assert {line.split("|")[1].strip() for line in lines} == set(fuzz.verifiers())
    assert {"iou", "math", "choice", "count"} <= set(fuzz.verifiers())
    assert "listener" not in fuzz.verifiers(), "it needs a network"


def fragile(value):
    """A verifier that breaks on anything but an answer."""

    @reward("fragile", needs=("response",), range=(0.0, 1.0), example={"response": "<answer>1</answer>"})
    def factory():
        """Breaks."""

        async def score(sample):
            if not sample.response.startswith("<answer>"):
                raise RuntimeError("broken")
            return Score(value)

        return score


@pytest.mark.parametrize(("value", "message"), [(1.0, "RuntimeError: broken"), (2.0, "2.0 is outside")])
def test_a_verifier_that_breaks_is_reported(value, message):
    fragile(value)
    with pytest.raises(SystemExit, match=message):
        fuzz.main(["--number", "60", "--only", "fragile"])


def test_mutations_are_those_of_their_seed():
    drawn = [[fuzz.mutated("<answer>1</answer>", random.Random(seed)) for seed in range(20)] for _ in "ab"]
    assert drawn[0] == drawn[1] and len(set(drawn[0])) > 15
