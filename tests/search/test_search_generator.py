import itertools

import numpy as np
import pytest
import torch

from mmreward import Sample, load
from mmreward.compose import Recipe, weights_of
from mmreward.generators.mini_flow import MiniFlow
from mmreward.mini import flow, tasks
from mmreward.sampling import sample
from mmreward.search.best_of_n import best_of_n
from mmreward.search.fk import fk_steering
from mmreward.search.guided import PixelTerm, RewardGuided
from mmreward.search.job import Selection
from mmreward.search.sampler import generator_sampler
from mmreward.search.tree import tree_search
from mmreward.tune.kernels import kernel

CAPTIONS = flow.held_out(3, seed=5)
PROMPTS = [str(caption) for caption in CAPTIONS]
STEPS = 4


@pytest.fixture(scope="module")
def generator():
    return MiniFlow()


@pytest.fixture
def reward(engine):
    checks = [[{"question": q, "answer": a} for q, a in tasks.checklist(caption)] for caption in CAPTIONS]
    samples = [
        Sample(id=str(k), prompt=prompt, meta={"checklist": check})
        for k, (prompt, check) in enumerate(zip(PROMPTS, checks, strict=True))
    ]
    return selection(engine, load("checklist", judge="mini-vlm", soft=True)).reward_fn(samples)


def selection(engine, *rewards, **weights):
    named = dict(zip(weights or ("reward",), rewards, strict=True))
    return Selection(engine, named, Recipe(weights=weights or weights_of(named, {})))


def test_an_ode_gives_what_plain_sampling_gives(generator):
    sampler = generator_sampler(generator, generator.encode(PROMPTS), STEPS, kernel="ode")
    states, rows = sampler.start(np.array([3, 1, 2])), np.arange(3)
    for i in range(STEPS):
        states = sampler.step(states, sampler.predict(states, i, rows), i, np.array([7, 8, 9]))
    torch.testing.assert_close(
        generator.decode(states).detach(), sample(generator, PROMPTS, [3, 1, 2], STEPS), atol=1e-5, rtol=0
    )


def test_clean_is_where_the_step_leads_and_the_last_step_of_cps_is_not_random(generator):
    sampler = generator_sampler(generator, generator.encode(PROMPTS), STEPS, kernel=kernel("cps", eta=0.8))
    assert [sampler.branches(i) for i in range(STEPS)] == [True] * (STEPS - 1) + [False]
    states, rows = sampler.start(np.array([3, 1, 2])), np.arange(3)
    predicted = sampler.predict(states, STEPS - 1, rows)
    torch.testing.assert_close(
        sampler.step(states, predicted, STEPS - 1, rows), sampler.clean(states, predicted, STEPS - 1)
    )


def test_network_evaluations_are_forwards_per_row(generator):
    rows = []
    handle = generator.network.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    for guidance, forwards in ((1.0, 1), (2.0, 2)):
        sampler = generator_sampler(generator, generator.encode(PROMPTS[:2]), STEPS, guidance, "ode")
        rows.clear()
        found = best_of_n(sampler, lambda media, prompts: [load_one() for _ in media], n=3)
        assert sum(rows) == sum(one.spent.forwards for one in found) == 2 * 3 * STEPS * forwards
    handle.remove()


def load_one():
    from mmreward import Score

    return Score(1.0)


def test_every_search_runs_on_mini_flow(generator, reward):
    conditioning = generator.encode(PROMPTS)
    ode, cps = (generator_sampler(generator, conditioning, STEPS, kernel=name) for name in ("ode", "cps"))
    for found in itertools.chain(
        best_of_n(ode, reward, n=2),
        fk_steering(cps, reward, particles=2, checks=2),
        tree_search(cps, reward, forwards=20),
    ):
        assert found.scores[found.best].ok
        assert found.media[found.best].size == (flow.SIZE, flow.SIZE)
        assert found.spent.calls >= 2


def test_rewards_are_combined_negated_and_fail_by_row(engine):
    pictures = [np.zeros((8, 8, 3), dtype=np.uint8)]
    from mmreward import Media

    samples = [Sample(prompt="a red circle")]
    loaded = load("oracle")
    total = selection(engine, loaded, loaded, a=1.0, b=2.0).reward_fn(samples)
    assert total([Media(pictures[0])], np.array([0]))[0].value == 0
    failing = selection(engine, loaded).reward_fn([Sample(prompt="not a caption")])
    assert not failing([Media(pictures[0])], np.array([0]))[0].ok


def test_a_lower_is_better_reward_is_negated(engine):
    from support.toys import toy

    from mmreward import Media, Score

    async def darkness(sample):
        return Score(0.25)

    reward = selection(engine, toy(darkness, higher_is_better=False)).reward_fn([Sample(prompt="a")])
    assert reward([Media(np.zeros((4, 4, 3), np.uint8))], np.array([0]))[0].value == -0.25


def test_guidance_raises_the_reward_it_follows(generator):
    clip = load("clipscore", weights="mini-clip")
    guided = RewardGuided(generator, [PixelTerm(clip.score_tensor, 20.0)])
    plain, better = (sample(one, PROMPTS * 4, list(range(12)), 6) for one in (generator, guided))
    with torch.no_grad():
        gain = clip.score_tensor(better, PROMPTS * 4) - clip.score_tensor(plain, PROMPTS * 4)
    assert gain.mean() > 0.01
    assert guided.unguided == 0


def test_wrong_arguments_are_named(generator):
    with pytest.raises(ValueError, match="steps must be at least 1"):
        generator_sampler(generator, generator.encode(PROMPTS), 0)
    with pytest.raises(ValueError, match="no kernel"):
        generator_sampler(generator, generator.encode(PROMPTS), kernel="cpx")
    with pytest.raises(ValueError, match="no prompt"):
        generator_sampler(generator, generator.encode([]))
