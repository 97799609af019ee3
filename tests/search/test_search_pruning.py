import numpy as np
import pytest
from support.search_toys import Walk, rewarding

from mmreward import Engine, Score, models
from mmreward.mini import tasks, world
from mmreward.models.vlms.answers import Read
from mmreward.sampling import media
from mmreward.search.pruning import Question, VlmJudge, prune

FAILED = Score.failed("error", "scripted")


class Scripted:
    """Clear once |x| > `clear`; the potential is the sigmoid of x. Writes down what it was asked."""

    def __init__(self, clear=0.0, no_verdict=lambda x: False):
        self.clear, self.no_verdict = clear, no_verdict
        self.asked = {"clarity": [], "potential": []}

    def clarity(self, media, prompts):
        self.asked["clarity"].append(list(media))
        return [Score(float(abs(x) > self.clear)) for x in media]

    def potential(self, media, prompts):
        self.asked["potential"].append(list(media))
        return [FAILED if self.no_verdict(x) else Score(1 / (1 + np.exp(-x))) for x in media]


itself = rewarding(float)


def test_paths_without_potential_are_abandoned():
    judge, walk = Scripted(), Walk(steps=8, prompts=2, forwards=2)
    found = prune(walk, judge, itself, paths=10, checks=[2, 5])
    first, second = judge.asked["potential"]
    assert len(first) == 20
    assert len(second) == sum(x >= 0 for x in first)
    assert sum(len(one.scores) for one in found) == sum(x >= 0 for x in second)
    for one in found:
        assert one.details["survivors"] + one.details["abandoned"] == 10
        assert one.media[one.best] == max(one.media)
    early, late = sum(x < 0 for x in first), sum(x < 0 for x in second)
    saved = early * 6 + late * 3  # a path that is judged at state i has had its i + 1 predictions
    assert sum(one.spent.forwards for one in found) == 2 * (20 * 8 - saved + early + late)
    assert sum(one.spent.calls for one in found) == 20 + 20 + len(second) + sum(x >= 0 for x in second)


def test_clarity_is_asked_until_it_is_given_and_potential_only_then():
    judge = Scripted(clear=0.5)
    prune(Walk(steps=8), judge, itself, paths=40, checks=[1, 3, 6])
    for clarity, before in zip(judge.asked["clarity"][1:], judge.asked["clarity"], strict=False):
        assert len(clarity) == sum(abs(x) <= 0.5 for x in before)
    assert all(abs(x) > 0.5 for x in judge.asked["potential"][0])
    assert len(judge.asked["potential"][0]) < 40


def test_never_clear_is_never_abandoned():
    (found,) = prune(Walk(), Scripted(clear=99), itself, paths=6)
    assert found.details == {"abandoned": 0, "survivors": 6, "no_verdict": 0}


@pytest.mark.parametrize("checks", [[3], [2, 6]])
def test_the_least_bad_path_is_taken_up_where_it_fell(checks):
    judge, walk = Scripted(), Walk(steps=8, prompts=3)
    found = prune(walk, judge, itself, paths=5, checks=checks, keep=1.1)
    whole = prune(Walk(steps=8, prompts=3), Scripted(), itself, paths=5, checks=checks, keep=0.0)
    for prompt, one in enumerate(found):
        looks = judge.asked["potential"][0][prompt * 5 : prompt * 5 + 5]
        assert one.details["survivors"] == 0
        assert one.media == [whole[prompt].media[int(np.argmax(looks))]]
        assert one.spent.forwards == 5 * (checks[0] + 1) + 8 - checks[0] - 1


def test_a_failed_verdict_decides_nothing():
    judge = Scripted(no_verdict=lambda x: x < 0)
    (found,) = prune(Walk(), judge, itself, paths=12, checks=[3])
    assert found.details["survivors"] == 12
    assert found.details["no_verdict"] == sum(x < 0 for x in judge.asked["potential"][0]) > 0


def test_prompts_do_not_change_each_other():
    alone, together = (prune(Walk(prompts=p), Scripted(), itself)[0] for p in (1, 4))
    assert alone.media == together.media


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="state 8 cannot be checked"):
        prune(Walk(steps=8), Scripted(), itself, checks=[8])
    with pytest.raises(ValueError, match="paths"):
        prune(Walk(), Scripted(), itself, paths=0)
    with pytest.raises(ValueError, match="yes or no, not 'clear'"):
        VlmJudge(None, None, [], clarity=Question("Clear?", "clear"))


def test_a_model_that_reads_pictures_judges(engine):
    rng = np.random.default_rng(5)
    scenes = [world.sample_scene(rng) for _ in range(12)]
    prompts = [str(world.describe(scene)) for scene in scenes]
    pixels = np.stack([np.asarray(world.render(scene, 32)) for scene in scenes])
    import torch

    shown = media(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
    judge = VlmJudge(
        engine, models.vlm("mini-vlm"), prompts, clarity=Question(tasks.ARTIFACT, "no"), min_mass=0.2
    )
    rows = np.arange(12)
    right, wrong = judge.potential(shown, rows), judge.potential(shown, (rows + 5) % 12)
    assert np.nanmean([a.value for a in right]) > np.nanmean([b.value for b in wrong]) + 0.2
    assert np.nanmean([score.value for score in judge.clarity(shown, rows)]) > 0.5


def test_a_judge_that_says_something_else_gives_no_verdict(engine: Engine):
    class Mute:
        async def read(self, media, question, labels):
            return Read({"yes": 1.0, "no": 0.0}, 0.1)

    (score,) = VlmJudge(engine, Mute(), ["a"]).potential([None], np.array([0]))
    assert score.status == "unparsable"
