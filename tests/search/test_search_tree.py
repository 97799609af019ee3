import math

import numpy as np
import pytest
from support.search_toys import Bits, Walk, rewarding

from mmreward.search.tree import Policy, Tree, tree_search

TABLE = (0.0, 1.2, 0.3, -1.0)
table = rewarding(lambda number: TABLE[number])


def law(found):
    probabilities = np.zeros(len(TABLE))
    np.add.at(probabilities, found.latents.numpy(), np.exp(found.log_weights))
    return probabilities


def test_sampling_converges_to_the_tilted_distribution():
    bits = Bits(steps=1, prompts=12)
    base, target = bits.probabilities(), bits.probabilities() * np.exp(TABLE)
    target /= target.sum()
    found = tree_search(bits, table, forwards=40, mode="sample", strength=1.0, widen=1.0)
    distance = np.abs(np.mean([law(one) for one in found], axis=0) - target).sum() / 2
    assert distance < 0.05 < np.abs(base - target).sum() / 8


def test_values_are_soft_means_over_children():
    tree = Tree(2, (True, True), Policy(2.0, "sample", 0.0, 1.0, 0.5), np.random.default_rng(0))
    left, right = tree.root.grow(None), tree.root.grow(None)
    first, second, third = left.grow(None), left.grow(None), right.grow(None)
    first.visits = 50  # visits do not weigh
    for leaf, reward in ((first.grow(None), 0.5), (second.grow(None), -0.1)):
        leaf.level = 2
        tree.back_up(leaf, reward)
    mean = (math.exp(1.0) + math.exp(-0.2)) / 2
    assert left.log_value == pytest.approx(math.log(mean))
    assert right.log_value is None
    assert tree.root.log_value == left.log_value
    tree.back_up(third, 0.3)
    assert tree.root.log_value == pytest.approx(math.log((mean + math.exp(0.6)) / 2))


def test_search_finds_better_samples_than_drawing_them():
    drawn = tree_search(Walk(steps=6, prompts=40), rewarding(float), forwards=120, widen=1e9, seed=1)
    searched = tree_search(Walk(steps=6, prompts=40), rewarding(float), forwards=120, seed=1)
    gain = np.mean([max(a.media) - max(b.media) for a, b in zip(searched, drawn, strict=True)])
    assert all(one.details["rollouts"] == 20 for one in drawn)  # a root that always widens is best-of-20
    assert gain > 0.4


@pytest.mark.parametrize("mode", ["sample", "search"])
@pytest.mark.parametrize("parallel", [1, 4])
def test_budget_is_kept_and_states_are_shared(mode, parallel):
    walk = Walk(steps=6, prompts=2, forwards=2)
    for found in tree_search(walk, rewarding(float), forwards=97, mode=mode, parallel=parallel):
        assert found.spent.forwards <= 97
        assert found.spent.decodes == found.spent.calls == len(found.scores)
        assert found.details["rollouts"] > 97 // 12
        assert np.exp(found.log_weights).sum() == pytest.approx(1)
    assert sum(walk.asked) <= 97


def test_a_tree_does_not_depend_on_its_neighbours():
    alone, together = (tree_search(Walk(prompts=p), rewarding(float), forwards=60)[0] for p in (1, 3))
    assert alone.media == together.media


def test_a_step_that_is_not_random_has_one_child():
    class LastIsNot(Walk):
        def branches(self, i):
            return i < self.steps - 1

        def step(self, states, predicted, i, seeds):
            return super().step(states, predicted, i, seeds) if self.branches(i) else predicted

    (found,) = tree_search(LastIsNot(steps=3), rewarding(float), forwards=60)
    assert len(set(found.media)) == len(found.media)


def test_failed_samples_have_no_value():
    (found,) = tree_search(
        Walk(), rewarding(float, lambda x: x > 0), forwards=200, mode="sample", strength=3.0
    )
    assert found.details["failed"] > 0
    weights = np.exp(found.log_weights)
    assert weights[[not score.ok for score in found.scores]].sum() == 0
    assert found.media[found.best] <= 0
    (nothing,) = tree_search(Walk(), rewarding(float, lambda x: True), forwards=20)
    assert nothing.best is None
    assert nothing.draw(0) is None


def test_enormous_rewards_do_not_overflow():
    (found,) = tree_search(Walk(), rewarding(lambda x: 500 + x), forwards=100, strength=50.0, mode="sample")
    assert np.exp(found.log_weights).sum() == pytest.approx(1)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="7 network evaluations do not pay for one sample, which takes 8"):
        tree_search(Walk(steps=8), table, forwards=7)
    for wrong, message in (
        ({"mode": "uct"}, "mode is sample or search"),
        ({"strength": 0}, "strength must be positive"),
        ({"power": 2}, "power in"),
        ({"parallel": 0}, "parallel"),
    ):
        with pytest.raises(ValueError, match=message):
            tree_search(Walk(), table, forwards=20, **wrong)
