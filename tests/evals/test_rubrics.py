"""Rubrics by contrast from labelled pairs: parts, writing, the filter, the file, and what reads it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.chatserver import ChatServer, Reply, completion
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample, Unscorable, load
from mmreward.cli import app
from mmreward.data.pair_folder import PreferencePair, write_pairs
from mmreward.judges.comparison import Comparison
from mmreward.judges.miniature import sample_comparisons
from mmreward.judges.rubrics import Rubrics, learn_rubrics, parted, rubric_file
from mmreward.models.vlms.answers import Read, Written
from mmreward.rewards.judged import critique, pair_modes, preference
from mmreward.rewards.judged.modes import rubrics_of

BRIGHT, EMPTY, BLIND = "The picture is bright.", "The picture is empty.", "The picture has a mood."
SAID = f"Contrast: picture 1 is darker\nRubric: {BRIGHT}\nRubric: {EMPTY}\nRubric: {BLIND}"


def compared(number, requests=None):
    """Pairs of a bright and a dark picture, of which the bright one is better."""
    shown = [Media(np.full((8, 8, 3), level, np.uint8)) for level in (220, 20)]
    orders = [(tuple(shown), "1"), (tuple(shown[::-1]), "2")]
    return [Comparison(str(n), f"request {n % (requests or number)}", *orders[n % 2]) for n in range(number)]


class Model:
    """Writes given words, and says how probably a rubric holds by the picture's brightness."""

    name = fingerprint = "model"

    def __init__(self, *said, finished=True):
        self.said, self.finished, self.asked = list(said), finished, []

    async def write(self, media, prompt, **options):
        self.asked.append(prompt)
        return Written(self.said[len(self.asked) % len(self.said)], self.finished, 9)

    async def read(self, media, prompt, labels, **options):
        bright = float(np.asarray(media.picture()).mean()) / 255
        if "unreadable" in prompt:
            return Read({"yes": 0.5, "no": 0.5}, 0.1)
        yes = bright if "bright" in prompt else 1 - bright if "empty" in prompt else 0.5
        return Read({"yes": yes, "no": 1 - yes}, 1.0)


def learned(*said, number=40, **args):
    model = Model(*said)
    parts = parted(compared(number), 0.3, 0.2)
    return asyncio.run(learn_rubrics(model, model, parts, **args)), model, parts


def test_parts_have_no_request_in_common_and_lose_no_pair():
    every = compared(60, requests=20)
    parts = parted(every, 0.3, 0.2)
    requests = [{one.request for one in part} for part in parts]
    assert sum(map(len, parts)) == 60 and len(set().union(*requests)) == sum(map(len, requests)) == 20
    assert [len(one) for one in requests] == [10, 6, 4]
    assert parted(every, 0.3, 0.2) == parts
    for shares in ((0.0, 0.2), (0.6, 0.4), (0.3, 0.0)):
        with pytest.raises(ValueError, match="whose sum is below 1"):
            parted(every, *shares)
    with pytest.raises(ValueError, match="2 prompts cannot be parted"):
        parted(compared(9, requests=2), 0.3, 0.2)


def test_what_separates_pairs_that_it_was_not_written_from_is_kept():
    found, model, parts = learned(SAID)
    assert [one.text for one in found.kept] == [BRIGHT] and found.kept[0].separates.mean == 1.0
    assert [(one.text, one.separates.mean) for one in found.refused] == [(BLIND, 0.5), (EMPTY, 0.0)]
    assert found.kept[0].separates.n == len(parts.held_out) == 12 and found.tested.n == len(parts.tested) == 8
    assert found.tested.mean == 1.0 and not found.failures
    told = [("Picture 1 is better" in asked, "Picture 2 is better" in asked) for asked in model.asked]
    assert set(told) == {(True, False), (False, True)} and len(told) == len(parts.written)


def test_few_held_out_pairs_keep_nothing():
    """Of three pairs, all three may be luck: Wilson's interval of 3 of 3 begins at 0.44."""
    found, _, parts = learned(SAID, number=10)
    assert len(parts.held_out) == 3 and not found.kept and found.tested is None
    with pytest.raises(ValueError, match="none of 3 rubrics separates"):
        rubric_file(found, "j", "pairs")


def test_a_rubric_that_cannot_be_read_or_compares_two_is_none():
    unread = "The picture is unreadable."
    found, _, _ = learned(f"Contrast: x\nRubric: {unread}\nRubric: Picture 1 is bright.\nRubric: {BRIGHT}")
    assert [one.text for one in found.kept] == [BRIGHT]
    assert [(one.text, one.separates.mean) for one in found.refused] == [(unread, 0.0)]
    assert found.failures == {"a rubric compares two pictures: Picture 1 is bright.": 20}
    with pytest.raises(ValueError, match=r"no rubric was written from 20 pairs: no contrast in: hm"):
        learned("hm")
    found, _, _ = learned(SAID, "hm")
    assert [one.text for one in found.kept] == [BRIGHT] and sum(found.failures.values()) == 10


def test_equal_rubrics_are_one_and_no_more_are_kept_than_are_wanted():
    again = SAID.replace(BRIGHT, "THE  picture is bright") + "\nRubric: It is bright all over."
    found, _, _ = learned(SAID, again, most=1)
    assert len(found.kept) == 1 and len(found.refused) == 3
    assert learned(SAID, again)[0].kept[1].text == "It is bright all over."


# --- the file and its readers -----------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rubrics.yaml"
    path.write_text(rubric_file(learned(SAID)[0], "model", "pairs"))
    return str(path)


def test_the_file_says_what_was_learned_and_where(file):
    text = yaml.safe_load(Path(file).read_text())
    (one,) = text["rubrics"]
    assert one["rubric"] == BRIGHT and one["separates"] == 1.0 and one["pairs"] == 12
    assert text["judge"] == "model" and text["tested"]["pairs"] == 8 and rubrics_of(file) == (BRIGHT,)


def test_a_critique_is_by_the_file_s_rubrics(file, monkeypatch, tmp_path):
    monkeypatch.setattr(critique.models, "vlm", lambda *args, **options: Model("nothing"))
    loaded = load("critique", mode="binary", rubric=file)
    sample = Sample(prompt="request 0", image=compared(1)[0].pictures[0])
    with Engine("cpu") as engine:
        (score,) = engine.score([sample], loaded)["critique"]
    assert score.value == pytest.approx(220 / 255) and score.parts["rubric 1"] == score.value
    other = tmp_path / "other.yaml"
    other.write_text("rubrics: [The picture is empty.]")
    assert load("critique", mode="binary", rubric=str(other)).fingerprint != loaded.fingerprint
    written = load("critique", rubric=file)
    with Engine("cpu") as engine, pytest.raises(Unscorable):
        engine.run(written(sample))  # in one text, which this model does not write


def test_a_preference_by_contrast_is_by_the_file_s_rubrics(file, monkeypatch):
    model = Model("Rubric 1: 1\n<answer>1</answer>")
    monkeypatch.setattr(preference.models, "vlm", lambda *args, **options: model)
    pair = [Sample(prompt="request 0", image=one) for one in compared(1)[0].pictures]
    with Engine("cpu") as engine:
        score = engine.run(load("preference", mode="contrast", rubric=file)(*pair))
    assert score.value == 1.0 and len(model.asked) == 1 and f"1. {BRIGHT}" in model.asked[0]


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("critique", {"aspects": {"a": "b"}}, "leave aspects out"),
        ("critique", {"mode": "rubric"}, "leave mode=rubric out"),
        ("preference", {}, "say mode=contrast"),
        ("preference", {"mode": "contrast", "writer": "mini-vlm"}, "leave writer out"),
    ],
)
def test_rubrics_of_a_file_are_of_the_modes_that_take_them(file, name, args, says):
    with pytest.raises(ValueError, match=says):
        load(name, judge="mini-vlm", rubric=file, **args)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: b", "no list `rubrics`"),
        ("rubrics: []", "no list `rubrics`"),
        ("rubrics: [3]", "rubric 1 is '3', no text"),
        ("rubrics: [a, {rubric: ''}]", "rubric 2 is '', no text"),
        ("rubrics: [a, 'a ']", "there twice"),
    ],
)
def test_a_file_without_rubrics_is_one_line(tmp_path, text, says):
    path = tmp_path / "rubrics.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        load("critique", judge="mini-vlm", rubric=str(path))
    path.write_text(yaml.safe_dump({"rubrics": [f"It is {n}." for n in range(6)]}))
    with pytest.raises(ValueError, match="a decision is by 5 at most"):
        pair_modes.few_rubrics(str(path))


def test_the_command_with_a_served_writer_and_the_miniature(tmp_path):
    """mini-vlm judges whether what a scripted writer says holds."""
    pairs = [
        PreferencePair(prompt=f"{one.comparison.request} {n}", chosen=shown[best], rejected=shown[1 - best])
        for n, one in enumerate(sample_comparisons(14, seed=8))
        for shown, best in [(one.comparison.pictures, int(one.comparison.better) - 1)]
    ]
    write_pairs(tmp_path / "pairs", pairs)
    said = completion("Contrast: a shape is missing\nRubric: does this picture match the request")
    out = tmp_path / "rubrics.yaml"
    with ChatServer(lambda request: Reply(said)) as server:
        asked = [str(tmp_path / "pairs"), "-o", str(out), "--judge", "mini-vlm"]
        asked += ["--writer", f"w@{server.url}", "--held-out", "0.5", "--device", "cpu"]
        result = CliRunner().invoke(app, ["judge", "rubrics", *asked])
        again = CliRunner().invoke(app, ["judge", "rubrics", *asked])
    assert len(server.asked("/v1/chat/completions")) == 4, "as many as are written from"
    assert "does this picture match the request" in result.output
    if result.exit_code == 0:
        assert rubrics_of(str(out)) and "pairs that decided nothing" in result.output
        assert again.exit_code == 1 and "is there already" in str(again.exception)
    else:
        assert "none of 1 rubrics separates" in str(result.exception) and not out.exists()


def test_nothing_is_kept_of_nothing():
    with pytest.raises(ValueError, match="none of 0 rubrics"):
        rubric_file(Rubrics((), (), None), "j", "p")
