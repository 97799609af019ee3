"""RewardDance: absolute P(yes) against a reference, and against the best of a group in two rounds."""

import numpy as np
import pytest

from mmreward import Engine, Media, Sample, Unscorable, load, models
from mmreward.models.vlms.answers import Read
from mmreward.rewards.published import rewarddance as module


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


class Levels:
    """A judge whose P(yes) is a picture's level, or against a reference 0.5 plus half the difference."""

    name = "levels"
    fingerprint = "levels"

    def __init__(self, levels, broken=()):
        self.levels, self.broken, self.asked = levels, broken, []

    async def read(self, media, question, labels, *, system="", places=()):
        self.asked.append((len(media), question))
        found = [self.levels[int(one.array()[0, 0, 0])] for one in media]
        if any(int(one.array()[0, 0, 0]) in self.broken for one in media):
            raise Unscorable("torn", "error")
        yes = found[0] if len(found) == 1 else 0.5 + (found[1] - found[0]) / 2
        return Read({"yes": yes, "no": 1 - yes}, 0.8)


def group(number):
    return [
        Sample(id=str(n), prompt="a dog", image=Media(np.full((8, 8, 3), n, np.uint8)), group="g")
        for n in range(number)
    ]


def judged(engine, monkeypatch, levels, broken=(), **args):
    judge = Levels(levels, broken)
    monkeypatch.setattr(module.models, "vlm", lambda name, dtype: judge)
    return engine.score(group(len(levels)), load("rewarddance_group", **args))["rewarddance_group"], judge


def test_all_are_held_against_the_best_in_two_g_reads(engine, monkeypatch):
    levels = [0.2, 0.9, 0.5, 0.7]
    scores, judge = judged(engine, monkeypatch, levels, absolute=False)
    assert [score.value for score in scores] == pytest.approx([0.15, 0.5, 0.3, 0.4])
    assert [score.parts["reference"] for score in scores] == [0, 1, 0, 0]
    assert [score.parts["alone"] for score in scores] == pytest.approx(levels)
    assert [number for number, _ in judge.asked] == [1] * 4 + [2] * 3, "2 G - 1, not G (G - 1)"


def test_absolute_is_times_the_mass(engine, monkeypatch):
    scores, _ = judged(engine, monkeypatch, [0.2, 0.9])
    assert scores[0].value == pytest.approx(0.15 * 0.8) and scores[1].value == 0.5
    refused, _ = judged(engine, monkeypatch, [0.2, 0.9], min_mass=0.9)
    assert {score.status for score in refused} == {"unparsable"}


def test_a_picture_that_cannot_be_read_is_no_reference(engine, monkeypatch):
    scores, _ = judged(engine, monkeypatch, [0.2, 0.9, 0.5], broken=(1,))
    assert [score.status for score in scores] == ["ok", "error", "ok"]
    assert scores[2].value == 0.5 and scores[2].parts["reference"] == 1


def test_of_two_requests_there_is_no_best(engine):
    first, second = group(2)
    mixed = [first, Sample(id="1", prompt="a cat", image=second.image, group="g")]
    found = engine.score(mixed, load("rewarddance_group", judge="mini-vlm", min_mass=0.0))[
        "rewarddance_group"
    ]
    assert all("different requests" in score.note for score in found)


def test_a_reference_is_the_first_input(engine):
    pictures = [Media(np.full((32, 32, 3), level, np.uint8)) for level in (40, 200)]
    loaded = load("rewarddance", judge="mini-vlm", min_mass=0.0)
    asked = [Sample(prompt="a red circle", image=pictures[1], inputs=(pictures[0],))]
    asked.append(Sample(prompt="a red circle", image=pictures[0], inputs=(pictures[1],)))
    scores = engine.score(asked, loaded)["rewarddance"]
    vlm = models.vlm("mini-vlm")
    text = module.AGAINST.own.format(prompt="a red circle")
    for score, sample in zip(scores, asked, strict=True):
        read = engine.run(vlm.read([sample.inputs[0], sample.image], text, ("yes", "no")))
        assert score.value == pytest.approx(read.probs["yes"] * read.mass, abs=1e-6)
    assert scores[0].value != scores[1].value


def test_alone_needs_no_reference_and_is_what_a_group_asks_first(engine, monkeypatch):
    scores, judge = judged(engine, monkeypatch, [0.2, 0.9])
    alone = engine.score(group(2), load("rewarddance", form="alone"))["rewarddance"]
    assert [one.value for one in alone] == [one.parts["alone"] for one in scores]
    assert judge.asked[-1] == (1, module.ALONE.own.format(prompt="a dog"))
    against = engine.score(group(1), load("rewarddance"))["rewarddance"]
    assert against[0].status == "missing"
    for wrong in ({"form": "both"}, {"reasons": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            load("rewarddance", **wrong)


def test_reasons_follow_the_answer_and_are_the_note(engine):
    """The answer is still the first token's: what is written first is what was likelier."""
    told = Sample(prompt="a red circle", image=group(1)[0].image)
    args = {"judge": "mini-vlm", "form": "alone", "min_mass": 0.0}
    (score,) = engine.score([told], load("rewarddance", reasons=6, **args))["rewarddance"]
    text = module.ALONE.own.format(prompt="a red circle") + module.WHY
    vlm = models.vlm("mini-vlm")
    read = engine.run(vlm.read([told.image], text, ("yes", "no")))
    assert score.value == pytest.approx(read.probs["yes"] * read.mass, abs=1e-6)
    assert score.note == engine.run(vlm.write([told.image], text, max_tokens=6)).text != ""


def test_words_are_a_folder_s_or_ours(tmp_path):
    with pytest.raises(ValueError, match="never published"):
        load("rewarddance", judge="mini-vlm", words="published")
    file = tmp_path / "one.txt"
    file.write_text("Is it better? {prompt}")
    with pytest.raises(ValueError, match="no folder with against"):
        load("rewarddance", judge="mini-vlm", words=str(file))
    (tmp_path / "against.txt").write_text("Think of hands. Is the second better for {prompt}?")
    (tmp_path / "alone.txt").write_text("Is it good for {prompt}?")
    assert load("rewarddance", judge="mini-vlm", words=str(tmp_path)).fingerprint
