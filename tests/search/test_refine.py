"""Generate-Critique-Refine with a scripted painter, critic and writer, and once on mini-flow."""

import numpy as np
import pytest
from support.painter import Painter
from support.toys import toy

from mmreward import Sample, Score, Unscorable, load
from mmreward.compose import Recipe
from mmreward.generators.mini_flow import MiniFlow
from mmreward.mini import flow, tasks
from mmreward.search.job import Selection
from mmreward.search.refine import Refinement, refine
from mmreward.search.writers import Critic, emphasise


def red(sample):
    return int(sample.image.array()[0, 0, 0])


def green(sample):
    return int(sample.image.array()[0, 0, 1])


async def by_red(sample):
    return Score(red(sample) / 100)


async def wants_thirty(sample):
    return Score(min(1.0, red(sample) / 30), note=f"red is {red(sample)}")


async def shout(ask):
    return ask.current + "!"


def run(
    engine, prompts, *, judge=by_red, critic=wants_thirty, writer=shout, painter=None, seeds=None, **settings
):
    rewards = {"red": toy(judge, "red")}
    selection = Selection(engine, rewards, Recipe(weights={"red": 1.0}))
    samples = [Sample(id=str(i), prompt=prompt) for i, prompt in enumerate(prompts)]
    return refine(
        painter or Painter(),
        samples,
        list(range(len(prompts))) if seeds is None else seeds,
        selection,
        {"critic": Critic(toy(critic, "critic"))},
        writer,
        Refinement(**settings),
    )


def test_it_goes_on_until_no_critic_complains(engine):
    painter = Painter()
    loud, quiet = run(engine, ["a dog!!", "a cat"], painter=painter, rounds=9)
    assert [a.prompt for a in loud.attempts] == ["a dog!!", "a dog!!!"]
    assert [a.prompt for a in quiet.attempts] == ["a cat", "a cat!", "a cat!!", "a cat!!!"]
    assert loud.stopped == quiet.stopped == "no critic complains"
    assert quiet.best is quiet.attempts[3] and quiet.best.total.value == pytest.approx(0.3)
    assert painter.drawn == [[0, 1], [1, 2], [3], [4]]  # one batch a round, of those still at work
    assert quiet.forwards == 4 * 3 * 2


def test_pictures_are_judged_against_the_original_prompt(engine):
    seen = []

    async def judge(sample):
        seen.append(sample.prompt)
        return Score(red(sample) / 100)

    (history,) = run(engine, ["a cat"], judge=judge, rounds=3)
    assert seen == ["a cat"] * 3
    assert [a.sample.prompt for a in history.attempts] == ["a cat"] * 3


def test_the_writer_is_given_the_original_prompt_and_the_critique(engine):
    asked = []

    async def write(ask):
        asked.append(ask)
        return ask.current + "!"

    run(engine, ["a cat"], writer=write, rounds=3)
    assert [ask.original for ask in asked] == ["a cat", "a cat"]
    assert [ask.current for ask in asked] == ["a cat", "a cat!"]
    assert [ask.critique.words for ask in asked] == ["red is 0", "red is 10"]
    assert asked[0].critique.complaints[0].dimension == "critic"


def test_the_best_picture_is_kept_even_if_later_ones_are_worse(engine):
    async def judge(sample):
        return Score({0: 0.5, 10: 0.9, 20: 0.1, 30: 0.2}[red(sample)])

    (history,) = run(engine, ["a cat"], judge=judge, rounds=4, patience=None)
    assert history.best is history.attempts[1] and len(history.attempts) == 4


def test_patience_gives_up(engine):
    async def judge(sample):
        return Score(1 - red(sample) / 100)

    (history,) = run(engine, ["a cat"], judge=judge, rounds=9, patience=2)
    assert len(history.attempts) == 3 and history.stopped == "no better picture in 2 rounds"


def test_rounds_end(engine):
    (history,) = run(engine, ["a cat"], rounds=2)
    assert len(history.attempts) == 2 and history.stopped == "2 rounds are over"
    assert history.attempts[0].revision.prompt == "a cat!" and history.attempts[1].revision is None


@pytest.mark.parametrize(("settings", "pictures"), [({"pictures": 3}, 3), ({"forwards": 19}, 3), ({}, 4)])
def test_budgets_are_kept_to_the_picture(engine, settings, pictures):
    (history,) = run(engine, ["a cat"], critic=never_content, rounds=2, width=2, **settings)
    assert len(history.attempts) == pictures and history.forwards == 6 * pictures
    assert history.stopped == "2 rounds are over"


async def never_content(sample):
    return Score(0.0)


def test_a_spent_budget_is_the_reason(engine):
    (history,) = run(engine, ["a cat"], critic=never_content, rounds=9, pictures=2, patience=None)
    assert history.stopped == "the budget is spent" and len(history.attempts) == 2


def test_the_best_of_a_round_is_criticised(engine):
    async def judge(sample):
        return Score(1 - abs(green(sample) - 6) / 100)

    (history,) = run(engine, ["a cat"], judge=judge, rounds=2, width=3, seeds=[4])
    assert [a.seed for a in history.attempts] == [4, 5, 6, 7, 8, 9]
    assert [a.critique is not None for a in history.attempts] == [False, False, True, True, False, False]


def test_a_failed_critique_costs_its_row_a_revision_only(engine):
    async def flaky(sample):
        if sample.prompt == "a cat":
            raise Unscorable("no words", "unparsable")
        return await wants_thirty(sample)

    cat, dog = run(engine, ["a cat", "a dog"], critic=flaky, rounds=3)
    assert [a.prompt for a in dog.attempts] == ["a dog", "a dog!", "a dog!!"]
    assert [a.prompt for a in cat.attempts] == ["a cat"] * 3
    assert cat.attempts[0].revision.status == "missing"
    assert "critic: no words" in cat.attempts[0].revision.note
    assert [a.seed for a in cat.attempts] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "status"), [("", "unparsable"), ("x" * 700, "out_of_range"), ("a bird", "out_of_range")]
)
def test_a_failed_revision_keeps_the_last_good_prompt(engine, text, status):
    async def write(ask):
        if "dog" in ask.original and "!" in ask.current:
            return text
        return ask.current + "!"

    dog, cat = run(engine, ["a dog", "a cat"], writer=write, rounds=4, patience=None)
    assert [a.prompt for a in dog.attempts] == ["a dog", "a dog!", "a dog!", "a dog!"]
    assert [a.revision.status for a in dog.attempts[:3]] == ["ok", status, status]
    assert [a.prompt for a in cat.attempts] == ["a cat", "a cat!", "a cat!!", "a cat!!!"]


def test_a_writer_that_crashes_is_an_error_of_its_row(engine):
    async def write(ask):
        if "dog" in ask.original:
            raise KeyError("oops")
        return ask.current + "!"

    dog, cat = run(engine, ["a dog", "a cat"], writer=write, rounds=2)
    assert dog.attempts[0].revision.status == "error" and "oops" in dog.attempts[0].revision.note
    assert cat.attempts[1].prompt == "a cat!"


def test_a_picture_without_a_score_is_never_the_best(engine):
    async def judge(sample):
        if red(sample) == 20 or sample.prompt == "a dog":
            raise Unscorable("blind", "error")
        return Score(red(sample) / 100)

    cat, dog = run(engine, ["a cat", "a dog"], judge=judge, critic=never_content, rounds=3, patience=None)
    assert cat.best is cat.attempts[1] and not cat.attempts[2].total.ok
    assert dog.best is None and len(dog.attempts) == 3
    assert dog.attempts[2].critique is not None


def test_without_new_noise_only_the_prompt_changes(engine):
    (history,) = run(engine, ["a cat"], reseed=False, rounds=3)
    assert [a.seed for a in history.attempts] == [0, 0, 0]

    async def mute(ask):
        raise Unscorable("nothing to say", "na")

    (stuck,) = run(engine, ["a cat"], writer=mute, reseed=False, rounds=3)
    assert len(stuck.attempts) == 1 and stuck.stopped == "nothing left to change: nothing to say"


def test_without_a_writer_it_draws_again(engine):
    (history,) = run(engine, ["a cat"], writer=None, rounds=3)
    assert [a.prompt for a in history.attempts] == ["a cat"] * 3
    assert [a.seed for a in history.attempts] == [0, 1, 2]


def test_together_as_one_by_one(engine):
    prompts = ["a cat", "a dog!!", "a bird!"]
    together = run(engine, prompts, rounds=5)
    for index, prompt in enumerate(prompts):
        (alone,) = run(engine, [prompt], seeds=[index], rounds=5)
        assert [(a.prompt, a.seed, a.total) for a in alone.attempts] == [
            (a.prompt, a.seed, a.total) for a in together[index].attempts
        ]
        assert alone.stopped == together[index].stopped


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds must be at least 1, not 0"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"keep_words": 1.5}, "keep_words is a share"),
        ({"forwards": 5}, "forwards 5 does not pay for one picture, which takes 6"),
        ({"writer": None, "reseed": False}, "set reseed"),
        ({"seeds": [1, 2]}, "1 samples but 2 seeds"),
    ],
)
def test_what_cannot_work_is_refused(engine, settings, message):
    with pytest.raises(ValueError, match=message):
        run(engine, ["a cat"], **settings)


def test_a_selection_that_compares_is_refused(engine):
    selection = Selection(
        engine, {"red": toy(by_red, "red")}, Recipe(weights={"red": 1.0}, normalise="group")
    )
    critics = {"critic": Critic(toy(wants_thirty, "critic"))}
    with pytest.raises(ValueError, match="group z-scores differ by round"):
        refine(Painter(), [Sample(prompt="a")], [0], selection, critics)
    with pytest.raises(ValueError, match="no critics"):
        refine(Painter(), [Sample(prompt="a")], [0], selection, {})


def test_on_mini_flow_the_oracle_agrees_that_it_got_better(engine):
    captions = [caption for caption in flow.held_out(40, seed=5) if caption.total > 2][:8]
    samples = [
        Sample(
            id=str(index),
            prompt=str(caption),
            meta={"checklist": [{"question": q, "answer": a} for q, a in tasks.checklist(caption)]},
        )
        for index, caption in enumerate(captions)
    ]
    answers = load("checklist", judge="mini-vlm", soft=True)
    selection = Selection(engine, {"checklist": answers}, Recipe(weights={"checklist": 1.0}))
    critics = {"answers": Critic(load("checklist", judge="mini-vlm"))}
    settings = Refinement(rounds=3, steps=6)
    seeds = [100 * index for index in range(len(samples))]
    histories = refine(MiniFlow(), samples, seeds, selection, critics, emphasise(), settings)
    first = [history.attempts[0].sample for history in histories]
    best = [history.best.sample for history in histories]
    f1 = {
        name: np.mean([score.value for score in engine.score(shots, {"oracle": load("oracle")})["oracle"]])
        for name, shots in {"first": first, "best": best}.items()
    }
    assert f1["best"] > f1["first"] + 0.02, f1
    assert any(a.revision is not None and a.revision.status == "ok" for h in histories for a in h.attempts)
