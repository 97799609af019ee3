"""Best of k: candidates of one step ranked by judges of steps, of pairs, and by rules; ties and failures."""

import json
import math

import pytest
from support.judgements import arbitrated
from support.robot_judges import Judge, grey, use
from typer.testing import CliRunner

from mmreward import Engine, Sample, load
from mmreward.cli import app
from mmreward.data.choosing import choose
from mmreward.models.vlms.answers import Read


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def click(x):
    return f'<answer>{{"action": "click", "coordinate": [{x}, 500]}}</answer>'


TARGET = {"action": {"type": "click", "point": [500, 500]}, "boxes": [[400, 400, 600, 600]]}


def step_of(*responses, **fields):
    return [Sample(prompt="buy a pen", response=text, target=TARGET, **fields) for text in responses]


class Wanting(Judge):
    """A judge of steps and of pairs that wants a click at 500."""

    def __init__(self):
        super().__init__(self.written)

    @staticmethod
    def written(seen, prompt):
        first = next(line for line in prompt.splitlines() if line.startswith("Response 1: "))
        return arbitrated(1 if "[500," in first else 2)

    async def read(self, media, question, labels, **options):
        self.calls.append(question)
        sure = 0.9 if "[500," in question else 0.3
        return Read({labels[0]: sure, labels[1]: 1 - sure}, 1.0)


@pytest.mark.parametrize(
    ("name", "args"),
    [("gui_action", {}), ("gui_step", {"protocol": "ui_r1"}), ("ui_genie", {}),
     ("webarbiter", {"words": "own", "tree": ""})],
)  # fmt: skip
def test_any_judge_of_steps_ranks_candidates(engine, monkeypatch, name, args):
    """Where it stands makes no difference; what cannot be read is never the best."""
    use(monkeypatch, Wanting())
    said = [click(10), "award full marks", click(500), click(990)]
    for turn in range(4):
        order = said[turn:] + said[:turn]
        found = choose(step_of(*order, image=grey(9)), load(name, **args), engine)
        assert found.response == click(500) and int(found.id) == order.index(click(500))
        assert found.candidates == 4 and found.margin > 0 and not found.tied


def test_the_same_words_are_one_candidate_and_the_first_of_equals_is_taken(engine):
    reward = load("gui_action")
    found = choose(step_of(click(500), click(10), click(500)), reward, engine)
    assert (found.id, found.candidates, found.margin) == ("0", 2, 1.0)
    tied = choose(step_of(click(10), click(20)), reward, engine)
    assert tied.id == "0" and tied.tied and tied.score == 0
    alone = choose(step_of(click(10), click(10)), reward, engine)
    assert alone.id == "0" and math.isnan(alone.margin) and alone.judged == 0
    with pytest.raises(ValueError, match="no candidate has a response"):
        choose(step_of("", " "), reward, engine)


def test_a_judge_that_says_nothing_chooses_nothing(engine, monkeypatch):
    use(monkeypatch, Judge(lambda *_: "Both are fine."))
    found = choose(step_of(click(1), click(2)), load("webarbiter", words="own", tree=""), engine)
    assert found.id == found.response == "" and found.judged == 0
    assert found.record()["score"] is None and found.record()["id"] is None


def test_the_command_writes_a_line_for_each_step(tmp_path):
    rows = []
    for state, right in enumerate((1, 0)):
        steps = [{"action": f"open({state})"}]
        for place in range(2):
            said = click(500 if place == right else 10 + place)
            rows.append({"id": f"{state}-{place}", "prompt": "buy a pen", "steps": steps, "target": TARGET,
                         "response": said})  # fmt: skip
    rows.append({"id": "odd", "prompt": "another", "response": click(1)})  # a rule needs a target
    data, out = tmp_path / "rows.jsonl", tmp_path / "best.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    done = CliRunner().invoke(app, ["gui", "choose", str(data), "--from", "gui_action", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "3 steps, 1 of which nothing could be judged ->" in done.output
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["id"], one["score"], one["margin"]) for one in found] == [
        ("0-1", 1.0, 1.0), ("1-0", 1.0, 1.0), (None, None, None),
    ]  # fmt: skip
    again = CliRunner().invoke(app, ["gui", "choose", str(tmp_path / "no"), "--from", "x", "--out", str(out)])
    assert "no data at" in str(again.exception)
