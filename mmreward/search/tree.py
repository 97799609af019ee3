"""Diffusion tree sampling and search: trajectories share beginnings, rewards decide which are continued.

Source: Jain et al. 2025 (arXiv:2506.20701). Only finished samples are scored, so nothing depends on how well
a reward judges x0_hat.

A node is a state; its children were drawn independently from the same step. Its value is
V = (1/l) ln E[exp(l r)] over the samples below it, l the strength, kept as `log_value` = l V. `Node`,
`Policy` and `Tree` know no sampler and no reward; `tree_search` grows the trees of all prompts together.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from ..types import Score
from .job import RewardFn
from .particles import Counted, Floats, Particles, logsumexp, normalised
from .sampler import WALKS, Rows, Sampler, derive

ROOT = -1
"""Level of the root, whose children are states 0."""


@dataclass(slots=True, eq=False)
class Node:
    """A state of a trajectory; the root has none."""

    level: int
    state: torch.Tensor | None = None
    parent: "Node | None" = None
    children: "list[Node]" = field(default_factory=list)
    valued: "list[Node]" = field(default_factory=list)
    """The children that have a value."""
    visits: int = 0
    log_value: float | None = None
    """l V; None while no sample below it has a score."""
    predicted: torch.Tensor | None = None
    """Output of the network for the state; computed once, whatever grows from it."""

    def grow(self, state: torch.Tensor) -> "Node":
        """A new child in this state."""
        child = Node(self.level + 1, state, self, visits=1)
        self.children.append(child)
        return child

    def set_value(self, log_value: float) -> None:
        """Give the node a value, or a new one; its parent lists it from the first on."""
        if self.log_value is None and self.parent is not None:
            self.parent.valued.append(self)
        self.log_value = log_value


class Policy(NamedTuple):
    """Rules of the walk down a tree.

    Args:
        strength: l.
        mode: "sample" draws a child in proportion to exp(l V) (DTS); "search" takes the largest
            V + explore * sqrt(ln(visits of the node) / visits of the child) (DTS*).
        explore: only for "search".
        widen, power: a node may have widen * visits ** power children.
    """

    strength: float
    mode: Literal["sample", "search"]
    explore: float
    widen: float
    power: float


class Tree:
    """The tree of one prompt.

    Args:
        steps: level of finished samples.
        branches: for each step, True when it is random; a node before a step that is not has one child.
        policy: rules of the walk.
        rng: what "sample" draws with.
    """

    def __init__(
        self, steps: int, branches: tuple[bool, ...], policy: Policy, rng: np.random.Generator
    ) -> None:
        self.root = Node(ROOT)
        self._steps, self._branches, self._policy, self._rng = steps, branches, policy, rng

    def select(self) -> Node:
        """Walk down to the first node that wants another child, counting the visit of every node passed.

        A walk that ends at a finished sample costs nothing and is followed by another one: its visits widen
        the nodes it passed.
        """
        while True:
            node = self.root
            node.visits += 1
            while node.level < self._steps and not self._wants_child(node):
                node = self._chosen(node)
                node.visits += 1
            if node.level < self._steps:
                return node

    def back_up(self, leaf: Node, reward: float) -> None:
        """Set a finished sample's value and renew those above it.

        The mean is over children, not over visits: children are independent draws, whereas visits crowd where
        values are high and would make them look higher still.
        """
        # Soft Bellman backup: exp(l V) of a state is the expectation of exp(l V) over the next state, so a
        # node takes the average over its children, which are draws of the next state. In logs:
        # l V = logsumexp over children of l V_c, less ln(number of children). Every ancestor is computed anew
        # from all of its children, since one of them has changed.
        leaf.set_value(self._policy.strength * reward)
        node = leaf.parent
        while node is not None:
            values = _log_values(node.valued)
            node.set_value(logsumexp(values) - math.log(len(values)))
            node = node.parent

    def draws(self) -> Iterator[tuple[Node, float]]:
        """Every finished sample that has a value, and the log probability that a walk down ends there.

        At every node the walk takes a child in proportion to exp(l V); so it draws from the tilted
        distribution, as well as the tree knows it.
        """
        stack = [(self.root, 0.0)]
        while stack:
            node, log_weight = stack.pop()
            if node.level == self._steps:
                yield node, log_weight
            elif node.valued:
                shares = normalised(_log_values(node.valued)) + log_weight
                stack.extend(zip(node.valued, shares, strict=True))

    def _wants_child(self, node: Node) -> bool:
        if not node.valued:
            return True
        # Progressive widening: states are continuous, so the same child never comes up twice, and a node that
        # always took a new one would never be walked through. Its children may grow as a power of its visits.
        branches = node.level == ROOT or self._branches[node.level]
        return branches and len(node.children) < self._policy.widen * node.visits**self._policy.power

    def _chosen(self, node: Node) -> Node:
        children, log_values = node.valued, _log_values(node.valued)
        if self._policy.mode == "sample":
            gumbel = self._rng.gumbel(size=len(children))  # the largest sum is a draw from the softmax
            return children[int((log_values + gumbel).argmax())]
        # UCT: the value, plus a bonus that a child earns while its siblings are visited. It is in units of
        # the reward, hence V and not l V. There is no prior as in pUCT: children are drawn from the model,
        # which weighs them already.
        visits = np.array([child.visits for child in children])
        bonus = self._policy.explore * np.sqrt(np.log(node.visits) / visits)
        return children[int((log_values / self._policy.strength + bonus).argmax())]


def _log_values(nodes: list[Node]) -> Floats:
    return np.array([node.log_value for node in nodes], dtype=np.float64)


def tree_search(
    sampler: Sampler,
    reward: RewardFn,
    *,
    forwards: int,
    mode: Literal["sample", "search"] = "search",
    strength: float = 10.0,
    explore: float = 0.1,
    widen: float = 1.0,
    power: float = 0.5,
    parallel: int = 1,
    seed: int = 0,
    batch: int = 64,
) -> list[Particles]:
    """Grow one tree per prompt, all prompts in the same batches.

    A round walks down from the root (see `tree.Policy`), adds a child where the walk ends, rolls it out to a
    finished sample with every state on the way kept as a node, scores it and renews the values above. The
    network's output for a node is kept, so a rollout from level i costs steps - i - 1 evaluations per row.

    Every state and every prediction of the tree stays on the device.

    `Particles.best` is the best sample in the tree; `Particles.draw` walks down once more, which draws from
    p(x) exp(strength * r(x)) in the limit of many rollouts. A rollout whose score failed is in `Particles`
    with its failure, has no value, and is never walked to. `details` has "rollouts", "nodes" and "failed".

    Args:
        sampler: its steps must be random.
        reward: see `RewardFn`; scores finished samples only.
        forwards: network evaluations per prompt; never exceeded.
        mode: "sample" is DTS, "search" DTS*.
        strength: inverse temperature of the values.
        explore: weight of rarely visited children in "search", in units of the reward.
        widen, power: a node visited n times may have widen * n ** power children.
        parallel: rollouts per round and prompt. 1 is the method; more fill batches better, and the later ones
            of a round are chosen without knowing the scores of the earlier.
        seed: of everything random.
        batch: rows per call of the network.

    Raises:
        ValueError: a budget below one rollout, or an argument out of its range.
    """
    if forwards < sampler.steps * sampler.forwards:
        raise ValueError(
            f"{forwards} network evaluations do not pay for one sample, which takes"
            f" {sampler.steps * sampler.forwards}"
        )
    policy = _policy(mode, strength, explore, widen, power)
    if parallel < 1:
        raise ValueError(f"parallel must be at least 1, not {parallel}")
    forest = _Forest(Counted(sampler, batch), reward, policy, seed)
    while forest.round(forwards, parallel):
        pass
    return [forest.particles(prompt) for prompt in range(sampler.prompts)]


class _Forest:
    """The trees of all prompts, grown together."""

    def __init__(self, run: Counted, reward: RewardFn, policy: Policy, seed: int) -> None:
        self._run, self._reward, self._seed = run, reward, seed
        sampler = run.sampler
        branches = tuple(sampler.branches(i) for i in range(sampler.steps))
        self._trees = [
            Tree(sampler.steps, branches, policy, np.random.default_rng(derive(seed, prompt, WALKS)))
            for prompt in range(sampler.prompts)
        ]
        self._leaves: list[list[tuple[Node, Any, Score]]] = [[] for _ in self._trees]
        self._growing = set(range(len(self._trees)))

    def round(self, forwards: int, parallel: int) -> bool:
        """One rollout per tree (or `parallel`) as far as the budget goes; False when no tree has any left."""
        chosen: list[Node] = []
        prompts: list[int] = []
        for prompt in sorted(self._growing):
            left = forwards - self._run.spent(prompt).forwards
            for _ in range(parallel):
                node = self._trees[prompt].select()
                left -= self._run.sampler.forwards * (self._run.sampler.steps - node.level - 1)
                if left < 0:
                    self._growing.discard(prompt)
                    break
                chosen.append(node)
                prompts.append(prompt)
        if chosen:
            self._score(self._roll_out(chosen, np.array(prompts)), np.array(prompts))
        return bool(self._growing)

    def particles(self, prompt: int) -> Particles:
        """The finished samples of one tree."""
        leaves = self._leaves[prompt]
        log_weights = {id(node): log_weight for node, log_weight in self._trees[prompt].draws()}
        return Particles(
            latents=torch.stack([_state(node) for node, _, _ in leaves]),
            media=[one for _, one, _ in leaves],
            scores=[score for _, _, score in leaves],
            log_weights=normalised(np.array([log_weights.get(id(node), -np.inf) for node, _, _ in leaves])),
            spent=self._run.spent(prompt),
            details={
                "rollouts": float(len(leaves)),
                "nodes": float(_size(self._trees[prompt].root)),
                "failed": float(sum(not score.ok for _, _, score in leaves)),
            },
        )

    def _roll_out(self, fronts: Sequence[Node], prompts: Rows) -> list[Node]:
        """From each node a chain of new ones down to a finished sample; equal levels share a batch."""
        fronts = list(fronts)
        order = np.array([len(self._leaves[p]) for p in prompts]) + _repeats(prompts)
        sampler = self._run.sampler
        for level in range(ROOT, sampler.steps):
            rows = np.array([k for k, node in enumerate(fronts) if node.level == level], dtype=np.int64)
            if not len(rows):
                continue
            seeds = derive(self._seed, prompts[rows], order[rows], level + 1)
            parents = [fronts[k] for k in rows]
            if level == ROOT:
                states = sampler.start(seeds)
            else:
                predicted = self._predicted(parents, level, prompts[rows])
                states = sampler.step(torch.stack([_state(p) for p in parents]), predicted, level, seeds)
            for k, parent, state in zip(rows, parents, states, strict=True):
                fronts[k] = parent.grow(state)
        return fronts

    def _predicted(self, nodes: Sequence[Node], level: int, prompts: Rows) -> torch.Tensor:
        fresh = [k for k, node in enumerate(nodes) if node.predicted is None]
        if fresh:
            states = torch.stack([_state(nodes[k]) for k in fresh])
            for k, one in zip(fresh, self._run.predict(states, level, prompts[fresh]), strict=True):
                nodes[k].predicted = one
        return torch.stack([node.predicted for node in nodes if node.predicted is not None])

    def _score(self, leaves: Sequence[Node], prompts: Rows) -> None:
        media = self._run.decode(torch.stack([_state(leaf) for leaf in leaves]), prompts)
        scores = self._run.score(self._reward, media, prompts)
        for leaf, prompt, one, score in zip(leaves, prompts, media, scores, strict=True):
            self._leaves[prompt].append((leaf, one, score))
            if score.ok:
                self._trees[prompt].back_up(leaf, score.value)


def _policy(mode: str, strength: float, explore: float, widen: float, power: float) -> Policy:
    if mode not in ("sample", "search"):
        raise ValueError(f"mode is sample or search, not {mode!r}")
    if strength <= 0:
        raise ValueError(f"strength must be positive, not {strength}: values are (1/strength) ln E[exp(...)]")
    if widen <= 0 or not 0 < power <= 1:
        raise ValueError(f"widen must be positive and power in (0, 1], not {widen} and {power}")
    return Policy(strength, "sample" if mode == "sample" else "search", explore, widen, power)


def _state(node: Node) -> torch.Tensor:
    assert node.state is not None, "the root has no state"
    return node.state


def _repeats(prompts: Rows) -> Rows:
    """How often each entry has occurred before it; equal entries lie next to each other."""
    return np.arange(len(prompts)) - np.searchsorted(prompts, prompts)


def _size(root: Node) -> int:
    stack, number = [root], 0
    while stack:
        number += 1
        stack.extend(stack.pop().children)
    return number - 1  # the root is no state
