"""The recipe `vlm/rule-and-judge` on the miniature: HARMO, SophiaVL-R1, and a sure judge beside a rule."""

import numpy as np
import pytest

from mmreward import Engine, Media, Sample
from mmreward.config import config_at, load_config
from mmreward.data.routing import Router
from mmreward.mini.world import describe, render, sample_scene

QUESTION = "How many shapes are there? Answer with a number."


def answered(thought, answer, source, **meta):
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    return {"prompt": QUESTION, "response": text, "target": "2", "source": source, "meta": meta}


@pytest.fixture(scope="module")
def routed():
    rng = np.random.default_rng(4)
    scene = sample_scene(rng)
    shown = Media(render(scene, 64))
    words = "There is a red circle and a blue square."
    rows = [
        answered(words, "2", "harmo_q", verifiable=1.0),
        answered(words + " So there are two of them, as far as I can see.", "2", "harmo_q", verifiable=1.0),
        answered(words, "3", "harmo_q", verifiable=1.0),
        answered(words, "2", "harmo_open", verifiable=0.0),
        answered(words, "2", "harmo_open"),
        answered(words, "2", "sophia_q"),
        answered(words, "3", "sophia_q"),
        {"response": "2", "target": "2", "prompt": QUESTION, "source": "sophia_q", "meta": {}},
    ]
    asked = str(describe(scene))
    rows += [
        {"prompt": asked, "source": "picture_t2i", "meta": {"verifiable": share}, "image": shown}
        for share in (1.0, 0.5)
    ]
    samples = [
        Sample(id=str(n), group=row["source"], **{"image": shown, **row}) for n, row in enumerate(rows)
    ]
    router = Router(load_config(config_at("vlm/rule-and-judge")).routes)
    with Engine("cpu") as engine:
        return router.score(engine, samples)


def test_harmo_pays_the_rule_where_it_decides_and_the_judge_elsewhere(routed):
    short, long, wrong, opened, unsaid = routed.totals[:5]
    assert short.value > long.value > wrong.value
    assert short.parts["accuracy"] == 1.0 and wrong.parts["accuracy"] == 0.0
    judged = routed.scores[3]["reference"]
    assert opened.ok == judged.ok
    if judged.ok:
        assert opened.parts["accuracy"] == pytest.approx(judged.value)
    assert unsaid.status == "missing" and "verifiable" in unsaid.note


def test_the_thinking_of_a_wrong_answer_is_never_paid_as_a_right_one(routed):
    right, wrong, formless = routed.totals[5:8]
    thought = [routed.scores[row]["thinking"] for row in (5, 6)]
    assert all(score.ok for score in thought)
    assert right.value == pytest.approx((1 + 0.3 * thought[0].value) / 1.3, abs=0.05)
    assert right.value > wrong.value and formless.value == 0.0


def test_a_sure_critique_counts_beside_the_rule(routed):
    by_rule, both = routed.totals[8:]
    scores = routed.scores[9]
    sure = scores["critique"].parts["confidence"]
    assert by_rule.value == pytest.approx(scores["oracle"].value)
    share = 0.5 / (0.5 + 0.5 * sure)
    assert both.value == pytest.approx(
        share * scores["oracle"].value + (1 - share) * scores["critique"].value, abs=1e-5
    )
