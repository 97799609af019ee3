"""A tree of partial trajectories with soft values. Knows no sampler and no reward.

A node is a state; its children were drawn independently from the same step. Its value is V = (1/l) ln E[exp(l
r)] over the samples below it, l the strength, kept as `log_value` = l V.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch

from .weights import Floats, logsumexp, normalised

ROOT = -1
"""Level of the root, whose children are states 0."""


@dataclass(slots=True, eq=False)
class Node:
    """A state of a trajectory; the root has none."""

    level: int
    state: torch.Tensor | None = None
    parent: "Node | None" = None
    children: "list[Node]" = field(default_factory=list)
    known: "list[Node]" = field(default_factory=list)
    """The children that have a value."""
    visits: int = 0
    log_value: float | None = None
    """None while no score below it is known."""
    predicted: torch.Tensor | None = None
    """What the network said about the state; asked once, whatever grows from it."""

    def grow(self, state: torch.Tensor) -> "Node":
        child = Node(self.level + 1, state, self, visits=1)
        self.children.append(child)
        return child

    def set_value(self, log_value: float) -> None:
        if self.log_value is None and self.parent is not None:
            self.parent.known.append(self)
        self.log_value = log_value


class Policy(NamedTuple):
    """How a tree is walked.

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
        branches: for each step whether it is random; a node before a step that is not has one child.
        policy: how it is walked.
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
        leaf.set_value(self._policy.strength * reward)
        node = leaf.parent
        while node is not None:
            values = _log_values(node.known)
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
            elif known := node.known:
                shares = normalised(_log_values(known))
                stack.extend((child, log_weight + share) for child, share in zip(known, shares, strict=True))

    def _wants_child(self, node: Node) -> bool:
        if not node.known:
            return True
        branches = node.level == ROOT or self._branches[node.level]
        return branches and len(node.children) < self._policy.widen * node.visits**self._policy.power

    def _chosen(self, node: Node) -> Node:
        known, log_values = node.known, _log_values(node.known)
        if self._policy.mode == "sample":
            gumbel = self._rng.gumbel(size=len(known))  # the largest sum is a draw from the softmax
            return known[int((log_values + gumbel).argmax())]
        visits = np.array([child.visits for child in known])
        bonus = self._policy.explore * np.sqrt(np.log(node.visits) / visits)
        return known[int((log_values / self._policy.strength + bonus).argmax())]


def _log_values(nodes: list[Node]) -> Floats:
    return np.array([node.log_value for node in nodes], dtype=np.float64)
